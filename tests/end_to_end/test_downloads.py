"""A checkpoint that leaves the deployment by the command is the adapter that the deployment samples from;
addresses that were changed or are too old lead nowhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp
import attrs
import pytest

import loops_sdk_sync
from loops_sdk import AdamParams, Datum, ServiceClient, TrainingClient
from loops_sdk.local import LocalStack

pytestmark = [
    # peft's advice for merging adapters of tied heads; nothing is merged here
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    # peft asks transformers for an attribute that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@attrs.frozen
class Published:
    """A run that has learned something and published it."""

    training: TrainingClient
    address: str


@pytest.fixture
async def published(deployment: Any, batch: list[Datum]) -> AsyncIterator[Published]:
    async with deployment.service() as service, deployment.run(service, rank=8, seed=7) as training:
        for _ in range(3):
            await training.forward_backward_async(batch)
            await (await training.optim_step_async(AdamParams(learning_rate=2e-3)))
        saved = await (await training.save_weights_for_sampler_async("step-3"))
        yield Published(training, saved.path)


@pytest.fixture
def loops(deployment: Any) -> Any:
    """The command in another terminal, with the two lines that `loops serve` printed."""
    env = {**os.environ, "LOOPS_BASE_URL": deployment.base_url, "BASETEN_API_KEY": deployment.api_key}

    async def run(*args: str) -> bytes:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "loops_sdk", *args)
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=env)
        out, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
        return out

    return run


async def test_a_file_is_sent_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server sends each file once; it once tried again after the end, and logged a traceback per file."""
    async with LocalStack() as stack, ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service:
        training = await service.create_lora_training_client_async("loops/tiny", rank=4)
        saved = await (await training.save_weights_for_sampler_async("first"))
        await service.download_checkpoint_async(saved.path, tmp_path / "adapter")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_peft_loads_what_was_downloaded(
    published: Published, loops: Any, reference: Any, batch: list[Datum], tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    out = await loops("checkpoints", "download", published.address, str(folder))
    assert out.decode().endswith(f" in {folder}\n")
    plain = reference(folder)  # PeftModel.from_pretrained
    sampler = await (await published.training.save_weights_and_get_sampling_client_async("same"))
    for datum in batch:
        tokens = datum.model_input.to_ints()
        expected = [pytest.approx(value, abs=1e-3) for value in plain.logprobs(tokens).tolist()]
        assert await sampler.compute_logprobs_async(tokens) == [None, *expected]
    assert any(bool(tensor.any()) for name, tensor in plain.weights().items() if "lora_B" in name)  # it is not fresh


async def test_what_was_merged_computes_what_the_sampler_does(
    published: Published, loops: Any, batch: list[Datum], tmp_path: Path
) -> None:
    """By the command, from the checkpoint, which changes the head as well; the base model is the one that it names."""
    import torch
    from transformers import AutoModelForCausalLM

    out = tmp_path / "merged"
    said = json.loads(await loops("checkpoints", "merge", published.address, str(out), "--dtype", "float32", "--json"))
    assert said["layers"] > 4
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    sampler = await (await published.training.save_weights_and_get_sampling_client_async("same"))
    for datum in batch:
        tokens = datum.model_input.to_ints()
        with torch.inference_mode():
            log_p = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, :-1], -1)
        values = log_p.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()
        expected = [pytest.approx(value, abs=1e-3) for value in values]
        assert await sampler.compute_logprobs_async(tokens) == [None, *expected]


async def test_what_was_downloaded_is_what_was_saved(
    deployment: Any, published: Published, loops: Any, tmp_path: Path
) -> None:
    state = await (await published.training.save_state_async("whole"))
    for address, kind in ((published.address, "sampler_weights"), (state.path, "weights")):
        folder = tmp_path / kind
        listed = json.loads(await loops("checkpoints", "download", address, str(folder), "--json"))["files"]
        name = address.rsplit("/", 1)[1]
        saved = deployment.data_dir / "runs" / str(published.training.run_id) / kind / name
        for path in map(Path, listed):
            assert path.read_bytes() == (saved / path.relative_to(folder)).read_bytes()
        tensors = [path for path in listed if path.endswith((".safetensors", ".pt"))]
        assert tensors, listed


async def test_an_altered_address_is_refused_and_no_key_helps(
    deployment: Any, published: Published, loops: Any
) -> None:
    files = json.loads(await loops("checkpoints", "files", published.address, "--json"))
    url = next(file["url"] for file in files if file["relative_file_name"] == "adapter_config.json")
    assert deployment.api_key not in url
    key = {"Authorization": f"Bearer {deployment.api_key}"}
    assert await _status(url, {}) == 200
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    later = {**query, "expires": str(int(query["expires"]) + 3600)}
    past = {**query, "expires": "1"}
    forged = {**query, "signature": query["signature"][::-1]}
    bare = {"expires": query["expires"]}
    for altered in (later, past, forged, bare, {}):
        refused = urlunsplit(parts._replace(query=urlencode(altered)))
        assert await _status(refused, {}) == 403, altered
        assert await _status(refused, key) == 403, altered
    elsewhere = parts._replace(path=parts.path.replace("adapter_config.json", "adapter_model.safetensors"))
    assert await _status(urlunsplit(elsewhere), key) == 403


async def test_an_expired_address_is_refused(deployment: Any, published: Published) -> None:
    """No address outlives its checkpoint; this one lives for seconds."""
    saved = await (await published.training.save_weights_for_sampler_async("brief", ttl_seconds=5))
    async with deployment.service() as service:
        page = await service.get_checkpoint_archive_url_async(saved.path)
    url = next(file.url for file in page.presigned_urls if file.relative_file_name == "adapter_config.json")
    assert await _status(url, {}) == 200
    async with asyncio.timeout(30):
        while True:
            async with aiohttp.request("GET", url) as response:
                status, said = response.status, await response.text()
            if status != 200:
                break
            await asyncio.sleep(0.2)
    assert status == 403
    assert "has expired" in said


async def _status(url: str, headers: dict[str, str]) -> int:
    async with aiohttp.request("GET", url, headers=headers) as response:
        return response.status


async def test_both_front_doors_download(deployment: Any, published: Published, tmp_path: Path) -> None:
    async with deployment.service() as service:
        (checkpoint,) = await service.list_checkpoints_async(published.training.run_id)
        paths = await service.download_checkpoint_async(checkpoint.id, tmp_path / "a")

    def blocking() -> list[Path]:
        with loops_sdk_sync.ServiceClient(base_url=deployment.base_url, api_key=deployment.api_key) as service:
            return service.download_checkpoint(published.address, tmp_path / "b")

    again = await asyncio.to_thread(blocking)
    assert sorted(path.name for path in paths) == sorted(path.name for path in again)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
