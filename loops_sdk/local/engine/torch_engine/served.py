"""Adapters that are served: PEFT folders read into LoRA pairs, and the switch that says which one a pass goes through.

Nothing of the model is changed or copied per adapter: hooks on its linear layers add the share of the current adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from safetensors.torch import load_file
from torch import Tensor, nn

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.peft_folder import WEIGHTS_FILE, Pair, PeftFolder
from loops_sdk.local.engine.torch_engine.heads import LowRank
from loops_sdk.local.engine.torch_engine.models import BaseModel

__all__ = ["BASE", "AdapterSwitch", "ServedAdapter", "read_adapter"]


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
        RuntimeError: no plain LoRA adapter, or not one for this base model. Names the setting, layer or tensor.
    """
    try:
        adapter = PeftFolder.read(folder)
        if adapter.peculiarities:
            raise InvalidInputError(f"only plain LoRA is supported, it has {', '.join(adapter.peculiarities)}")
        for layer, pair in adapter.pairs.items():
            _require_fit(layer, pair, base)
        tensors = load_file(folder / WEIGHTS_FILE)
    except Exception as error:  # safetensors raises a class of its own that derives from Exception only
        raise RuntimeError(f"{name!r} cannot be served: {error}") from error

    def low_rank(pair: Pair) -> LowRank:
        a, b = (tensors[key].float().to(base.device) for key in (pair.a, pair.b))
        return LowRank(a, b, adapter.scaling)

    return ServedAdapter(name, {layer: low_rank(pair) for layer, pair in adapter.pairs.items()})


def _require_fit(layer: str, pair: Pair, base: BaseModel) -> None:
    if layer not in base.linears.parts:
        raise InvalidInputError(f"{base.name} has no linear layer {layer}")
    wanted, given = base.linears.sizes[layer], (pair.inputs, pair.outputs)
    if wanted != given:
        raise InvalidInputError(
            f"{layer} of {base.name} maps {wanted[0]} to {wanted[1]}, the adapter's pair {given[0]} to {given[1]}"
        )


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
