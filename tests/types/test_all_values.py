"""What every public value can do: stay as it is, be compared, copied, pickled, written as JSON, and shown briefly."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

import loops_sdk
from loops_sdk import from_dict, instrumentation, to_dict, types

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PIXEL = "aGVsbG8="


def file(name: str = "adapter.safetensors") -> types.CheckpointFile:
    return types.CheckpointFile("https://store/x?signature=secret", name, 0, 10, "2026-01-01T12:00:00Z")


def checkpoint(name: str = "step-1") -> types.Checkpoint:
    lora = types.LoraConfig("v1", ["q_proj", "v_proj"], "per_expert")
    return types.Checkpoint("c1", name, "r1", "trainer", "lora", "m", 10, NOON, {"r": 8}, lora, "COMPLETE")


def sampler(name: str = "sam") -> types.Sampler:
    machine = types.InstanceType("i", "H100", 1024, 8000, 1, "H100", 81920)
    return types.Sampler(name, "http://s", "m", NOON, types.Status("ACTIVE"), types.User("a@b"), "mo", "de", machine, 2)


def result(token: int = 7) -> types.SampleResult:
    sequence = types.SampledSequence([token, 8], [-0.5, -1.0], "stop")
    return types.SampleResult([sequence], 3, [None, -1.5], [None, {5: -0.1, 7: -2.0}], [1, 2])


def passed(loss: float = 1.5) -> types.ForwardBackwardOutput:
    outputs = [{"logprobs": types.TensorData([-0.5, float("nan")])}]
    return types.ForwardBackwardOutput(loss, {"loss:sum": loss}, outputs, "per_token")


def datum(token: int = 1) -> types.Datum:
    return types.Datum([token, 2], {"target_tokens": [2, -100], "weights": [1.0, 0.0]})


#: For every type two values that differ, with all that can be said filled in by the first.
EXAMPLES: dict[type[Any], tuple[Any, Any]] = {
    types.AdamParams: (types.AdamParams(1e-3, 0.8, 0.9, 1e-8, 0.1, 1.0), types.AdamParams()),
    types.BasetenDeployment: (
        types.BasetenDeployment("https://s", "mo", "de", "https://api"),
        types.BasetenDeployment("https://s", "mo", "de"),
    ),
    types.Checkpoint: (checkpoint(), checkpoint("step-2")),
    types.CheckpointFile: (file(), file("config.json")),
    types.CheckpointFilesResponse: (
        types.CheckpointFilesResponse([file()], 1000, 2000),
        types.CheckpointFilesResponse([]),
    ),
    types.CheckpointPath: (types.CheckpointPath("r", "weights", "a"), types.CheckpointPath("r", "weights", "b")),
    types.CheckpointSource: (types.CheckpointSource("volume", "v", "/a"), types.CheckpointSource("s3")),
    types.Datum: (datum(), datum(3)),
    types.Deactivated: (types.Deactivated("a", "m", types.User("a@b")), types.Deactivated("a", "m")),
    types.EnablementDetails: (types.EnablementDetails("a", "b", "c"), types.EnablementDetails("a", "b", "d")),
    types.EncodedTextChunk: (types.EncodedTextChunk([1, 2]), types.EncodedTextChunk([])),
    types.ForwardBackwardOutput: (passed(), passed(2.5)),
    types.OperationInfo: (
        types.OperationInfo("optim_step", "op-1", "done", "key"),
        types.OperationInfo("optim_step", "op-1", "queued"),
    ),
    types.GetInfoResponse: (types.GetInfoResponse("m", 8, 512), types.GetInfoResponse("m", 8)),
    types.ImageChunk: (types.ImageChunk(PIXEL, 4, "jpeg"), types.ImageChunk(PIXEL, 4)),
    types.InitTrainerServerResponse: (types.InitTrainerServerResponse(8), types.InitTrainerServerResponse()),
    types.InstanceType: (types.InstanceType("i", "n", 1, 2, 3, "g", 4), types.InstanceType("i", "n", 1, 2, 3)),
    types.LoadWeightsResponse: (types.LoadWeightsResponse("p", "t", 3), types.LoadWeightsResponse("p")),
    types.LocalDeployment: (types.LocalDeployment("http://a"), types.LocalDeployment("http://b")),
    types.LoraConfig: (types.LoraConfig("v1", ["q"], "e"), types.LoraConfig("v1", ["q"])),
    types.ModelDeployment: (types.ModelDeployment("a", "b", "ACTIVE", "n", 2), types.ModelDeployment("a", "b", "X")),
    types.ModelInput: (
        types.ModelInput([types.EncodedTextChunk([1]), types.ImageChunk(PIXEL, 4)]),
        types.ModelInput.empty(),
    ),
    types.OptimStepResponse: (types.OptimStepResponse({"step": 1.0}), types.OptimStepResponse()),
    types.Run: (
        types.Run("r", "s", "n", "m", "http://t", NOON, types.Status("X"), types.User("a"), "d", "v1", sampler()),
        types.Run("r", "s", "n", "m", "http://t", NOON, types.Status("Y")),
    ),
    types.SampleResult: (result(), result(9)),
    types.SampledSequence: (
        types.SampledSequence([1], [-0.5], "stop"),
        types.SampledSequence([1], [-0.5], "length"),
    ),
    types.Sampler: (sampler(), sampler("other")),
    types.SamplingParams: (types.SamplingParams(0.5, 0.9, 40, 16, 7, ["END", "."]), types.SamplingParams(stop=[7])),
    types.SaveWeightsResponse: (types.SaveWeightsResponse("p", "t", 3), types.SaveWeightsResponse("p")),
    types.ServerCapabilities: (
        types.ServerCapabilities([types.SupportedModel("m", 512)]),
        types.ServerCapabilities([]),
    ),
    types.Session: (types.Session("a"), types.Session("b")),
    types.Status: (types.Status("a"), types.Status("b")),
    types.SupportedModel: (
        types.SupportedModel("m", 512, 256, True, False, False, types.EnablementDetails("a", "b", "c")),
        types.SupportedModel("m", 512),
    ),
    types.Team: (types.Team("a", "b"), types.Team("a", "c")),
    types.TensorData: (types.TensorData([[1.5, float("nan")]]), types.TensorData([[1, 2]])),
    types.TrainerDeployment: (
        types.TrainerDeployment(
            "d", "m", "http://t", NOON, types.Status("X"), types.User("a"), "r1", "r2", "shared", None, 2, sampler()
        ),
        types.TrainerDeployment("d", "m", "http://t", NOON, types.Status("X")),
    ),
    types.User: (types.User("a@b"), types.User()),
    types.WandbConfig: (types.WandbConfig("p", "n"), types.WandbConfig("p")),
    instrumentation.Event: (instrumentation.Event("sample"), instrumentation.Event("forward")),
    instrumentation.MetricsLogged: (
        instrumentation.MetricsLogged("log_metrics", "r", 1, {"reward": 0.5}, 3),
        instrumentation.MetricsLogged("log_metrics", None, 1, {}),
    ),
    instrumentation.OperationFinished: (
        instrumentation.OperationFinished("forward", "op", 1.5, "it broke"),
        instrumentation.OperationFinished("forward", "op", 1.5),
    ),
    instrumentation.OperationMeasured: (
        instrumentation.OperationMeasured("forward", "r", 1, 1.5, {"a": 1.0}, 2, 3.5, 4, 3, 0.25),
        instrumentation.OperationMeasured("forward", None, 1, 1.5, {}, None),
    ),
    instrumentation.OperationSubmitted: (
        instrumentation.OperationSubmitted("forward", "op", "key", "http://t", 1.5),
        instrumentation.OperationSubmitted("forward", "op", "key", "http://t", 2.5),
    ),
    instrumentation.RequestRetried: (
        instrumentation.RequestRetried("forward", "http://t", 1, 0.5, "reset"),
        instrumentation.RequestRetried("forward", "http://t", 2, 0.5, "reset"),
    ),
    instrumentation.KeepAliveFailed: (
        instrumentation.KeepAliveFailed("keep_alive", "http://t", "reset"),
        instrumentation.KeepAliveFailed("keep_alive", "http://t", "dns"),
    ),
    instrumentation.Call: (
        instrumentation.Call("sample", "http://t", "key", "op", "r", "m", "sam"),
        instrumentation.Call("sample", "http://t"),
    ),
    instrumentation.SubmissionFailed: (
        instrumentation.SubmissionFailed("forward", "key", "http://t", 1.5, "reset", "ConnectionFailed", "r"),
        instrumentation.SubmissionFailed("forward", "key", "http://t", 1.5, "reset", "CancelledError"),
    ),
    instrumentation.WaitStarted: (
        instrumentation.WaitStarted("trainer_ready", 1, "trainer of run r", "r"),
        instrumentation.WaitStarted("trainer_ready", 2, "trainer of run r", "r"),
    ),
    instrumentation.WaitAdvanced: (
        instrumentation.WaitAdvanced("download_checkpoint", 1, None, 10, 20),
        instrumentation.WaitAdvanced("sampler_ready", 1, "LOADING_MODEL"),
    ),
    instrumentation.WaitFinished: (
        instrumentation.WaitFinished("publish", 1, 2.5),
        instrumentation.WaitFinished("publish", 1, 2.5, "too late", "WeightsNotReadyError", "r"),
    ),
    instrumentation.SampleFailed: (
        instrumentation.SampleFailed("sample", 1.5, "reset", "ConnectionFailed", 2, "r"),
        instrumentation.SampleFailed("sample", 1.5, "reset", "ConnectionFailed"),
    ),
    instrumentation.SampleFinished: (
        instrumentation.SampleFinished("sample", 1.5, 3, 4, 5, "r"),
        instrumentation.SampleFinished("sample", 1.5, 3),
    ),
}
#: Results hold plain lists and dicts, which have no hash; what goes into calls has one throughout.
WITHOUT_HASH = {
    types.CheckpointFilesResponse,
    types.ForwardBackwardOutput,
    types.LoraConfig,
    types.OptimStepResponse,
    types.SampleResult,
    types.SampledSequence,
    types.ServerCapabilities,
    instrumentation.MetricsLogged,
    instrumentation.OperationMeasured,
}
MANY = 100_000
#: A value that holds as much as it may, for every type that can hold much.
LARGE: dict[type[Any], Callable[[], Any]] = {
    types.Checkpoint: lambda: attrs.evolve(checkpoint(), lora_config=types.LoraConfig("v1", ["q_proj"] * MANY)),
    types.CheckpointFilesResponse: lambda: types.CheckpointFilesResponse([file()] * MANY),
    types.Datum: lambda: types.Datum([1] * MANY, {"weights": [0.1] * MANY, "target_tokens": [1] * MANY}),
    types.EncodedTextChunk: lambda: types.EncodedTextChunk([1] * MANY),
    types.ForwardBackwardOutput: lambda: types.ForwardBackwardOutput(1.0, {"a": 1.0}, passed().loss_fn_outputs * MANY),
    types.ImageChunk: lambda: types.ImageChunk("aaaa" * MANY, 1),
    types.LoraConfig: lambda: types.LoraConfig("v1", ["q_proj"] * MANY),
    types.ModelInput: lambda: types.ModelInput([types.EncodedTextChunk([1] * 10)] * MANY),
    types.SampleResult: lambda: types.SampleResult(
        [types.SampledSequence([1] * MANY, [-0.5] * MANY, "stop")] * MANY,
        1,
        [-0.5] * MANY,
        [{1: -0.5}] * MANY,
        [1] * MANY,
    ),
    types.SampledSequence: lambda: types.SampledSequence([1] * MANY, [-0.5] * MANY, "stop"),
    types.SamplingParams: lambda: types.SamplingParams(stop=["END"] * MANY),
    types.ServerCapabilities: lambda: types.ServerCapabilities([types.SupportedModel("m", 512)] * MANY),
    types.TensorData: lambda: types.TensorData([0.1] * MANY),
}

KINDS = pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)


def test_no_public_type_is_without_an_example() -> None:
    doors = (loops_sdk, types, instrumentation)
    public = {kind for door in doors for name in door.__all__ if attrs.has(kind := getattr(door, name))}
    assert public == set(EXAMPLES)


def test_no_type_with_a_sequence_is_without_a_large_example() -> None:
    """Fields whose length the caller or a server decides; a dict's keys are few by what they mean."""
    long = ("list[", "tuple[", "NDArray")
    holding = {kind for kind in EXAMPLES if any(str(field.type).startswith(long) for field in attrs.fields(kind))}
    assert holding - set(LARGE) == set()


@KINDS
def test_nothing_can_be_set(kind: type[Any]) -> None:
    value, other = EXAMPLES[kind]
    for field in attrs.fields(kind):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, getattr(other, field.name))
    with pytest.raises(AttributeError):
        value.something_else = 1


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": lambda value: from_dict(type(value), json.loads(json.dumps(to_dict(value), allow_nan=True))),
    "evolve": attrs.evolve,
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@KINDS
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_equal_and_of_the_same_type(kind: type[Any], way: str) -> None:
    for value in EXAMPLES[kind]:
        made = COPIES[way](value)
        assert type(made) is kind
        assert made == value
        assert repr(made) == repr(value)


@KINDS
def test_equality_is_by_value_and_type(kind: type[Any]) -> None:
    value, other = EXAMPLES[kind]
    assert value != other
    assert value != object()
    assert value != to_dict(value)


@KINDS
def test_equal_values_have_one_hash(kind: type[Any]) -> None:
    value, other = EXAMPLES[kind]
    if kind in WITHOUT_HASH:
        with pytest.raises(TypeError, match="unhashable"):
            hash(value)
    else:
        assert len({value, other, pickle.loads(pickle.dumps(value))}) == 2


@KINDS
def test_a_value_can_be_had_with_fields_changed(kind: type[Any]) -> None:
    value, other = EXAMPLES[kind]
    if kind is types.TensorData:  # its data, dtype and shape only make sense together
        assert attrs.evolve(value, data=[[1.0, 2.0]]) == types.TensorData([[1.0, 2.0]])
        return
    made = attrs.evolve(value, **{field.name: getattr(other, field.name) for field in attrs.fields(kind)})
    assert made == other
    assert value != other


@KINDS
def test_it_shows_what_it_is_on_one_short_line(kind: type[Any]) -> None:
    large = [LARGE[kind]()] if kind in LARGE else []
    for value in (*EXAMPLES[kind], *large):
        shown = repr(value)
        assert shown.startswith(f"{kind.__name__}(")
        assert "\n" not in shown
        assert "secret" not in shown
        assert len(shown) < 1100


def test_the_length_of_what_is_cut_is_shown() -> None:
    assert "... 100000 in all]" in repr(LARGE[types.SampledSequence]())
    assert repr(types.SampledSequence([1, 2], [-0.5, -1.0], "stop")) == (
        "SampledSequence(tokens=[1, 2], logprobs=[-0.5, -1.0], stop_reason='stop')"
    )
    assert repr(types.SamplingParams(stop=range(7))).endswith("stop=(0, 1, 2, 3, ... 7 in all))")


# ---------------------------------------------------------------- what a datum holds


def test_the_inputs_of_a_datum_are_a_copy_that_cannot_be_changed() -> None:
    given = {"weights": [1.0, 0.0]}
    value = types.Datum([1, 2], given)
    given["weights"] = [5.0, 5.0]
    assert value.loss_fn_inputs["weights"].tolist() == [1.0, 0.0]
    for made in (value, copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        inputs = made.loss_fn_inputs
        changes: list[Callable[[], object]] = [
            lambda inputs=inputs: inputs.__setitem__("weights", types.TensorData([1.0])),
            lambda inputs=inputs: inputs.__delitem__("weights"),
            lambda inputs=inputs: inputs.__ior__({"a": types.TensorData([1.0])}),
            lambda inputs=inputs: inputs.update({"a": types.TensorData([1.0])}),
            lambda inputs=inputs: inputs.setdefault("a", types.TensorData([1.0])),
            lambda inputs=inputs: inputs.pop("weights"),
            lambda inputs=inputs: inputs.popitem(),
            lambda inputs=inputs: inputs.clear(),
        ]
        for change in changes:
            with pytest.raises(TypeError, match=r"^loss_fn_inputs cannot be changed; make a new value from \{"):
                change()
        assert made == types.Datum([1, 2], {"weights": [1.0, 0.0]})


def test_a_datum_with_more_inputs_is_made_from_one() -> None:
    value = types.Datum([1, 2], {"weights": [1.0, 0.0]})
    more = attrs.evolve(value, loss_fn_inputs={**value.loss_fn_inputs, "advantages": [0.5, 0.5]})
    assert [*more.loss_fn_inputs] == ["weights", "advantages"]
    assert more.loss_fn_inputs["weights"] is value.loss_fn_inputs["weights"]
    plain = dict(value.loss_fn_inputs)
    plain["own"] = types.TensorData([1, 2])
    assert plain != value.loss_fn_inputs
    assert type(value.loss_fn_inputs | {"a": types.TensorData([1])}) is dict
