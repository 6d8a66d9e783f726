"""Messages in the binary form that no honest peer makes: wrong values, arrays in wrong places, and damaged files."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from hostile_json import mutated, written
from hypothesis import strategies as st
from safetensors.numpy import save

from loops_sdk import InvalidInputError
from loops_sdk._wire.packing import pack

_ARRAYS = st.sampled_from(
    [
        np.arange(3),
        np.array([-1, 2**62, -(2**63)]),
        np.float32([0.5, np.nan, np.inf]),
        np.zeros(0, np.float32),
        np.zeros(2),
        np.zeros((2, 2), np.int64),
        np.zeros(3, np.uint8),
        np.zeros(3, np.bool_),
    ]
)
_POINTERS = ["", "/", "/data", "/data/0/tokens", "/0/data", "/-1/data", "data", "/~2/data", "//data", "/result/data"]


def packed(good: Any) -> st.SearchStrategy[bytes]:
    """What comes of a good message, which is plain JSON."""
    changed = mutated(good)
    damage = st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=2)))
    return st.one_of(
        changed.map(_packed),
        damage.map(lambda places: _damaged(_packed(good), places)),
        st.builds(_file, changed.map(written), st.dictionaries(st.sampled_from(_pointers(good)), _ARRAYS, max_size=3)),
    )


def _packed(value: Any) -> bytes:
    try:
        return pack(_with_arrays(value))
    except InvalidInputError:  # more than the library's JSON can say
        return written(value)


def _with_arrays(value: Any, name: object = None) -> Any:
    """Lists of numbers as arrays, where there may be such."""
    if name in ("data", "tokens") and isinstance(value, list) and all(type(one) in (int, float) for one in value):
        array = np.array(value)
        return array.astype("int64" if array.dtype.kind == "i" else "float32") if array.dtype.kind in "if" else value
    if isinstance(value, dict):
        return {key: _with_arrays(inner, key) for key, inner in value.items()}
    return [_with_arrays(inner) for inner in value] if isinstance(value, list) else value


def _damaged(body: bytes, damage: list[tuple[int, bytes]]) -> bytes:
    for place, new in damage:
        at = place % (len(body) + 1)
        body = body[:at] + new + body[at + 1 :]
    return body


def _pointers(good: Any) -> list[str]:
    """Those of the arrays that there are, and others."""
    return [*_POINTERS, *re.findall(r"/[a-z_/0-9]+", _packed(good).decode("latin-1"))]


def _file(text: bytes, arrays: dict[str, Any]) -> bytes:
    said = re.sub(rb"\[[-0-9., ]+\]", b"null", text)  # where the arrays go
    return save({**arrays, "": np.frombuffer(said, np.uint8)})
