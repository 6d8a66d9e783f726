"""A deployment that `loops serve` started as a user would, and a plain torch + peft reference to compare it with."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

import loops_sdk
from loops_sdk import Datum, ModelInput, ServiceClient, TrainingClient

from ..served import serving

GGUF = os.environ.get("LOOPS_SMOLLM_GGUF")

TEXTS = (
    "What is 7 + 5? 12.",
    "The cat sat by the door and waited for the rain to stop.",
    "Monday comes before Tuesday.",
    "Once there was a small boat. It had a red sail, and it was called Anna. Every day it went to the island and back.",
)


@attrs.frozen
class Deployment:
    """Where a deployment listens, and where it keeps its checkpoints."""

    base_model: str
    base_url: str
    api_key: str
    data_dir: Path

    def service(self) -> ServiceClient:
        return ServiceClient(base_url=self.base_url, api_key=self.api_key)

    @asynccontextmanager
    async def run(self, service: ServiceClient, **options: Any) -> AsyncIterator[TrainingClient]:
        """A run that gives its processes back at the end."""
        made = await service.create_lora_training_client_async(self.base_model, **options)
        async with self.ending(made) as training:
            yield training

    @asynccontextmanager
    async def ending(self, training: TrainingClient) -> AsyncIterator[TrainingClient]:
        """Whatever made the run, it ends with the block."""
        try:
            yield training
        finally:
            headers = {"Authorization": f"Bearer {self.api_key}"}
            url = f"{self.base_url}/v1/loops/runs/{training.run_id}/deactivate"
            async with aiohttp.request("POST", url, headers=headers) as response:
                assert response.status == 200

    def folder(self, run_id: str | None, name: str) -> Path:
        return self.data_dir / "runs" / str(run_id) / "sampler_weights" / name


def serve(base_model: str, data_dir: Path) -> Iterator[Deployment]:
    """`loops serve` until the generator is closed."""
    with serving(data_dir, "--base-model", base_model) as server:
        yield Deployment(base_model, server.base_url, server.api_key, data_dir)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=15) == 0


SMOLLM = pytest.param(
    "smollm", marks=[pytest.mark.smollm, pytest.mark.skipif(GGUF is None, reason="LOOPS_SMOLLM_GGUF is not set")]
)


@pytest.fixture(scope="session", params=["loops/tiny", SMOLLM])
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    base_model = GGUF if request.param == "smollm" and GGUF is not None else request.param
    yield from serve(base_model, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def base(deployment: Deployment) -> Path:
    """The folder of the base model; of a GGUF file the one that the deployment converted it to."""
    if deployment.base_model.endswith(".gguf"):
        (config,) = deployment.data_dir.rglob("gguf/*/config.json")
        return config.parent
    return Path(loops_sdk.__file__).parent / "local" / "engine" / "tiny" / "weights"


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


class Reference:
    """The same arithmetic, written the plainest way: transformers, peft, one datum at a time, torch's own AdamW."""

    def __init__(self, base: Path, adapter: Path, dtype: str = "float32") -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.model: Any = PeftModel.from_pretrained(model, str(adapter), is_trainable=True).to(getattr(torch, dtype))
        self.model.eval()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def logits(self, tokens: Sequence[int]) -> Any:
        import torch

        return self.model(input_ids=torch.tensor([list(tokens)])).logits[0]

    def logprobs(self, tokens: Sequence[int]) -> Any:
        """``out[k] = log p(tokens[k + 1] | tokens[..k])``."""
        import torch

        with torch.no_grad():
            log_p = torch.log_softmax(self.logits(tokens), dim=-1)
        return log_p[:-1].gather(1, torch.tensor(list(tokens[1:])).unsqueeze(1)).squeeze(1)

    def forward_backward(self, datum: Datum) -> float:
        import torch

        targets = datum.loss_fn_inputs["target_tokens"].to_torch()
        logits = self.logits(datum.model_input.to_ints())
        loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        loss.backward()
        return float(loss.item())

    def step(self, **adam: Any) -> float:
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, float("inf")).item())
        torch.optim.AdamW(self.trained, **adam).step()
        return norm

    def weights(self) -> dict[str, Any]:
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: tensor.detach() for name, tensor in state.items()}


@pytest.fixture
def reference(base: Path) -> Any:
    return lambda adapter, dtype="float32": Reference(base, adapter, dtype)


@pytest.fixture(scope="session")
def batch(tokenizer: Any) -> list[Datum]:
    """Texts of unequal length, the first third of each kept out of the loss."""
    data = []
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        targets = tokens[1:]
        targets[: len(targets) // 3] = [-100] * (len(targets) // 3)
        data.append(Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": targets}))
    return data
