"""An image that travels with the request."""

from __future__ import annotations

from typing import Literal

import attrs

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types._model import StrictModel

__all__ = ["ImageChunk"]


def expected_length(chunk: str, expected_tokens: int | None) -> int:
    """Number of positions of an image, which only the one who made the chunk can know here."""
    if expected_tokens is None:
        raise InvalidInputError(f"expected_tokens: {chunk} has no known length; set it to the number of positions")
    return expected_tokens


class ImageChunk(StrictModel):
    """An image.

    Args:
        data: the encoded image as bytes; base64 text is decoded. In plain data it is base64 text.
        format: ``"png"`` or ``"jpeg"``.
        expected_tokens: how many positions the model gives it.
        type: ``"image"``, which tells it from other chunks in plain data.
    """

    data: bytes = attrs.field(repr=lambda value: f"<{len(value)} bytes>")
    format: Literal["png", "jpeg"]
    expected_tokens: int | None = None
    type: Literal["image"] = "image"

    @property
    def length(self) -> int:
        """Number of positions it takes.

        Raises:
            InvalidInputError: `expected_tokens` is not set.
        """
        return expected_length("ImageChunk", self.expected_tokens)
