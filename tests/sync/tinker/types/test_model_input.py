"""What a model reads: chunks of text, image and sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types import DmelChunk, EncodedTextChunk, ImageAssetPointerChunk, ImageChunk, ModelInput

IMAGE = ImageChunk(data=b"abc", format="png", expected_tokens=4)


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=5), max_size=5))
def test_tokens_come_back_in_order(runs: list[list[int]]) -> None:
    made = ModelInput.empty()
    for run in runs:
        made = made.append(EncodedTextChunk(tokens=run))
    tokens = [token for run in runs for token in run]
    assert made.to_ints() == tokens
    assert made.length == len(tokens)
    assert ModelInput.from_ints(tokens).to_ints() == tokens


def test_appending_makes_a_new_input() -> None:
    empty = ModelInput.empty()
    assert empty.append_int(7).append(IMAGE).length == 5
    assert empty.chunks == []


def test_an_image_has_no_tokens() -> None:
    with pytest.raises(InvalidInputError, match=r"chunks\[1\]: ImageChunk has no token ids"):
        ModelInput.from_ints([1]).append(IMAGE).to_ints()


@pytest.mark.parametrize(
    "chunk", [ImageChunk(data=b"", format="png"), ImageAssetPointerChunk(format="png", location="a")]
)
def test_an_image_whose_length_nobody_said(chunk: ImageChunk | ImageAssetPointerChunk) -> None:
    with pytest.raises(InvalidInputError, match=f"expected_tokens: {type(chunk).__name__} has no known length"):
        _ = chunk.length


def test_an_image_shows_its_size_only() -> None:
    assert repr(IMAGE) == "ImageChunk(data=<3 bytes>, format='png', expected_tokens=4, type='image')"


@given(st.integers(0, 2**40), st.booleans())
def test_the_length_of_sound(length: int, constant: bool) -> None:
    digits = [length >> shift & 0x7F for shift in range(0, max(length.bit_length(), 1), 7)]
    varint = bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])
    assert DmelChunk(dmel=bytes([254] * constant + [3, 2]) + varint + b"\x50").length == length


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "first byte is its type"),
        (b"\x08", "first byte is its type"),
        (b"\xfe", "first byte is its type"),
        (b"\x02", "cut off or too large"),
        (b"\x02\x02\x85", "cut off or too large"),
        (b"\x02" + b"\xff" * 12, "cut off or too large"),
        (b"\x02\x00", "has no length"),
    ],
)
def test_sound_that_is_none(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _ = DmelChunk(dmel=data).length
