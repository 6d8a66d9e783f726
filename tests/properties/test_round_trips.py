"""Every public value goes through real JSON text and comes back equal."""

from __future__ import annotations

import json
import math
from datetime import UTC
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loops_sdk
from loops_sdk import from_dict, to_dict
from loops_sdk._wire import codec
from loops_sdk.types import sessions

int64 = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**63 - 1)
float32 = st.floats(width=32)
finite = st.floats(allow_nan=False, allow_infinity=False)
betas = st.floats(0, 1, exclude_max=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
times = st.datetimes(timezones=st.just(UTC))
metrics = st.dictionaries(st.text(max_size=8), finite, max_size=3)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def shapes(length: int) -> st.SearchStrategy[list[int]]:
    return st.sampled_from([[length], [1, length], [length, 1]])


def tensors_of(length: int) -> st.SearchStrategy[loops_sdk.TensorData]:
    def one(dtype: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[loops_sdk.TensorData]:
        lists = st.lists(values, min_size=length, max_size=length)
        return st.builds(loops_sdk.TensorData, lists, st.just(dtype))

    return one("int64", int64) | one("float32", float32)


tensors = st.integers(0, 5).flatmap(
    lambda length: st.builds(loops_sdk.TensorData, tensors_of(length), shape=shapes(length))
)
texts = st.builds(loops_sdk.EncodedTextChunk, st.lists(st.integers(0, 2**63 - 1), max_size=5))
images = st.builds(loops_sdk.ImageChunk, st.just("aGVsbG8="), st.integers(1, 4), st.sampled_from(["png", "jpeg"]))
inputs = st.builds(loops_sdk.ModelInput, st.lists(texts | images, max_size=3))


@st.composite
def datums(draw: st.DrawFn) -> loops_sdk.Datum:
    model_input = draw(inputs)
    tensor = tensors_of(model_input.length)
    return loops_sdk.Datum(model_input, draw(st.dictionaries(st.text(min_size=1, max_size=8), tensor, max_size=2)))


sequences = st.builds(
    loops_sdk.SampledSequence,
    st.lists(st.integers(0, 2**31), max_size=4),
    st.lists(finite, max_size=4),
    st.sampled_from(["stop", "length"]),
)
lora_configs = st.builds(loops_sdk.LoraConfig, st.text(), st.lists(st.text(), max_size=2), maybe(st.text()))
files = st.builds(loops_sdk.CheckpointFile, st.text(), st.text(), st.integers(0, 9), counts, st.text())
instances = st.builds(
    sessions.InstanceType,
    names,
    names,
    counts,
    counts,
    counts,
    maybe(names),
    maybe(counts),
)
users = st.builds(sessions.User, maybe(st.text()))
statuses = st.builds(sessions.Status, st.text())
samplers = st.builds(
    sessions.Sampler, names, st.text(), names, times, statuses, users, maybe(names), maybe(names), maybe(instances)
)

details = st.builds(loops_sdk.EnablementDetails, st.text(), st.text(), st.text())
models = st.builds(
    loops_sdk.SupportedModel,
    names,
    counts,
    counts,
    st.booleans(),
    st.booleans(),
    maybe(st.booleans()),
    maybe(details),
)

VALUES: dict[type[Any], st.SearchStrategy[Any]] = {
    loops_sdk.AdamParams: st.builds(
        loops_sdk.AdamParams, st.floats(0, 10), betas, betas, st.floats(0, 1), st.floats(0, 1)
    ),
    loops_sdk.BasetenDeployment: st.builds(
        loops_sdk.BasetenDeployment, st.just("https://s.example/v1"), names, names, st.just("https://api.example")
    ),
    loops_sdk.Checkpoint: st.builds(
        loops_sdk.Checkpoint,
        names,
        names,
        names,
        st.sampled_from(["trainer", "sampler"]),
        names,
        maybe(names),
        st.integers(0, 2**60),
        times,
        maybe(st.dictionaries(st.text(), st.integers(0, 9) | st.text() | st.booleans(), max_size=3)),
        maybe(lora_configs),
        maybe(st.sampled_from(["SYNCING", "COMPLETE", "NEW"])),
    ),
    loops_sdk.CheckpointFile: files,
    loops_sdk.CheckpointFilesResponse: st.builds(
        loops_sdk.CheckpointFilesResponse, st.lists(files, max_size=2), maybe(counts), counts
    ),
    loops_sdk.CheckpointPath: st.builds(
        loops_sdk.CheckpointPath, names, st.sampled_from(["weights", "sampler_weights"]), names
    ),
    loops_sdk.Datum: datums(),
    loops_sdk.EnablementDetails: details,
    loops_sdk.EncodedTextChunk: texts,
    loops_sdk.ForwardBackwardOutput: st.builds(
        loops_sdk.ForwardBackwardOutput,
        finite,
        metrics,
        st.lists(st.dictionaries(st.text(max_size=8), tensors, max_size=2), max_size=2),
        maybe(st.text()),
    ),
    loops_sdk.OperationInfo: st.builds(loops_sdk.OperationInfo, st.text(), st.text(), st.text(), maybe(st.text())),
    loops_sdk.GetInfoResponse: st.builds(loops_sdk.GetInfoResponse, st.text(), counts, maybe(counts)),
    loops_sdk.ImageChunk: images,
    loops_sdk.InitTrainerServerResponse: st.builds(loops_sdk.InitTrainerServerResponse, maybe(counts)),
    loops_sdk.LoadWeightsResponse: st.builds(loops_sdk.LoadWeightsResponse, st.text(), st.text(), maybe(counts)),
    loops_sdk.LocalDeployment: st.just(loops_sdk.LocalDeployment("http://127.0.0.1:8000/v1")),
    loops_sdk.LoraConfig: lora_configs,
    loops_sdk.ModelInput: inputs,
    loops_sdk.OptimStepResponse: st.builds(loops_sdk.OptimStepResponse, metrics),
    loops_sdk.SampleResult: st.builds(
        loops_sdk.SampleResult,
        st.lists(sequences, max_size=2),
        maybe(counts),
        maybe(st.lists(maybe(finite), max_size=3)),
        maybe(st.lists(maybe(st.dictionaries(st.integers(0, 99), finite, max_size=2)), max_size=3)),
        maybe(st.lists(counts, max_size=3)),
    ),
    loops_sdk.SampledSequence: sequences,
    loops_sdk.SamplingParams: st.builds(
        loops_sdk.SamplingParams,
        st.floats(0, 5),
        st.floats(0.01, 1),
        st.just(-1) | st.integers(1, 100),
        maybe(st.integers(1, 10**6)),
        maybe(st.integers(0, 2**63 - 1)),
        st.lists(st.text(min_size=1), max_size=2) | st.lists(st.integers(0, 10**6), max_size=2),
    ),
    loops_sdk.SaveWeightsResponse: st.builds(loops_sdk.SaveWeightsResponse, st.text(), st.text(), maybe(counts)),
    loops_sdk.ServerCapabilities: st.builds(loops_sdk.ServerCapabilities, st.lists(models, max_size=2)),
    loops_sdk.SupportedModel: models,
    loops_sdk.TensorData: tensors,
    loops_sdk.WandbConfig: st.builds(loops_sdk.WandbConfig, st.text(min_size=1), maybe(st.text(min_size=1))),
    sessions.Run: st.builds(
        sessions.Run,
        names,
        names,
        names,
        names,
        st.text(),
        times,
        statuses,
        users,
        maybe(names),
        maybe(names),
        maybe(samplers),
    ),
    sessions.Sampler: samplers,
    sessions.Session: st.builds(sessions.Session, names),
}


def test_no_public_value_is_forgotten() -> None:
    public = {kind for name in loops_sdk.__all__ if attrs.has(kind := getattr(loops_sdk, name))}
    assert public <= set(VALUES)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_value_comes_back_from_json_text(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    text = json.dumps(to_dict(value))
    assert from_dict(kind, json.loads(text)) == value


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_value_comes_back_from_the_wire(kind: type[Any], data: st.DataObject) -> None:
    """As above through orjson, which has no infinities and writes NaN as null."""
    value = data.draw(VALUES[kind])
    if "inf" not in json.dumps(to_dict(value)).lower():
        assert codec.decode(codec.encode(value), kind) == value


@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "loss", "metrics", "loss_fn_outputs", "dtype", "shape", "path", "type", "tokens", "chunks"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    ).map(orjson.dumps)
)
@pytest.mark.parametrize(
    "kind",
    [loops_sdk.ForwardBackwardOutput, loops_sdk.OptimStepResponse, loops_sdk.SaveWeightsResponse, loops_sdk.ModelInput],
    ids=lambda kind: kind.__name__,
)
def test_whatever_a_server_writes_is_a_value_or_a_protocol_error(kind: type[Any], body: bytes) -> None:
    try:
        value = codec.decode(body, kind)
    except loops_sdk.ProtocolError:
        return
    assert isinstance(value, kind)


@given(text=st.text(max_size=300))
def test_an_address_is_taken_apart_or_refused(text: str) -> None:
    for path in (text, f"bt://loops:run/weights/{text}", f"bt://loops:{text}/sampler_weights/x"):
        try:
            parsed = loops_sdk.CheckpointPath.parse(path)
        except loops_sdk.InvalidInputError:
            continue
        assert str(parsed) == path
        assert not {"/", "\\", "\0", ":"} & set(parsed.name + parsed.run_id)


def test_nan_and_infinity_on_the_wire() -> None:
    tensor = loops_sdk.TensorData([math.nan, math.inf, -math.inf, 1.0])
    assert codec.decode(codec.encode(tensor), loops_sdk.TensorData).tolist()[3] == 1.0
    assert from_dict(loops_sdk.TensorData, json.loads(json.dumps(to_dict(tensor)))) == tensor
