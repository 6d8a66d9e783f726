"""A run of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from loops_sdk_sync.tinker.types._model import StrictModel

__all__ = ["EncodedTextChunk"]


class EncodedTextChunk(StrictModel):
    """A run of token ids.

    Args:
        tokens: the ids, a list or tuple; an array must be turned into a list first.
        type: ``"encoded_text"``, which tells it from other chunks in plain data.
    """

    tokens: Sequence[int]
    type: Literal["encoded_text"] = "encoded_text"

    @property
    def length(self) -> int:
        """Number of positions it takes."""
        return len(self.tokens)
