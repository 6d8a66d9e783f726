"""A small adapter of the base model that ships, made without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save, save_file

WIDTH = 192
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "loops/tiny",
}


def tensors() -> dict[str, Any]:
    draw = np.random.default_rng(1)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    return {
        f"{layer}.lora_A.weight": draw.standard_normal((4, WIDTH), np.float32),
        f"{layer}.lora_B.weight": draw.standard_normal((WIDTH, 4), np.float32),
    }


def adapter_at(folder: Path, **config: Any) -> Path:
    """Write it, with other settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
    save_file(tensors(), folder / "adapter_model.safetensors")
    return folder


def adapter_files(**config: Any) -> dict[str, bytes]:
    """The same as a checkpoint's files."""
    text = json.dumps({**CONFIG, **config}).encode()
    return {"adapter_config.json": text, "adapter_model.safetensors": save(tensors())}


def names(folder: Path) -> list[str]:
    """What is in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def is_there(path: Path) -> bool:
    return path.exists()
