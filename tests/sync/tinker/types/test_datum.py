"""One training example: what a loss may be given, and where its tokens came from."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types import Datum, ModelInput, PromptProvenanceSpan, SampledProvenanceSpan, TensorData

RUN = ModelInput.from_ints([1, 2, 3])
PROMPT = PromptProvenanceSpan(sequence_id="a", length=3)
SAMPLED = SampledProvenanceSpan(sequence_id="a", length=2)


def content(datum: Datum) -> dict[str, Any]:
    return {name: (tensor.dtype, tensor.tolist()) for name, tensor in datum.loss_fn_inputs.items()}


def test_lists_arrays_and_tensors_become_tensors() -> None:
    datum = Datum(RUN, {"target_tokens": [2, 3.0], "weights": [1, 0.5], "any": np.array([[1], [2]]), "advantages": []})
    assert content(datum) == {
        "target_tokens": ("int64", [2, 3]),
        "weights": ("float32", [1.0, 0.5]),
        "any": ("int64", [[1], [2]]),
        "advantages": ("float32", []),
    }
    given = TensorData([1], "int64")
    assert Datum(RUN, {"x": given}).loss_fn_inputs["x"] is given


def test_matrices_of_torch_are_sparse_where_that_is_smaller() -> None:
    torch = pytest.importorskip("torch")
    targets = torch.zeros(4, 16, dtype=torch.int64)
    targets[1, 3] = 9
    inputs = Datum(
        RUN, {"target_tokens": targets, "logprobs": targets.float(), "weights": torch.ones(3)}
    ).loss_fn_inputs
    assert inputs["target_tokens"].sparse_col_indices == [3]
    assert inputs["logprobs"].sparse_col_indices is None
    assert inputs["weights"].data == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("weights", "ab", TypeError, r"loss_fn_inputs\['weights'\]: expected TensorData, an array or a list, got str"),
        ("weights", [[1], [1, 2]], InvalidInputError, r"loss_fn_inputs\['weights'\]: expected numbers in a regular"),
        ("weights", ["a"], InvalidInputError, r"loss_fn_inputs\['weights'\]: expected numbers"),
        ("mine", [1], InvalidInputError, r"loss_fn_inputs\['mine'\]: expected TensorData, since no type is known"),
    ],
)
def test_what_is_no_tensor_is_refused(name: str, value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Datum(RUN, {name: value})


def test_inputs_can_be_assigned_to_and_the_callers_dict_is_not_touched() -> None:
    given: Any = {"weights": [1.0]}
    datum = Datum(RUN, given)
    datum.loss_fn_inputs["weights"] = TensorData([2.0], "float32")
    assert datum.loss_fn_inputs["weights"].data == [2.0]
    assert given == {"weights": [1.0]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        datum.loss_fn_inputs = {}  # type: ignore[misc]


def test_it_is_a_dataclass() -> None:
    datum = Datum(RUN, {"weights": [1.0]})  # type: ignore[dict-item]
    assert content(dataclasses.replace(datum, loss_fn_inputs={"weights": [2]})) == {"weights": ("float32", [2.0])}
    assert dataclasses.asdict(datum)["model_input"] == RUN
    assert [field.name for field in dataclasses.fields(Datum)] == list(Datum.model_fields)


def test_plain_data_makes_it_again() -> None:
    datum = Datum(RUN, {"weights": [1.0, 0.5]})  # type: ignore[dict-item]
    plain = datum.model_dump()
    assert set(plain) == {"model_input", "loss_fn_inputs"}
    twins = [Datum.model_validate(plain), Datum.model_validate_json(datum.model_dump_json()), datum.model_copy()]
    for twin in (*twins, copy.deepcopy(datum), pickle.loads(pickle.dumps(datum))):
        assert twin.model_input == RUN
        assert content(twin) == content(datum)


def test_provenance_covers_every_position() -> None:
    datum = Datum(RUN, {"target_tokens": [4, 5]}).with_provenance([PROMPT], [SAMPLED])  # type: ignore[dict-item]
    assert (datum.model_input_spans, datum.loss_fn_input_spans) == ([PROMPT], [SAMPLED])
    assert datum.model_dump()["loss_fn_input_spans"] == [{"sequence_id": "a", "offset": 0, "length": 2}]
    with pytest.raises(InvalidInputError, match="model_input: the spans cover 2 positions, but there are 3"):
        datum.with_provenance([SAMPLED], [SAMPLED])
    with pytest.raises(InvalidInputError, match="loss_fn_inputs: the spans cover 3 positions, but there are 2"):
        datum.with_provenance([PROMPT], [PROMPT])


def test_provenance_comes_in_pairs_of_spans() -> None:
    with pytest.raises(InvalidInputError, match="expected both or neither"):
        Datum(RUN, {}, [PROMPT])
    with pytest.raises(TypeError, match="loss_fn_input_spans: expected provenance spans, got int"):
        Datum(RUN, {}, [PROMPT], [1])  # type: ignore[list-item]


@pytest.mark.parametrize("kind", [PromptProvenanceSpan, SampledProvenanceSpan])
def test_spans_are_checked(kind: Any) -> None:
    for wrong in ({"length": -1}, {"length": 1, "offset": -1}, {"length": 1, "sequence_id": ""}):
        with pytest.raises(InvalidInputError, match=kind.__name__):
            kind(**{"sequence_id": "a", **wrong})
