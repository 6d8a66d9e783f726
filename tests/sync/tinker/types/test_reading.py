"""What passes for a number, a list or a nested value, and what is said of the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker import types
from loops_sdk_sync.tinker.types._reading import read

READ: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (int, 3.0, 3),
    (int, np.int32(3), 3),
    (float, 3, 3.0),
    (float, np.float32(0.5), 0.5),
    (bool, True, True),
    (str, "a", "a"),
    (bytes, bytearray(b"abc"), b"abc"),
    (bytes, "YWJj", b"abc"),
    (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (Literal["a", "b"], "b", "b"),
    (int | None, None, None),
    (list[int], (1, 2), [1, 2]),
    (list[int], range(2), [0, 1]),
    (Sequence[int], (1, 2), (1, 2)),
    (dict[str, float], {"a": 1}, {"a": 1.0}),
    (str | Sequence[str] | Sequence[int] | None, "ab", "ab"),
    (str | Sequence[str] | Sequence[int] | None, ["ab"], ["ab"]),
    (str | Sequence[str] | Sequence[int] | None, [1], [1]),
    (types.LoraConfig, {"rank": 1}, types.LoraConfig(rank=1)),
    (types.OptimParams, {"type": "dimuon", "learning_rate": 1}, types.DimuonParams(learning_rate=1)),
    (types.OptimParams, {"learning_rate": 1}, types.AdamParams(learning_rate=1)),
]

REFUSED: list[tuple[Any, Any, str]] = [
    (int, "3", "x: expected a whole number, got str '3'"),
    (int, True, "x: expected a whole number, got bool True"),
    (int, 2.5, "x: expected a whole number, got float 2.5"),
    (int, float("nan"), "x: expected a whole number, got float nan"),
    (float, "1e-3", "x: expected a number, got str '1e-3'"),
    (bool, 1, "x: expected true or false, got int 1"),
    (str, None, "x: expected text, got NoneType None"),
    (bytes, "!", "x: expected bytes or base64 text, got str '!'"),
    (bytes, 3, "x: expected bytes or base64 text, got int 3"),
    (datetime, "tomorrow", r"x: expected a date and time \(ISO 8601\), got str 'tomorrow'"),
    (datetime, 5, "x: expected a date and time"),
    (Literal["a", "b"], "c", r"x: expected one of \['a', 'b'\], got str 'c'"),
    (list[int], "12", "x: expected a list, got str '12'"),
    (list[int], [1, "b"], r"x\[1\]: expected a whole number, got str 'b'"),
    (Sequence[int], np.array([1]), "x: expected a list, got ndarray"),
    (dict[str, float], [], r"x: expected a dict, got list \[\]"),
    (dict[str, float], {"a": "b"}, r"x\['a'\]: expected a number, got str 'b'"),
    (types.LoraConfig, 3, "x: expected LoraConfig, got int 3"),
    (types.LoraConfig, {"rank": "a"}, r"x\.rank: expected a whole number, got str 'a'"),
    (types.ModelInputChunk, {"type": "image", "data": "YWJj"}, r"x\.format: ImageChunk needs this field"),
    (types.ModelInputChunk, [1], "x: expected EncodedTextChunk or ImageAssetPointerChunk or ImageChunk or DmelChunk"),
    (str | int, [1] * 99, r"x: expected str or int, got list \[1, .*\.\.\."),
]


@pytest.mark.parametrize(("kind", "given_", "wanted"), READ)
def test_what_is_read(kind: Any, given_: Any, wanted: Any) -> None:
    result = read(kind, given_, "x")
    assert result == wanted
    assert type(result) is type(wanted)


@pytest.mark.parametrize(("kind", "given_", "message"), REFUSED)
def test_what_is_refused_is_named(kind: Any, given_: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read(kind, given_, "x")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "tokens", "a"]), inner),
    max_leaves=8,
)


@given(ANYTHING)
def test_whatever_is_given_is_read_or_refused(anything: Any) -> None:
    for kind in (types.ModelInput, types.SamplingParams, types.TrainingRun, types.OptimParams, list[int], bytes):
        with contextlib.suppress(InvalidInputError):
            result = read(kind, anything, "x")
            assert read(kind, result, "x") == result
