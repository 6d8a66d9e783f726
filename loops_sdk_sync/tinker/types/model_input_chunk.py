"""What a `ModelInput` is made of."""

from __future__ import annotations

from typing import TypeAlias

from loops_sdk_sync.tinker.types.dmel_chunk import DmelChunk
from loops_sdk_sync.tinker.types.encoded_text_chunk import EncodedTextChunk
from loops_sdk_sync.tinker.types.image_asset_pointer_chunk import ImageAssetPointerChunk
from loops_sdk_sync.tinker.types.image_chunk import ImageChunk

__all__ = ["ModelInputChunk"]

#: Any chunk; in plain data its `type` tells which.
ModelInputChunk: TypeAlias = EncodedTextChunk | ImageAssetPointerChunk | ImageChunk | DmelChunk
