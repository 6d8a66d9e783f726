"""What is refused, by name and place, and how a datum becomes columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import datums, losses
from loops_sdk.types import Datum, ImageChunk, ModelInput, TensorData

LIMITS = datums.Limits(max_seq_len=8, vocab_size=50, num_outputs=40)
RL = {"target_tokens": [1, 2, 3], "logprobs": [-1.0, -1.0, -1.0], "advantages": [1.0, 0.0, 1.0]}


@pytest.mark.parametrize("loss_fn", list(losses.LOSSES))
def test_whole_data_pass(loss_fn: str) -> None:
    datums.check([Datum([1, 2, 3], RL)], loss_fn, None, LIMITS)


@pytest.mark.parametrize(
    ("inputs", "loss_fn", "says"),
    [
        ({}, "ppo", r"data\[1\]\.loss_fn_inputs\['target_tokens'\]: missing, ppo needs it"),
        ({"target_tokens": [1, 2, 3], "logprobs": [0.0] * 3}, "dro", r"\['advantages'\]: missing"),
        ({"weights": TensorData([1, 1, 1])}, "cross_entropy", r"\['weights'\]: expected dtype float32, got int64"),
        ({"target_tokens": TensorData([1.0, 2, 3])}, "cross_entropy", "expected dtype int64, got float32"),
        ({"weights": TensorData([[1.0], [1.0], [1.0]])}, "cross_entropy", r"shape \[3, 1\]"),
        ({"target_tokens": [1, 40, 2]}, "cross_entropy", r"40 is neither -100 nor a token id below 40"),
        ({"target_tokens": [1, -1, 2]}, "cross_entropy", "-1 is neither"),
        ({"reward": [1.0, 1.0, 1.0]}, "cross_entropy", r"\['reward'\]: no loss has such an input"),
        (RL | {"clip_low_threshold": [0.1] * 3}, "importance_sampling", "importance_sampling has no such threshold"),
    ],
)
def test_refused_inputs(inputs: dict[str, Any], loss_fn: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        datums.check([Datum([1, 2, 3], RL), Datum([1, 2, 3], inputs)], loss_fn, None, LIMITS)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([1, 50], r"data\[1\]\.model_input\.chunks\[0\]: token id 50 is outside the vocabulary of 50"),
        ([], "expected 1 to 8 tokens, got 0"),
        (range(9), "expected 1 to 8 tokens, got 9"),
        (ModelInput((ImageChunk("aGk=", 2),)), r"chunks\[0\]: an image"),
    ],
)
def test_refused_tokens(tokens: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        datums.check([Datum([1]), Datum(tokens)], "cross_entropy", None, LIMITS)


def test_no_data() -> None:
    with pytest.raises(InvalidInputError, match="data: expected at least one datum"):
        datums.check([], "cross_entropy", None, LIMITS)


def test_without_targets_the_input_is_shifted() -> None:
    batch = datums.columns([Datum([5, 6, 7])], "cross_entropy", {})
    assert batch.targets.tolist() == [6, 7, 0]
    assert batch.kept.tolist() == [True, True, False]


def test_masks_weights_and_advantages() -> None:
    inputs = {**RL, "target_tokens": [1, -100, 3], "mask": [1.0, 1.0, 0.5], "weights": [0.0, 1.0, 3.0]}
    batch = datums.columns([Datum([9, 9, 9], inputs)], "cross_entropy", {})
    assert batch.kept.tolist() == [True, False, True]
    assert batch.scale.tolist() == [0.0, 0.0, 1.5]
    assert batch.live.tolist() == [False, False, True]
    rl = datums.columns([Datum([9, 9, 9], RL)], "importance_sampling", {})
    assert rl.live.tolist() == [True, False, True]
    assert datums.columns([Datum([9, 9, 9], RL)], "dro", {"beta": 0.05}).live.all()


def test_thresholds_per_token_override_the_setting() -> None:
    inputs = {**RL, "clip_low_threshold": [0.1, 0.2, 0.3]}
    given = datums.columns([Datum([9, 9, 9], inputs)], "ppo", losses.settings("ppo", None)).given
    np.testing.assert_allclose(given["clip_low_threshold"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(given["clip_high_threshold"], [1.2, 1.2, 1.2])


def test_several_datums_in_one_after_another() -> None:
    batch = datums.columns([Datum([1, 2], {"weights": [1.0, 2.0]}), Datum([3])], "cross_entropy", {})
    assert batch.tokens.tolist() == [1, 2, 3]
    assert batch.kept.tolist() == [True, False, False]
    assert batch.scale.tolist() == [1.0, 0.0, 0.0]
