"""Tensor files and JSON files of a saved adapter. Loads neither peft nor a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import save
from safetensors.torch import load_file
from torch import Tensor

__all__ = ["read_tensors", "require_like", "write_json", "write_tensors"]

#: What readers for torch expect to be told.
_FORMAT = {"format": "pt"}


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a safetensors file, over what is there."""
    _overwrite(
        path, save({name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}, _FORMAT)
    )


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file, unless it says the same already."""
    data = json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
    if not path.exists() or path.read_bytes() != data:
        _overwrite(path, data)


def _overwrite(path: Path, data: bytes) -> None:
    """Write a file into the blocks that it has already: a state is saved at every step, and new ones cost more."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
        file.write(data)
        file.truncate()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RuntimeError: it cannot be read.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises a class of its own that derives from Exception only
        raise RuntimeError(f"{path} cannot be read ({error})") from None


def require_like(path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse what was read from `path` unless its names and shapes are `shapes`.

    Raises:
        RuntimeError: naming the tensor.
    """
    for name in sorted(tensors.keys() ^ shapes.keys()):
        raise RuntimeError(f"{path} {'has an unknown' if name in tensors else 'lacks the'} tensor {name}")
    for name, tensor in tensors.items():
        if list(tensor.shape) != list(shapes[name]):
            raise RuntimeError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(shapes[name])}")
