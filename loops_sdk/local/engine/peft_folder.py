"""An adapter in a folder as PEFT writes it, read without torch: what its configuration says, which layers its tensors
change, and what in it is more than a plain LoRA. It knows no base model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError, safe_open

from loops_sdk.errors import InvalidInputError

__all__ = ["CONFIG_FILE", "PREFIX", "WEIGHTS_FILE", "Pair", "PeftFolder"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
#: What PEFT puts before a module's path in the names of tensors.
PREFIX = "base_model.model."

_TENSOR = re.compile(rf"{re.escape(PREFIX)}(?P<layer>.+)\.(?P<part>lora_[AB])\.weight")
#: Settings with which ``W + scaling B A`` is not the whole truth, by the value with which it is.
_PLAIN: Mapping[str, Any] = {
    "use_dora": False,
    "lora_bias": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layer_replication": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
    "use_qalora": False,
}
#: Ways to start an adapter that change the base model as well.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")


@attrs.frozen
class Pair:
    """The LoRA pair on one layer, by the names of its tensors.

    Attributes:
        a: name of the tensor ``[rank, inputs]``.
        b: name of the tensor ``[outputs, rank]``.
    """

    a: str
    b: str
    rank: int
    inputs: int
    outputs: int


@attrs.frozen(slots=False)
class PeftFolder:
    """An adapter in a folder.

    Attributes:
        path: the folder.
        config: what ``adapter_config.json`` says.
    """

    path: Path
    config: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> PeftFolder:
        """Read the configuration of the adapter in a folder.

        Raises:
            InvalidInputError: there is no folder, or no LoRA adapter in it. Says what is there instead.
        """
        if not path.is_dir():
            raise InvalidInputError(f"adapter: there is no folder {path}")
        if not (path / CONFIG_FILE).is_file():
            raise InvalidInputError(f"adapter: {path} has no {CONFIG_FILE}{_instead(path)}")
        try:
            config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
            is_lora = config["peft_type"] == "LORA" and int(config["r"]) > 0 and float(config["lora_alpha"]) > 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(f"adapter: {path / CONFIG_FILE} describes no LoRA adapter ({error!r})") from None
        if not is_lora:
            raise InvalidInputError(f"adapter: {path / CONFIG_FILE} describes no LoRA adapter of a rank and an alpha")
        return cls(path, config)

    @property
    def rank(self) -> int:
        """The rank of its layers."""
        return int(self.config["r"])

    @property
    def scaling(self) -> float:
        """What B A is multiplied with: alpha over rank, or over its square root for rank-stabilized adapters."""
        alpha, rank = float(self.config["lora_alpha"]), self.rank
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    @property
    def base_model(self) -> str | None:
        """The base model as the adapter names it: a hub id, or a folder of the machine where it was trained."""
        return self.config.get("base_model_name_or_path") or None

    @property
    def targets(self) -> list[str]:
        """Names or paths of the layers that it changes, as its configuration has them."""
        targets = self.config.get("target_modules") or []
        return [targets] if isinstance(targets, str) else sorted(targets)

    @property
    def peculiarities(self) -> list[str]:
        """Settings with which it is more than a plain LoRA on linear layers, as ``name=value``."""
        start = self.config.get("init_lora_weights")
        found = {name: self.config.get(name) for name in _PLAIN}
        found = {name: value for name, value in found.items() if value and value != _PLAIN[name]}
        if isinstance(start, str) and start.lower().startswith(_CHANGES_THE_BASE):
            found["init_lora_weights"] = start
        return [f"{name}={json.dumps(value)}" for name, value in sorted(found.items())]

    @cached_property
    def pairs(self) -> Mapping[str, Pair]:
        """The LoRA pair of each layer, by the layer's path in the base model.

        Raises:
            InvalidInputError: the tensors cannot be read, or are not pairs of A and B of the rank that the
                configuration says. Names the tensor.
        """
        shapes = self._shapes()
        layers: dict[str, dict[str, str]] = {}
        for name in shapes:
            match = _TENSOR.fullmatch(name)
            if match is None:
                raise self._refused(f"{name} belongs to no LoRA pair of a linear layer")
            layers.setdefault(match["layer"], {})[match["part"]] = name
        return {layer: self._pair(layer, parts, shapes) for layer, parts in sorted(layers.items())}

    def _pair(self, layer: str, parts: Mapping[str, str], shapes: Mapping[str, list[int]]) -> Pair:
        if len(parts) != 2:
            raise self._refused(f"{layer} has {next(iter(parts))} alone, not both of lora_A and lora_B")
        a, b = parts["lora_A"], parts["lora_B"]
        for name, at in ((a, 0), (b, 1)):
            if len(shapes[name]) != 2 or shapes[name][at] != self.rank:
                raise self._refused(f"{name} has shape {shapes[name]}, which is not of the rank {self.rank}")
        return Pair(a, b, self.rank, shapes[a][1], shapes[b][0])

    def _shapes(self) -> dict[str, list[int]]:
        try:
            with safe_open(self.path / WEIGHTS_FILE, framework="np") as file:
                shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InvalidInputError(f"adapter: {self.path / WEIGHTS_FILE} cannot be read ({error})") from None
        if not shapes:
            raise self._refused("holds no tensor")
        return shapes

    def _refused(self, why: str) -> InvalidInputError:
        return InvalidInputError(f"adapter: {self.path / WEIGHTS_FILE}: {why}")


def _instead(path: Path) -> str:
    """What a folder without an adapter may be taken for."""
    if (path / "config.json").is_file():
        return ": it holds a whole model, not an adapter"
    if any("optim" in one.name for one in path.iterdir()):
        return (
            ": it holds the state of a trainer in a form that no adapter can be taken from; "
            "save_weights_for_sampler saves the adapter"
        )
    return ": an adapter is what `loops checkpoints download` makes of a sampler checkpoint"
