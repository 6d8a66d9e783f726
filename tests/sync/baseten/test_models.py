"""The values under the service's names: the classes of `loops_sdk`, with what scripts call on them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import attrs
import pytest

import loops_sdk
import loops_sdk_sync
from loops_sdk import InvalidInputError
from loops_sdk_sync import baseten
from loops_sdk_sync.baseten import models, sampling_client
from loops_sdk_sync.baseten.helpers.datum import as_datum
from loops_sdk_sync.baseten.models import Datum, TensorData

VALUES = [name for name in models.__all__ if attrs.has(getattr(models, name))]
TINKER_DUMP = {
    "model_input": {"chunks": [{"tokens": [5, 6], "type": "encoded_text"}, {"tokens": [7], "type": "encoded_text"}]},
    "loss_fn_inputs": {
        "target_tokens": {"data": [6, 7, -100], "dtype": "int64", "shape": [3]},
        "weights": {"data": [0.0, 1.0, 0.5], "dtype": "float32", "shape": None},
    },
}


def validated(kind: Any, obj: Any) -> Any:
    return kind.model_validate(obj)


def test_they_are_the_classes_of_the_core() -> None:
    for door in (models, baseten, sampling_client):
        for name in set(door.__all__) - {"ServiceClient", "TrainingClient", "types"}:
            assert getattr(door, name) is getattr(loops_sdk_sync, name), name
    values = {name for name in loops_sdk.__all__ if attrs.has(getattr(loops_sdk, name))}
    assert set(VALUES) == values
    assert baseten.types is models


def test_all_of_the_facade_is_there() -> None:
    assert set(baseten.__all__) == {*loops_sdk_sync.__all__, "types"}
    assert [name for name in baseten.__all__ if not hasattr(baseten, name)] == []


def test_a_tinker_datum_comes_over_by_its_dump() -> None:
    datum = validated(Datum, TINKER_DUMP)
    chunks = [loops_sdk.EncodedTextChunk([5, 6]), loops_sdk.EncodedTextChunk([7])]
    assert datum == Datum(loops_sdk.ModelInput(chunks), {"target_tokens": [6, 7, -100], "weights": [0.0, 1.0, 0.5]})
    again = json.loads(json.dumps(datum.model_dump(mode="json")))
    assert validated(Datum, again) == datum == validated(Datum, datum)


def test_a_datum_of_the_tinker_namespace_comes_over_too() -> None:
    from loops_sdk_sync.tinker import types

    inputs = {"target_tokens": [6, 7], "weights": [0.0, 1.0]}
    theirs = types.Datum(model_input=types.ModelInput.from_ints([5, 6]), loss_fn_inputs=inputs)
    assert validated(Datum, theirs.model_dump()) == as_datum(theirs) == Datum([5, 6], inputs)


def test_what_the_service_has_no_place_for_is_refused_when_it_is_set() -> None:
    tensor = {"data": [1.0], "dtype": "float32", "shape": [1, 3], "sparse_crow_indices": None}
    assert validated(TensorData, {**tensor, "shape": [1]}) == TensorData([1.0])
    with pytest.raises(InvalidInputError, match="unknown field sparse_crow_indices"):
        validated(TensorData, {**tensor, "sparse_crow_indices": [0, 1]})


@pytest.mark.parametrize("name", VALUES)
def test_every_value_can_be_dumped_and_validated(name: str) -> None:
    kind = getattr(models, name)
    assert kind.model_dump is models.model_dump
    with pytest.raises(InvalidInputError):
        kind.model_validate({"no such field": 1})


def test_results_can_be_dumped() -> None:
    passed = models.ForwardBackwardOutput(1.5, {"loss:sum": 1.5}, [{"logprobs": TensorData([-0.5])}])
    plain: Any = passed.model_dump()  # type: ignore[attr-defined]
    assert plain["metrics"] == {"loss:sum": 1.5}
    assert plain["loss_fn_outputs"] == [{"logprobs": {"data": [-0.5], "dtype": "float32", "shape": [1]}}]
    assert validated(models.ForwardBackwardOutput, plain) == passed


def test_the_clients_are_subclasses_with_the_same_calls() -> None:
    for ours, theirs in (
        (baseten.ServiceClient, loops_sdk_sync.ServiceClient),
        (baseten.TrainingClient, loops_sdk_sync.TrainingClient),
    ):
        assert issubclass(ours, theirs)
        assert inspect.signature(ours) == inspect.signature(theirs)
        changed = {name for name in vars(ours) if not name.startswith("_")}
        assert changed <= {"save_weights_and_get_sampling_client_async"}
