"""Conversions to `Datum`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loops_sdk import Datum, InvalidInputError
from loops_sdk_sync.baseten.helpers.datum import as_datum, datum_from_tokens

TAUGHT = Datum([3, 4], {"target_tokens": [4, 5]})


@pytest.mark.parametrize(
    "tokens", [[3, 4, 5], (3, 4, 5), np.array([3, 4, 5])], ids=lambda tokens: type(tokens).__name__
)
def test_each_token_is_the_target_of_the_one_before(tokens: Any) -> None:
    assert datum_from_tokens(tokens) == TAUGHT
    weighted = datum_from_tokens(tokens, weights=[9.0, 0.0, 0.5])
    assert weighted == Datum([3, 4], {"target_tokens": [4, 5], "weights": [0.0, 0.5]})


def test_torch_tensors_too() -> None:
    torch = pytest.importorskip("torch")
    assert datum_from_tokens(torch.tensor([3, 4, 5]), torch.ones(3)).loss_fn_inputs["weights"].tolist() == [1.0, 1.0]


class Dumped:
    def model_dump(self) -> dict[str, Any]:
        return {
            "model_input": {"chunks": [{"tokens": [3, 4], "type": "encoded_text"}]},
            "loss_fn_inputs": {"target_tokens": {"data": [4, 5], "dtype": "int64", "shape": [2]}},
        }


def test_what_is_or_describes_a_datum() -> None:
    assert as_datum(TAUGHT) is TAUGHT
    assert as_datum(Dumped()) == as_datum(Dumped().model_dump()) == TAUGHT


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: datum_from_tokens([3]), "tokens: expected at least two, a target needs one before it; got 1"),
        (lambda: datum_from_tokens([3, 4.5]), "tokens: "),
        (lambda: datum_from_tokens([3, 4], [1.0]), r"weights: expected one per token, 2, got shape \[1\]"),
        (lambda: datum_from_tokens([3, 4], 1.0), r"weights: expected one per token, 2, got shape \[\]"),
        (lambda: as_datum([3, 4]), "value: expected a Datum or the model_dump of one, got list"),
        (lambda: as_datum({"model_input": {"chunks": []}, "spans": []}), "unknown field|spans"),
    ],
)
def test_what_is_wrong_is_named(call: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        call()
