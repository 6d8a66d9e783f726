"""What all values have in common: made from plain data and turned back, by the methods that scripts know."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loops_sdk
from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker import types
from loops_sdk_sync.tinker.types._model import OpenModel, StrictModel

CHECKPOINT = types.Checkpoint(
    checkpoint_id="weights/a",
    checkpoint_type="training",
    time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    tinker_path="tinker://run/weights/a",
)
VALUES: list[Any] = [
    types.AdamOptimizerConfig(),
    types.AdamParams(learning_rate=3e-4),
    CHECKPOINT,
    types.CheckpointsListResponse(checkpoints=[CHECKPOINT]),
    types.CustomLossInput(name="logprobs", rank=1),
    types.DimuonParams(learning_rate=0.1),
    types.DmelChunk(dmel=b"\x02\x02\x05\x50"),
    types.EncodedTextChunk(tokens=[1, 2]),
    types.GetInfoResponse(model_data=types.ModelData(arch="a"), model_id="m"),
    types.ImageAssetPointerChunk(format="png", location="somewhere"),
    types.ImageChunk(data=b"abc", format="png", expected_tokens=4),
    types.LoraConfig(rank=8, train_mlp=False),
    types.ModelInput(chunks=[types.EncodedTextChunk(tokens=[1]), types.ImageChunk(data=b"abc", format="jpeg")]),
    types.OptimStepRequest(optim_params=types.DimuonParams(type="dimuon", learning_rate=1), model_id="m"),
    types.OptimStepResponse(metrics={"lr": 1.0}),
    types.SampleRequest(prompt=types.ModelInput.from_ints([1]), sampling_params=types.SamplingParams(stop=[1])),
    types.SamplingParams(max_tokens=3, stop=["a"]),
    types.TrainingRun(
        training_run_id="r",
        base_model="b",
        model_owner="o",
        is_lora=True,
        last_request_time=CHECKPOINT.time,
        last_checkpoint=CHECKPOINT,
    ),
]


def named(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_plain_data_makes_the_same_value_again(value: Any) -> None:
    assert type(value).model_validate(value.model_dump()) == value
    assert type(value).model_validate_json(value.model_dump_json()) == value
    assert type(value).model_validate(value.model_dump(mode="json", exclude_unset=True)) == value
    assert type(value).model_validate(value) is value


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_copies_are_equal_and_know_what_was_given(value: Any) -> None:
    sent = pickle.loads(pickle.dumps(value))
    for twin in (sent, copy.copy(value), copy.deepcopy(value), value.model_copy(), value.model_copy(deep=True)):
        assert twin == value
        assert twin.model_fields_set == value.model_fields_set


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_values_are_frozen(value: Any) -> None:
    name = next(iter(type(value).model_fields))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, getattr(value, name))


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_json_is_json(value: Any) -> None:
    assert json.loads(value.model_dump_json(indent=2)) == value.model_dump(mode="json")


def test_fields_are_given_by_name() -> None:
    with pytest.raises(InvalidInputError, match="rank: LoraConfig needs this field"):
        types.LoraConfig(8)  # type: ignore[misc, call-arg]
    with pytest.raises(InvalidInputError, match="ranks: LoraConfig has no such field; it has rank, seed"):
        types.LoraConfig(rank=1, ranks=2)  # type: ignore[call-arg]


def test_unknown_fields_are_refused_or_passed_over() -> None:
    with pytest.raises(InvalidInputError, match="alpha: LoraConfig has no such field"):
        types.LoraConfig.model_validate({"rank": 1, "alpha": 2})
    assert types.Cursor.model_validate({"offset": 0, "limit": 1, "total_count": 2, "new": 3}).total_count == 2
    assert not issubclass(types.LoraConfig, OpenModel)
    assert issubclass(types.LoraConfig, StrictModel)


def test_what_is_no_plain_data_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="LoraConfig: expected a dict of its fields, got list"):
        types.LoraConfig.model_validate([1])
    for text in ("{", b"\xff"):
        with pytest.raises(InvalidInputError, match="LoraConfig: expected a JSON document"):
            types.LoraConfig.model_validate_json(text)


def test_a_dump_holds_what_is_asked_for() -> None:
    params = types.SamplingParams(max_tokens=4, seed=None)
    assert params.model_dump(exclude_unset=True) == {"max_tokens": 4, "seed": None}
    assert params.model_dump(exclude_unset=True, exclude_none=True) == {"max_tokens": 4}
    assert params.model_dump(include={"top_k", "top_p"}, exclude={"top_p"}) == {"top_k": -1}
    assert types.SamplingParams(stop=("a",)).model_dump()["stop"] == ("a",)
    assert types.SamplingParams(stop=("a",)).model_dump(mode="json")["stop"] == ["a"]
    assert dict(types.ModelInput.from_ints([1]))["chunks"] == [types.EncodedTextChunk(tokens=[1])]


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        types.OptimStepResponse(metrics={"loss": float("nan")}).model_dump_json()


def test_a_copy_can_differ_and_is_checked() -> None:
    assert types.LoraConfig(rank=1, seed=3).model_copy(update={"rank": 2}) == types.LoraConfig(rank=2, seed=3)
    with pytest.raises(InvalidInputError, match="rank: expected a whole number, got str 'x'"):
        types.LoraConfig(rank=1).model_copy(update={"rank": "x"})


def test_fields_say_whether_they_are_required() -> None:
    assert [name for name, field in types.LoraConfig.model_fields.items() if field.is_required()] == ["rank"]
    assert types.SamplingParams.model_fields["top_k"].default == -1


def test_containers_are_copied() -> None:
    tokens = [1, 2]
    chunk = types.EncodedTextChunk(tokens=tokens)
    tokens.append(3)
    assert chunk.tokens == [1, 2]


def test_a_class_of_pydantic_may_hold_them() -> None:
    class Mine(pydantic.BaseModel):
        params: types.SamplingParams
        datum: types.Datum | None = None

    mine = Mine.model_validate({"params": {"max_tokens": 3}})
    assert mine.params == types.SamplingParams(max_tokens=3)
    assert Mine(params=mine.params).params is mine.params
    assert Mine.model_validate_json(mine.model_dump_json()) == mine
    datum = types.Datum(types.ModelInput.from_ints([1]), {"weights": [0.5]})
    again = Mine.model_validate(Mine(params=mine.params, datum=datum).model_dump()).datum
    assert again is not None
    assert again.loss_fn_inputs["weights"].data == [0.5]
    with pytest.raises(pydantic.ValidationError, match="max_tokens: expected a whole number"):
        Mine.model_validate({"params": {"max_tokens": "many"}})


def test_adam_params_are_those_of_the_other_clients() -> None:
    params = types.AdamParams(learning_rate=1, grad_clip_norm=2)
    assert isinstance(params, loops_sdk.AdamParams)
    assert loops_sdk.to_dict(params) == loops_sdk.to_dict(loops_sdk.AdamParams(1.0, grad_clip_norm=2.0))
    assert type(params.learning_rate) is float
    with pytest.raises(InvalidInputError, match="beta1: expected a value >= 0 and < 1, got 2"):
        types.AdamParams(beta1=2)


ADAM = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": st.floats(0, 10),
        "beta1": st.floats(0, 1, exclude_max=True),
        "beta2": st.floats(0, 1, exclude_max=True),
        "eps": st.floats(0, 1),
        "weight_decay": st.integers(0, 3),
    },
)


@given(ADAM)
def test_whatever_is_given_comes_back(fields: dict[str, Any]) -> None:
    params = types.AdamParams(**fields)
    assert params.model_dump(exclude_unset=True) == fields
    assert types.AdamParams.model_validate_json(params.model_dump_json()) == params
    assert hash(pickle.loads(pickle.dumps(params))) == hash(params)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_dimuon_takes_rates_that_are_some(value: float) -> None:
    with pytest.raises(InvalidInputError, match="learning_rate: expected a"):
        types.DimuonParams(learning_rate=value)
    with pytest.raises(InvalidInputError, match="beta1: expected a"):
        types.DimuonParams(learning_rate=0, beta1=value)
