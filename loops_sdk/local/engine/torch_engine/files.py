"""Names and tensor files of a PEFT folder. Loads neither peft nor a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["CONFIG_FILE", "PREFIX", "WEIGHTS_FILE", "read_tensors", "write_tensors"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
#: What PEFT puts before a module's path in the names of tensors.
PREFIX = "base_model.model."


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a safetensors file."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


def read_tensors(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RuntimeError: it cannot be read, or its names or shapes are not those of `like`.
    """
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises a class of its own that derives from Exception only
        raise RuntimeError(f"{path} cannot be read ({error})") from None
    for name in sorted(tensors.keys() ^ like.keys()):
        raise RuntimeError(f"{path} {'has an unknown' if name in tensors else 'lacks the'} tensor {name}")
    for name, tensor in tensors.items():
        if tensor.shape != like[name].shape:
            raise RuntimeError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(like[name].shape)}")
    return tensors
