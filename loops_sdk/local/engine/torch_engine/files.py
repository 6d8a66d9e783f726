"""Names and tensor files of a PEFT folder. Loads neither peft nor a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["CONFIG_FILE", "PREFIX", "WEIGHTS_FILE", "read_tensors", "require_like", "write_tensors"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
#: What PEFT puts before a module's path in the names of tensors.
PREFIX = "base_model.model."


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a safetensors file."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


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
