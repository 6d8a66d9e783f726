"""An image that the server is to fetch by itself."""

from __future__ import annotations

from typing import Literal

from loops_sdk_sync.tinker.types._model import StrictModel
from loops_sdk_sync.tinker.types.image_chunk import expected_length

__all__ = ["ImageAssetPointerChunk"]


class ImageAssetPointerChunk(StrictModel):
    """An image by its address. Loops fetches none: the clients refuse this chunk, read the file into an `ImageChunk`.

    Args:
        format: ``"png"`` or ``"jpeg"``.
        location: path or address of the image.
        expected_tokens: how many positions the model gives it.
        type: ``"image_asset_pointer"``, which tells it from other chunks in plain data.
    """

    format: Literal["png", "jpeg"]
    location: str
    expected_tokens: int | None = None
    type: Literal["image_asset_pointer"] = "image_asset_pointer"

    @property
    def length(self) -> int:
        """Number of positions it takes.

        Raises:
            InvalidInputError: `expected_tokens` is not set.
        """
        return expected_length("ImageAssetPointerChunk", self.expected_tokens)
