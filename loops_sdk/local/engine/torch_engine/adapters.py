"""The adapter that is trained: PEFT's LoRA layers in float32 with an initialisation of our own, and its files on disk.

What a file holds is decided here; when it is written and who reads it is not.
"""

from __future__ import annotations

import json
import math
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.peft_folder import CONFIG_FILE, PREFIX, WEIGHTS_FILE
from loops_sdk.local.engine.protocol import AdapterConfig
from loops_sdk.local.engine.torch_engine.files import read_tensors, require_like, write_json, write_tensors
from loops_sdk.local.engine.torch_engine.heads import LowRank
from loops_sdk.local.engine.torch_engine.linears import Linears
from loops_sdk.local.engine.torch_engine.models import BaseModel

__all__ = ["TrainedAdapter"]

_NAME = "default"
_PARTS = ("lora_A", "lora_B")


class TrainedAdapter:
    """A LoRA adapter injected into a base model: A drawn, B zero, so that it starts as the identity.

    Args:
        base: the model, which gets the LoRA layers in place until `remove`.
        config: rank, alpha, seed and parts.

    Attributes:
        config: the configuration as PEFT writes it to ``adapter_config.json``.
        tensors: the trainable tensors under the names PEFT gives them in ``adapter_model.safetensors``, sorted.
    """

    def __init__(self, base: BaseModel, config: AdapterConfig) -> None:
        lora = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=0.0,
            target_modules=base.linears.targets(config),
            task_type="CAUSAL_LM",
            base_model_name_or_path=base.path,
        )
        self._linears = base.linears
        self._tuner = _inject(base, lora)
        self._layers = {path: m for path, m in base.model.named_modules() if isinstance(m, LoraLayer)}
        self.config: Mapping[str, Any] = _plain(lora)
        self.tensors: dict[str, nn.Parameter] = self._named_tensors()
        self._draw(secrets.randbits(63) if config.seed is None else config.seed)

    def _named_tensors(self) -> dict[str, nn.Parameter]:
        named: dict[str, nn.Parameter] = {}
        for path, layer in sorted(self._layers.items()):
            for part in _PARTS:
                linear: Any = getattr(layer, part)[_NAME]
                linear.weight = nn.Parameter(linear.weight.data.float())
                named[_key(path, part)] = linear.weight
        return named

    @torch.no_grad()
    def _draw(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in self.tensors.items():
            fresh = torch.zeros(tensor.shape)
            if name.endswith("lora_A.weight"):
                nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
            tensor.copy_(fresh)

    def pair(self, path: str) -> LowRank | None:
        """The LoRA pair on the layer at `path`, `None` if that layer is no target."""
        if path not in self._layers:
            return None
        layer: Any = self._layers[path]
        return LowRank(layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight, float(layer.scaling[_NAME]))

    def save(self, folder: Path) -> None:
        """Write a PEFT folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(self.tensors, folder / WEIGHTS_FILE)
        write_json(self.config, folder / CONFIG_FILE)

    def read(self, folder: Path) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """Configuration and tensors of an adapter in a PEFT folder: of this rank, with whatever alpha, on any parts.

        Raises:
            RuntimeError: it has another rank, does not fit the base model, or cannot be read. Says which tensor or
                setting.
        """
        try:
            saved = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            alpha = saved["lora_alpha"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"{folder} holds no adapter ({error})") from None
        for key in ("r", "use_rslora"):
            if saved.get(key) != self.config[key]:
                raise RuntimeError(
                    f"{folder} was saved with {key}={saved.get(key)}, this adapter has {self.config[key]}"
                )
        tensors = read_tensors(folder / WEIGHTS_FILE)
        config = _config(self.config["r"], alpha, self._linears.flags([_path(key) for key in tensors]), folder)
        require_like(folder / WEIGHTS_FILE, tensors, _shapes(self._linears, config))
        return config, tensors

    @torch.no_grad()
    def assign(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors that `read` gave, into an adapter of the configuration that it gave."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    def remove(self) -> None:
        """Take the LoRA layers out of the model again."""
        self._tuner.unload()


def _key(path: str, part: str) -> str:
    return f"{PREFIX}{path}.{part}.weight"


def _path(key: str) -> str:
    """Path of the layer that a tensor's name belongs to."""
    return key.removeprefix(PREFIX).rpartition(".lora_")[0]


def _config(rank: int, alpha: int, flags: Mapping[str, bool], folder: Path) -> AdapterConfig:
    try:
        return AdapterConfig(rank, alpha, **flags)
    except InvalidInputError as error:  # no known layer, or a scale that makes no sense
        raise RuntimeError(f"{folder} holds no adapter for this base model ({error.message})") from None


def _shapes(linears: Linears, config: AdapterConfig) -> dict[str, tuple[int, int]]:
    """What an adapter of this configuration consists of."""
    shapes: dict[str, tuple[int, int]] = {}
    for path in linears.chosen(config):
        inputs, outputs = linears.sizes[path]
        shapes |= {_key(path, "lora_A"): (config.lora_rank, inputs), _key(path, "lora_B"): (outputs, config.lora_rank)}
    return shapes


def _inject(base: BaseModel, lora: LoraConfig) -> LoraModel:
    """Put the layers in. PEFT draws initial values from the global generator, which must not be felt outside."""
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        return LoraModel(base.model, lora, _NAME)


def _plain(lora: LoraConfig) -> dict[str, Any]:
    """The configuration as JSON values, with the names PEFT writes."""
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in lora.to_dict().items()}  # type: ignore[no-untyped-call]
    plain: dict[str, Any] = json.loads(json.dumps(values | {"inference_mode": True}))
    return plain
