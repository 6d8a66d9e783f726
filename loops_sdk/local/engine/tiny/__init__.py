"""The base model `loops/tiny`: where its folder lies, and (in the modules beside) how it was made.

Decides nothing about training or sampling, and loads nothing: the folder is an ordinary transformers model folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MODEL_NAME: Final = "loops/tiny"
"""The name under which the embedded deployment offers the model."""

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The model folder: `from_pretrained(WEIGHTS)` works for model and tokenizer, offline."""

__all__ = ["MODEL_NAME", "WEIGHTS"]
