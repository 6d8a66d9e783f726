"""The files of a base model as they lie in a folder: which tensors there are and where, and what stands beside them.

It reads tensors one by one and builds no model: memory holds what is asked for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loops_sdk.errors import InvalidInputError, LoopsError
from loops_sdk.local.engine.torch_engine.sources import resolve

__all__ = ["INDEX_FILE", "BaseFiles", "Stored"]

INDEX_FILE = "model.safetensors.index.json"
#: What belongs to a model beside its weights: configuration, tokenizer, chat template, licence.
_BESIDE = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py", "LICENSE*", "NOTICE*")
_NOT_OF_THE_MODEL = (INDEX_FILE, "adapter_config.json")
#: On the hub some models have their weights twice, the second time in a form of their maker's.
_TWICE = ("consolidated*", "original/*")


@attrs.frozen
class Stored:
    """A tensor in a file.

    Attributes:
        dtype: as safetensors calls it, for example ``BF16``.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        """Whether it is of one of the types that weights are trained in."""
        return self.dtype in ("F32", "F16", "BF16")

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes."""
        bits = re.search(r"\d+", self.dtype)
        return math.prod(self.shape) * (int(bits.group()) if bits else 8) // 8


@attrs.frozen(slots=False)
class BaseFiles:
    """A model in a folder.

    Attributes:
        folder: where it is.
        config: what its ``config.json`` says.
    """

    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def find(cls, base_model: str, cache_dir: Path) -> BaseFiles:
        """The files of a base model; of one on the hub those in the local cache, which are completed first.

        Args:
            base_model: ``"loops/tiny"``, a folder, a ``.gguf`` file or a hub id.
            cache_dir: where converted GGUF files are kept.

        Raises:
            InvalidInputError: no such model.
            ConnectionFailedError: a hub id that is not cached while the hub cannot be reached.
            LoopsError: it could not be fetched from the hub.
        """
        place = resolve(base_model, cache_dir)
        folder = Path(place) if Path(place).is_dir() else _fetched(place)
        return cls(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")))

    @cached_property
    def tensors(self) -> Mapping[str, Stored]:
        """All tensors by their names, file by file.

        Raises:
            InvalidInputError: there are no weights in safetensors files, or not all of them.
        """
        found: dict[str, Stored] = {}
        for path in self._weight_files():
            try:
                found |= _tensors_of(path)
            except (OSError, SafetensorError) as error:
                raise InvalidInputError(f"base_model: {path} cannot be read ({error})") from None
        return found

    def _weight_files(self) -> list[Path]:
        index = self.folder / INDEX_FILE
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            return [self.folder / name for name in sorted(names)]
        if not (self.folder / "model.safetensors").is_file():
            raise InvalidInputError(f"base_model: {self.folder} has no weights in safetensors files")
        return [self.folder / "model.safetensors"]

    def read(self, name: str) -> Tensor:
        """One tensor."""
        with safe_open(self.tensors[name].path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def beside(self) -> Iterator[Path]:
        """The files beside the weights."""
        for pattern in _BESIDE:
            yield from (path for path in sorted(self.folder.glob(pattern)) if path.name not in _NOT_OF_THE_MODEL)


def _tensors_of(path: Path) -> dict[str, Stored]:
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: Stored(path, tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}


def _fetched(hub_id: str) -> Path:
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*_BESIDE, "*.safetensors"], ignore_patterns=[*_TWICE]))
    except Exception as error:  # the client's network errors have no common base across its versions
        raise LoopsError(f"base_model: {hub_id!r} could not be fetched from the hub ({error})") from error
