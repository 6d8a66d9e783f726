"""Chunks, `ModelInput` and `Datum`: conversion, lengths, and messages that name the place."""

from __future__ import annotations

import base64
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loops_sdk import (
    Datum,
    EncodedTextChunk,
    ImageChunk,
    InvalidInputError,
    ModelInput,
    TensorData,
    UnshiftedTargetsWarning,
)

PIXEL = base64.b64encode(b"not really a picture").decode()


@pytest.mark.parametrize(
    "given",
    [[5, 6], (5, 6), range(5, 7), np.array([5, 6], dtype=np.uint16), torch.tensor([5, 6]), np.array([5.0, 6.0])],
)
def test_token_ids_from_anything_whole(given: Any) -> None:
    assert ModelInput.from_ints(given) == ModelInput((EncodedTextChunk([5, 6]),))


def test_tokens_are_private_and_read_only_also_after_pickling() -> None:
    array = np.array([1, 2])
    chunk = EncodedTextChunk(array)
    array[0] = 9
    for one in (chunk, pickle.loads(pickle.dumps(chunk))):
        assert one == EncodedTextChunk([1, 2])
        with pytest.raises(ValueError, match="read-only"):
            one.tokens[0] = 9


def test_inputs_are_values() -> None:
    one, other = ModelInput.from_ints([1, 2]), ModelInput.from_ints([1, 2])
    assert one == other
    assert len({one, other, ModelInput.from_ints([1, 3])}) == 2
    assert repr(one) == "ModelInput(chunks=(EncodedTextChunk([1, 2], length=2),))"
    assert pickle.loads(pickle.dumps(one)) == one


def test_append_leaves_the_original_alone() -> None:
    empty = ModelInput.empty()
    grown = empty.append(EncodedTextChunk([1])).append(ImageChunk(PIXEL, 4, "jpeg")).append(EncodedTextChunk([2, 3]))
    assert (empty.length, grown.length) == (0, 7)
    assert empty.to_ints() == []
    with pytest.raises(InvalidInputError, match=r"^chunks\[1\]: an image has no token ids$"):
        grown.to_ints()


def test_what_each_chunk_takes() -> None:
    assert [EncodedTextChunk([]).length, EncodedTextChunk([1, 2]).length, ImageChunk(PIXEL, 4).length] == [0, 2, 4]


def test_an_image_does_not_fill_the_screen() -> None:
    assert repr(ImageChunk(PIXEL, 4)) == "ImageChunk(data=<28 base64 characters>, expected_tokens=4, format='png')"


def test_plain_lists_get_the_type_their_name_wants() -> None:
    datum = Datum(
        ModelInput.from_ints([1, 2]),
        {
            "target_tokens": [2.0, -100.0],
            "weights": [1, 0],
            "advantages": [1, -1],
            "mask": [True, False],
            "own": [1, 2],
        },
    )
    types = {name: tensor.dtype for name, tensor in datum.loss_fn_inputs.items()}
    assert types == {
        "target_tokens": "int64",
        "weights": "float32",
        "advantages": "float32",
        "mask": "float32",
        "own": "int64",
    }


def test_a_tensor_keeps_its_declared_type() -> None:
    given = TensorData([1, 2])
    assert Datum([1, 2], {"weights": given}).loss_fn_inputs["weights"] is given


HELD: list[Callable[[list[float]], Any]] = [
    list,
    tuple,
    np.array,
    lambda values: np.array(values, dtype=np.float16),
    lambda values: np.array(values, dtype=np.longdouble),
    torch.tensor,
    lambda values: torch.tensor(values, dtype=torch.bfloat16),
    lambda values: torch.tensor(values, dtype=torch.float64, requires_grad=True),
    lambda values: [torch.tensor(value, dtype=torch.bfloat16, requires_grad=True) for value in values],
    TensorData,
]


@pytest.mark.parametrize("held", HELD)
def test_whatever_holds_the_numbers(held: Callable[[list[float]], Any]) -> None:
    numbers: dict[str, list[float]] = {"logprobs": [-0.5, -2.0], "advantages": [1.0, -1.5], "mask": [1.0, 0.0]}
    plain = Datum([1, 2], {"target_tokens": [2, -100], **numbers})
    assert Datum([1, 2], {"target_tokens": [2, -100], **{name: held(n) for name, n in numbers.items()}}) == plain


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint64", "float32"])
def test_targets_and_tokens_of_any_whole_type(dtype: str) -> None:
    ones = np.ones(2, dtype=dtype)
    assert Datum(ones, {"target_tokens": ones}) == Datum([1, 1], {"target_tokens": [1, 1]})
    tensor = torch.from_numpy(ones)
    assert Datum(tensor, {"target_tokens": list(tensor)}) == Datum([1, 1], {"target_tokens": [1, 1]})


def test_a_datum_is_a_value() -> None:
    one = Datum([1, 2], {"target_tokens": [2, 3]})
    assert one == Datum(ModelInput.from_ints((1, 2)), {"target_tokens": np.array([2, 3])})
    assert pickle.loads(pickle.dumps(one)) == one
    assert Datum([1]).loss_fn_inputs == {}


def test_lengths_count_the_first_dimension() -> None:
    assert Datum([1, 2], {"teacher": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]}).loss_fn_inputs["teacher"].shape == (2, 3)
    picture = ModelInput((ImageChunk(PIXEL, 3), EncodedTextChunk([1])))
    assert Datum(picture, {"target_tokens": [-100, -100, -100, 2]}).model_input.length == 4


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "negative": (lambda: EncodedTextChunk([1, -2]), r"^tokens: token ids are >= 0, got -2$"),
    "nested": (
        lambda: EncodedTextChunk([[1, 2]]),
        r"^tokens: expected a flat sequence of token ids, got shape \[1, 2\]$",
    ),
    "fraction": (lambda: EncodedTextChunk([1.5]), r"^tokens: dtype int64 was asked for, but 1\.5 is not such a"),
    "plain": (
        lambda: ModelInput([1, 2]),
        r"^chunks\[0\]: expected EncodedTextChunk or ImageChunk, got int .*from_ints",
    ),
    "single": (lambda: ModelInput(7), r"^chunks\[0\]: expected EncodedTextChunk or ImageChunk, got int"),
    "not base64": (lambda: ImageChunk("?!", 1), r"^data: expected the image as base64 text, got str \("),
    "bytes": (lambda: ImageChunk(b"aGk=", 1), r"^data: expected the image as base64 text, got bytes \("),
    "no image": (lambda: ImageChunk("", 1), r"^data: expected the image as base64 text, got str \(not text, or empty"),
    "beyond ascii": (lambda: ImageChunk("é", 1), r"^data: expected the image as base64 text, got str"),
    "format": (lambda: ImageChunk(PIXEL, 1, "gif"), r"^format: expected 'png' or 'jpeg', got 'gif'$"),
    "expected": (lambda: ImageChunk(PIXEL, 0), r"^expected_tokens: expected a value >= 1, got 0$"),
    "expected bool": (lambda: ImageChunk(PIXEL, True), r"^expected_tokens: expected a whole number, got True$"),
    "input": (
        lambda: Datum("abc"),
        r"^model_input: expected token ids, got text 'abc'; tokenizer\.encode",
    ),
    "inputs": (lambda: Datum([1], [[1]]), r"^loss_fn_inputs: expected a dict of tensors by name, got list$"),
    "name": (lambda: Datum([1], {1: [1]}), r"^loss_fn_inputs: name: expected a non-empty string .*, got 1$"),
    "length": (
        lambda: Datum([1, 2], {"weights": [1.0]}),
        r"^loss_fn_inputs\['weights'\]: has 1 values, but model_input has 2 positions$",
    ),
    "single number": (
        lambda: Datum([1], {"weights": 1.0}),
        r"^loss_fn_inputs\['weights'\]: expected one value per position, got a single number; .* give \[1\] \* 1$",
    ),
    "length of torch": (
        lambda: Datum(torch.tensor([1, 2]), {"weights": torch.ones(3, requires_grad=True)}),
        r"^loss_fn_inputs\['weights'\]: has 3 values, but model_input has 2 positions$",
    ),
    "length beside an image": (
        lambda: Datum(ModelInput((ImageChunk(PIXEL, 3), EncodedTextChunk([1]))), {"target_tokens": [2]}),
        r"^loss_fn_inputs\['target_tokens'\]: has 1 values, but model_input has 4 positions$",
    ),
    "length of rows": (
        lambda: Datum([1, 2], {"teacher": [[0.1, 0.2]]}),
        r"^loss_fn_inputs\['teacher'\]: has 1 values, but model_input has 2 positions$",
    ),
    "tensor": (
        lambda: Datum([1], {"target_tokens": [0.5]}),
        r"^loss_fn_inputs\['target_tokens'\]: data: dtype int64 was asked for, but 0\.5",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(InvalidInputError, match=message):
        make()


SHIFT = r"give Datum\(tokens\[:-1\], \{\"target_tokens\": tokens\[1:\]\}\)$"


def test_targets_that_are_not_shifted_are_told_at_the_line_that_made_them() -> None:
    tokens = [5, 6, 7]
    with pytest.warns(UnshiftedTargetsWarning, match=SHIFT) as told:
        datum = Datum(tokens, {"target_tokens": tokens})
    assert [Path(one.filename) for one in told] == [Path(__file__)]
    assert datum.loss_fn_inputs["target_tokens"].tolist() == tokens  # legal, and taken as it is


@pytest.mark.parametrize(
    ("tokens", "targets"),
    [
        ([5, 6, 7], [6, 7, 8]),
        ([5, 6, 7], [5, 6, -100]),
        ([5, 5, 5], [5, 5, 5]),
        ([5], [5]),
        ([], []),
        (ModelInput((EncodedTextChunk([5, 6]), ImageChunk("aGk=", 1))), [5, 6, 7]),
        ([5, 6], [[5, 6], [6, 7]]),
    ],
)
def test_nothing_is_told_of_other_targets(tokens: Any, targets: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Datum(tokens, {"target_tokens": targets})


def test_a_missing_shift_is_told_where_the_lengths_tell_it() -> None:
    with pytest.raises(InvalidInputError, match=SHIFT):
        Datum([5, 6, 7], {"target_tokens": [6, 7]})
    with pytest.raises(InvalidInputError, match=r"has 1 values, but model_input has 3 positions$"):
        Datum([5, 6, 7], {"target_tokens": [6]})
