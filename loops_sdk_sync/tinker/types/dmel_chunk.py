"""Sound as discretised mel spectra, in the original's own container."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types._model import StrictModel

__all__ = ["DmelChunk"]

#: First byte of a container whose values are all equal; the type byte, 0 to 7, comes after it.
_CONSTANT, _LAST_TYPE = 254, 7


class DmelChunk(StrictModel):
    """Sound. Loops has no models that hear: the clients refuse this chunk.

    Args:
        dmel: the serialised tensor as bytes; base64 text is decoded. In plain data it is base64 text.
        type: ``"dmel"``, which tells it from other chunks in plain data.
    """

    dmel: bytes = attrs.field(repr=lambda value: f"<{len(value)} bytes>")
    type: Literal["dmel"] = "dmel"

    @property
    def length(self) -> int:
        """Number of positions it takes: the first dimension of the tensor.

        Raises:
            InvalidInputError: the bytes do not begin like a serialised tensor.
        """
        header = self.dmel[1:] if self.dmel[:1] == bytes([_CONSTANT]) else self.dmel
        if not header or header[0] > _LAST_TYPE:
            raise InvalidInputError("dmel: expected a serialised tensor, whose first byte is its type")
        numbers = _varints(header[1:])
        dimensions = next(numbers)
        if not dimensions:
            raise InvalidInputError("dmel: the tensor is a single number and has no length")
        return next(numbers)


def _varints(data: bytes) -> Iterator[int]:
    """Numbers of seven bits per byte, lowest first; a set top bit says that another byte follows."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            break
        if byte < 0x80:
            yield value
            value = shift = 0
    raise InvalidInputError("dmel: the shape of the tensor is cut off or too large")
