"""The linear layers of a transformer by where they sit: attention, MLP, unembedding. Knows names and shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import attrs
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.protocol import AdapterConfig

__all__ = ["Linears", "Part", "head_path", "sizes"]

Part = Literal["attn", "mlp", "unembed"]

#: Parts of a module's path that mark attention; within the layers of a decoder every other projection is the MLP's.
_ATTENTION = ("attn", "attention")
#: Layers that choose experts; an adapter on them changes the routing, which none of the three flags means.
_ROUTERS = ("gate", "router", "shared_expert_gate")


def sizes(module: nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer (also GPT-2's transposed one), `None` for any other module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


def head_path(model: PreTrainedModel) -> str:
    """Path of the layer that scores the vocabulary.

    Raises:
        InvalidInputError: the model has none, or it is no linear layer.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for path, module in model.named_modules():
        if module is head and sizes(module) is not None:
            return str(path)
    raise InvalidInputError(f"base_model: {type(model).__name__} has no linear layer that scores the vocabulary")


def _part(path: str, head: str) -> Part | None:
    """Of a linear layer. Layers outside the repeated blocks (say, of embeddings) and routers are none of the three."""
    if path == head:
        return "unembed"
    names = path.split(".")
    if names[-1] in _ROUTERS or not any(name.isdigit() for name in names):
        return None
    return "attn" if any(mark in name for name in names for mark in _ATTENTION) else "mlp"


@attrs.frozen
class Linears:
    """The linear layers that an adapter can be put on, as they were before there was one.

    Attributes:
        architecture: class name of the model, for messages.
        parts: part of each layer by its path.
        sizes: inputs and outputs of each layer by its path.
        paths: paths of all modules.
    """

    architecture: str
    parts: Mapping[str, Part]
    sizes: Mapping[str, tuple[int, int]]
    paths: tuple[str, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Linears:
        """Find them."""
        head = head_path(model)
        modules = dict(model.named_modules())
        linear = {path: size for path, module in modules.items() if (size := sizes(module)) is not None}
        parts: dict[str, Part] = {path: part for path in linear if (part := _part(path, head)) is not None}
        return cls(type(model).__name__, parts, {path: linear[path] for path in parts}, tuple(modules))

    def chosen(self, config: AdapterConfig) -> list[str]:
        """Paths of the layers that an adapter of this configuration is put on, sorted."""
        return sorted(path for path, part in self.parts.items() if getattr(config, f"train_{part}"))

    def flags(self, paths: Collection[str]) -> dict[str, bool]:
        """The flags of an adapter on these layers; paths that are no such layer count for none."""
        found = {self.parts.get(path) for path in paths}
        return {f"train_{part}": part in found for part in get_args(Part)}

    def targets(self, config: AdapterConfig) -> list[str]:
        """The `target_modules` of a PEFT configuration for the chosen parts: last names if they suffice, else paths.

        Raises:
            InvalidInputError: a chosen part has no linear layer in this model.
        """
        for part in get_args(Part):
            if getattr(config, f"train_{part}") and part not in self.parts.values():
                raise InvalidInputError(f"train_{part}: {self.architecture} has no linear layers of this kind")
        chosen = set(self.chosen(config))
        names = {path.rpartition(".")[2] for path in chosen}
        meant = {path for path in self.paths if path.rpartition(".")[2] in names}
        return sorted(names if meant == chosen else chosen)
