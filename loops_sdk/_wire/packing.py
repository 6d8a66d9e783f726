"""The binary form of a message: a safetensors file, in which numbers stand as they do in memory.

The tensor whose name is empty holds the message as JSON text (UTF-8), with null in the place of every array. Each other
tensor is such an array, flat, int64 or float32, and its name says where it stands, as a JSON pointer (RFC 6901). Only
the numbers of tensors and of chunks, which are called ``data`` and ``tokens``, may be arrays. What a message means, and
what is refused, is the same in both forms; but this one has infinities, which in JSON are null.
"""

from __future__ import annotations

from typing import Any

from loops_sdk._wire.json_text import dumps, loads
from loops_sdk.errors import ProtocolError

__all__ = ["MEDIA_TYPE", "is_packed", "pack", "unpack"]

MEDIA_TYPE = "application/vnd.loops+safetensors"

_TEXT = ""
_NAMES = ("data", "tokens")
_DTYPES = {"I64": "<i8", "F32": "<f4"}


def is_packed(body: bytes) -> bool:
    """Which of both forms a body has. A safetensors file begins with a length in eight bytes, of which some are zero;
    JSON has no such bytes.
    """
    return b"\0" in body[:8]


def pack(value: Any) -> bytes:
    """The binary form of plain data in which numpy arrays are.

    Raises:
        InvalidInputError: something that JSON cannot say.
    """
    import numpy as np
    from safetensors.numpy import save

    arrays: dict[str, Any] = {}
    text = dumps(_without_arrays(value, "", arrays))
    return save({**arrays, _TEXT: np.frombuffer(text, np.uint8)})


def _without_arrays(value: Any, pointer: str, arrays: dict[str, Any]) -> Any:
    """A copy with null in place of the arrays, which are put aside under their pointers."""
    if isinstance(value, list):
        return [_without_arrays(inner, f"{pointer}/{place}", arrays) for place, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    copy: dict[str, Any] = {}
    for name, inner in value.items():
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in _NAMES and hasattr(inner, "dtype"):
            arrays[place] = inner
            copy[name] = None
        else:
            copy[name] = _without_arrays(inner, place, arrays)
    return copy


def unpack(body: bytes) -> Any:
    """Plain data with numpy arrays in it.

    Raises:
        ProtocolError: not a safetensors file, not one of this form, or what `loads` refuses.
    """
    from safetensors import SafetensorError, deserialize

    try:
        tensors: dict[str, Any] = dict(deserialize(body))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ProtocolError(f"expected a safetensors file: {error}") from None
    text = tensors.pop(_TEXT, None)
    if text is None or text["dtype"] != "U8":
        raise ProtocolError("expected a tensor without a name, of type U8, that holds JSON")
    data = loads(bytes(text["data"]))
    for pointer, tensor in tensors.items():
        above, slash, name = pointer.rpartition("/")
        holder = _at(data, above) if slash and name in _NAMES else None
        if not isinstance(holder, dict) or holder.get(name, 0) is not None:
            raise ProtocolError(f"expected tensors only where data or tokens is null, got one at {pointer[:80]!r}")
        holder[name] = _array(tensor, pointer)
    return data


def _at(data: Any, pointer: str) -> Any:
    """What a JSON pointer leads to; `None` when it leads nowhere."""
    for step in pointer.split("/")[1:]:
        if isinstance(data, list) and step.isascii() and step.isdecimal() and len(step) < 10 and int(step) < len(data):
            data = data[int(step)]
        elif isinstance(data, dict):
            data = data.get(step.replace("~1", "/").replace("~0", "~"))
        else:
            return None
    return data


def _array(tensor: Any, pointer: str) -> Any:
    import numpy as np

    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None or len(tensor["shape"]) != 1:
        got = f"{tensor['dtype']} {tensor['shape'][:9]}"
        raise ProtocolError(f"expected flat tensors of type I64 or F32, got {got} at {pointer[:80]!r}")
    return np.frombuffer(tensor["data"], dtype)
