"""Adapters that are served: PEFT folders read into LoRA pairs, and the switch that says which one a pass goes through.

Nothing of the model is changed or copied per adapter: hooks on its linear layers add the share of the current adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from safetensors.torch import load_file
from torch import Tensor, nn

from loops_sdk.local.engine.peft_folder import CONFIG_FILE, PREFIX, WEIGHTS_FILE
from loops_sdk.local.engine.torch_engine.heads import LowRank
from loops_sdk.local.engine.torch_engine.models import BaseModel

__all__ = ["BASE", "AdapterSwitch", "ServedAdapter", "read_adapter"]

_A, _B = ".lora_A.weight", ".lora_B.weight"
#: Settings of PEFT that change what LoRA computes; an adapter that uses one is refused.
_UNSUPPORTED = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "modules_to_save",
)


@attrs.frozen(eq=False)
class ServedAdapter:
    """LoRA pairs by the path of the layer they are put on. `name` is for messages."""

    name: str
    pairs: Mapping[str, LowRank]


#: The base model as it is.
BASE = ServedAdapter("the base model", {})


def read_adapter(name: str, folder: Path, base: BaseModel) -> ServedAdapter:
    """Read a PEFT folder.

    Raises:
        RuntimeError: no plain LoRA adapter, or not one for this base model. Names the setting or tensor.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_FILE)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except Exception as error:  # safetensors raises a class of its own that derives from Exception only
        raise RuntimeError(f"adapter {name!r}: {folder} cannot be read ({type(error).__name__}: {error})") from None
    for setting in _UNSUPPORTED:
        if config.get(setting):
            raise RuntimeError(f"adapter {name!r}: {setting} is not supported, only plain LoRA is")
    scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return ServedAdapter(name, dict(_pairs(name, tensors, scaling, base)))


def _pairs(name: str, tensors: Mapping[str, Tensor], scaling: float, base: BaseModel) -> Iterator[tuple[str, LowRank]]:
    for key in tensors:
        stem = key.removesuffix(_A).removesuffix(_B)
        if not key.startswith(PREFIX) or stem == key or not {stem + _A, stem + _B} <= tensors.keys():
            raise RuntimeError(f"adapter {name!r}: {key} is no part of a LoRA pair")
        if key.endswith(_A):
            path = stem.removeprefix(PREFIX)
            a, b = (tensors[stem + part].float().to(base.device) for part in (_A, _B))
            pair = LowRank(a, b, scaling)
            _require_fit(name, path, pair, base)
            yield path, pair


def _require_fit(name: str, path: str, pair: LowRank, base: BaseModel) -> None:
    if path not in base.linears.parts:
        raise RuntimeError(f"adapter {name!r}: {base.name} has no linear layer {path}")
    wanted = base.linears.sizes[path]
    if wanted != (pair.a.shape[1], pair.b.shape[0]) or pair.a.shape[0] != pair.b.shape[1]:
        shapes = f"{list(pair.a.shape)} and {list(pair.b.shape)}"
        raise RuntimeError(f"adapter {name!r}: {path} maps {wanted} in {base.name}, the pair has shapes {shapes}")


class AdapterSwitch:
    """Hooks on the linear layers of a model that add what the current adapter adds.

    Args:
        base: the model. The head is left to whoever computes logits.
    """

    def __init__(self, base: BaseModel) -> None:
        self._pairs: Mapping[str, LowRank] = BASE.pairs
        for path in base.linears.parts:
            if path != base.head.path:
                base.model.get_submodule(path).register_forward_hook(self._hook(path))

    def _hook(self, path: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            pair = self._pairs.get(path)
            return None if pair is None else pair.add_to(output, inputs[0]).to(output.dtype)

        return add

    @contextmanager
    def using(self, adapter: ServedAdapter) -> Iterator[None]:
        """Passes inside go through `adapter`."""
        self._pairs = adapter.pairs
        try:
            yield
        finally:
            self._pairs = BASE.pairs
