"""Bytes to values and back: variants that servers write, misspelt requests, and messages that name the field."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import attrs
import numpy as np
import pytest

from loops_sdk import (
    AdamParams,
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    Datum,
    EnablementDetails,
    ForwardBackwardOutput,
    ImageChunk,
    InitTrainerServerResponse,
    InvalidInputError,
    LoadWeightsResponse,
    LoraConfig,
    ModelInput,
    OptimStepResponse,
    ProtocolError,
    SamplingParams,
    SaveWeightsResponse,
    ServerCapabilities,
    SupportedModel,
    TensorData,
    from_dict,
    to_dict,
)
from loops_sdk._wire import codec
from loops_sdk._wire.bodies import (
    Accepted,
    CheckpointsReply,
    CreateRunBody,
    ForwardBackwardBody,
    OptimStepBody,
    RunReply,
    SaveBody,
)

RUN = {
    "id": "r1",
    "session_id": "s1",
    "name": "n",
    "base_model": "m",
    "base_url": "http://trainer",
    "created_at": "2026-01-02T03:04:05Z",
    "status": {"name": "ACTIVE"},
    "user": {"email": None},
}


def output(body: str) -> ForwardBackwardOutput:
    return codec.decode(body.encode(), ForwardBackwardOutput)


# ---------------------------------------------------------------- requests, as they travel


def test_a_batch_on_the_wire() -> None:
    datum = Datum(ModelInput.from_ints([1, 2]).append(ImageChunk("aGk=", 1)), {"target_tokens": [2, 3, -100]})
    body = json.loads(codec.encode(ForwardBackwardBody([datum])))
    chunks = [
        {"type": "encoded_text", "tokens": [1, 2]},
        {"type": "image", "data": "aGk=", "format": "png", "expected_tokens": 1},
    ]
    targets = {"data": [2, 3, -100], "dtype": "int64", "shape": [3]}
    assert body == {
        "data": [{"model_input": {"chunks": chunks}, "loss_fn_inputs": {"target_tokens": targets}}],
        "loss_fn": "cross_entropy",
    }


def test_what_is_none_is_not_sent() -> None:
    assert json.loads(codec.encode(SaveBody("x", "t"))) == {"name": "x", "trainer_server_id": "t"}
    assert json.loads(codec.encode(CreateRunBody("s", "m"))) == {"session_id": "s", "base_model": "m"}


def test_a_server_reads_what_a_client_writes() -> None:
    sent = ForwardBackwardBody([Datum([1, 2], {"weights": [0.5, math.nan]})], "ppo", {"clip_low_threshold": 0.7})
    read = codec.decode_request(codec.encode(sent), ForwardBackwardBody)
    assert (read.data, read.loss_fn, read.loss_fn_config) == (sent.data, "ppo", {"clip_low_threshold": 0.7})
    assert codec.decode_request(b"", OptimStepBody).adam_params == AdamParams()
    partial = codec.decode_request(b'{"adam_params": {"learning_rate": 1}}', OptimStepBody)
    assert partial.adam_params == AdamParams(learning_rate=1.0)


REFUSED: dict[str, tuple[type[Any], Any, str]] = {
    "not json": (OptimStepBody, b"{", "body: expected JSON, got '{'"),
    "a list": (OptimStepBody, [1], "expected an object"),
    "misspelt": (OptimStepBody, {"adam": {}}, "unknown field adam"),
    "misspelt inside": (OptimStepBody, {"adam_params": {"lr": 1}}, "unknown field lr @ $.adam_params"),
    "text for a number": (OptimStepBody, {"adam_params": {"eps": "1"}}, "expected float (got '1') @ $.adam_params.eps"),
    "bool for a number": (OptimStepBody, {"adam_params": {"eps": True}}, "(got True) @ $.adam_params.eps"),
    "null for a number": (OptimStepBody, {"adam_params": {"eps": None}}, "(got None) @ $.adam_params.eps"),
    "out of range": (OptimStepBody, {"adam_params": {"beta1": 2}}, "beta1: expected a value >= 0 and < 1, got 2"),
    "missing": (ForwardBackwardBody, {"loss_fn": "ppo"}, "data is missing"),
    "fraction of an int": (SaveBody, {"name": "x", "ttl_seconds": 1.5}, "(got 1.5) @ $.ttl_seconds"),
    "text for an int": (SaveBody, {"name": "x", "ttl_seconds": "5"}, "(got '5') @ $.ttl_seconds"),
    "a number for text": (SaveBody, {"name": 5}, "expected str (got 5) @ $.name"),
    "unknown chunk": (
        ForwardBackwardBody,
        {"data": [{"model_input": {"chunks": [{"type": "audio"}]}}]},
        "chunk type: expected encoded_text or image, got 'audio' @ $.data[0].model_input",
    ),
    "unknown field of a chunk": (
        ForwardBackwardBody,
        {"data": [{"model_input": {"chunks": [{"type": "encoded_text", "tokens": [1], "ids": []}]}}]},
        "unknown field ids @ $.data[0].model_input",
    ),
    "unknown field of a tensor": (
        ForwardBackwardBody,
        {"data": [{"model_input": {"chunks": []}, "loss_fn_inputs": {"a": {"data": [], "device": "x"}}}]},
        "unknown field device @ $.data[0].loss_fn_inputs['a']",
    ),
    "no chunks": (ForwardBackwardBody, {"data": [{"model_input": [1]}]}, "model_input: expected {'chunks': [...]}"),
    "wrong length": (
        ForwardBackwardBody,
        {"data": [{"model_input": {"chunks": []}, "loss_fn_inputs": {"a": [1]}}]},
        "loss_fn_inputs['a']: has 1 values, but model_input has 0 positions",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_by_name(name: str) -> None:
    kind, body, message = REFUSED[name]
    with pytest.raises(InvalidInputError) as caught:
        codec.decode_request(body if isinstance(body, bytes) else codec.dumps(body), kind)
    assert message in caught.value.message


def test_many_mistakes_are_told_in_one_short_text() -> None:
    data = [{"model_input": {"chunks": [{"tokens": [-1]}]}} for _ in range(50)]
    with pytest.raises(InvalidInputError, match=r"; and 45 more$") as caught:
        codec.decode_request(codec.dumps({"data": data}), ForwardBackwardBody)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, 2**70, {1: 2}, [b"bytes"]])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^expected plain data"):
        codec.dumps(value)


# ---------------------------------------------------------------- replies, in all their variants


@pytest.mark.parametrize(
    ("written", "loss"),
    [
        ('{"loss": 2.5, "metrics": {"loss": 9}}', 2.5),
        ('{"metrics": {"loss": 3, "loss:sum": 9}}', 3.0),
        ('{"metrics": {"loss:sum": 4}}', 4.0),
        ('{"loss": null, "metrics": {"loss:sum": 5}}', 5.0),
        ('{"loss": 0, "metrics": {"loss": 9}}', 0.0),
    ],
)
def test_the_loss_wherever_it_stands(written: str, loss: float) -> None:
    assert output(written).loss == loss


@pytest.mark.parametrize("written", ["{}", '{"loss": NaN}', '{"loss": null}', '{"metrics": {"loss": null}}'])
def test_a_loss_nobody_gave_is_nan(written: str) -> None:
    assert math.isnan(output(written).loss)


@pytest.mark.parametrize(
    "written",
    [
        '{"data": [-0.5, null, NaN], "dtype": "float32", "shape": [3]}',
        '{"data": [-0.5, null, null], "dtype": "float32"}',
        "[-0.5, null, NaN]",
        '{"data": [-0.5, null, null], "shape": [3], "device": "cuda:0"}',
    ],
)
def test_logprobs_in_all_forms(written: str) -> None:
    (found,) = output(f'{{"loss": 1, "loss_fn_outputs": [{{"logprobs": {written}}}]}}').loss_fn_outputs
    assert found["logprobs"] == TensorData([-0.5, math.nan, math.nan])


def test_integers_and_infinities_in_tensors() -> None:
    assert codec.decode(b"[1, 2]", TensorData) == TensorData([1, 2])
    assert codec.decode(b"[1.0, -Infinity]", TensorData) == TensorData([1.0, -math.inf])
    assert codec.decode(b'{"data": [1, 2], "dtype": "int64", "shape": [2, 1]}', TensorData).shape == (2, 1)
    assert codec.decode(b"[]", TensorData).shape == (0,)


def test_null_for_what_is_left_out_and_fields_nobody_knows() -> None:
    found = output('{"loss": 1, "metrics": null, "loss_fn_outputs": null, "loss_fn_output_type": null, "new": [1]}')
    assert found == ForwardBackwardOutput(1.0)
    assert codec.decode(b'{"operation_id": "a", "queue": 3}', Accepted).operation_id == "a"
    assert codec.decode(b'{"metrics": {"step": 3, "odd": null}}', OptimStepResponse).metrics["step"] == 3.0


def test_a_run_with_new_fields_and_states() -> None:
    status = {"name": "HIBERNATING", "since": 5}
    run = codec.structure({"run": {**RUN, "status": status, "sampler": None, "replicas": 2}}, RunReply).run
    assert run.status.name == "HIBERNATING"
    assert run.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert run.sampler is None


def test_checkpoints_of_either_kind() -> None:
    raw = {
        "id": "v",
        "checkpoint_id": "step-1",
        "run_id": "r",
        "target": "sampler",
        "checkpoint_type": "lora",
        "base_model": None,
        "lora_config": {"config_version": "v1", "targets": ["mlp"], "expert_layout": "shared_outer"},
        "lora_adapter_config": {"r": 8, "nested": {"any": [1]}},
        "size_bytes": 10.0,
        "created_at": "2026-01-02T03:04:05.123456+02:00",
    }
    (found,) = codec.structure({"checkpoints": [raw]}, CheckpointsReply).checkpoints
    assert found.lora_adapter_config == {"r": 8, "nested": {"any": [1]}}
    assert found.created_at.utcoffset() is not None
    assert found.size_bytes == 10


MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
#: Values with every field said, none of them by its default; what a server writes has the names of the fields.
WHOLE: list[Any] = [
    ForwardBackwardOutput(
        loss=1.5,
        metrics={"loss:sum": 1.5},
        loss_fn_outputs=[{"logprobs": TensorData([-0.5, -1.0])}],
        loss_fn_output_type="per_token",
    ),
    OptimStepResponse(metrics={"step": 3.0, "learning_rate": 0.5, "lr": 0.5, "grad_norm": 2.0}),
    SaveWeightsResponse(path="bt://loops:r/weights/a", type="saved", policy_version=3),
    LoadWeightsResponse(path="bt://loops:r/weights/a", type="loaded", policy_version=3),
    InitTrainerServerResponse(
        lora_rank=8, lora_alpha=16, seed=7, train_attn=True, train_mlp=False, train_unembed=False
    ),
    Checkpoint(
        id="v",
        checkpoint_id="a",
        run_id="r",
        target="trainer",
        checkpoint_type="lora",
        base_model="m",
        size_bytes=10,
        created_at=MOMENT,
        lora_adapter_config={"r": 8},
        lora_config=LoraConfig(config_version="v1", targets=["mlp"], expert_layout="per_expert"),
        sync_status="SYNCING",
    ),
    CheckpointFilesResponse(
        presigned_urls=[
            CheckpointFile(
                url="https://store/a", relative_file_name="a", node_rank=1, size_bytes=5, last_modified="2026-01-01"
            )
        ],
        next_page_token=10,
        total_count=20,
    ),
    ServerCapabilities(
        supported_models=[
            SupportedModel(
                model_name="m",
                max_seq_len=512,
                max_enabled_seq_len=256,
                supports_vision_language=True,
                enabled=False,
                serverless=True,
                enablement_details=EnablementDetails(reason="a", reason_detail="b", remediation="c"),
            )
        ]
    ),
]


@pytest.mark.parametrize("value", WHOLE, ids=lambda value: type(value).__name__)
def test_every_field_of_a_reply_is_read(value: Any) -> None:
    written = json.dumps(attrs.asdict(value), default=plainly)
    assert codec.decode(written.encode(), type(value)) == value
    named = attrs.fields(type(value))
    assert [field.name for field in named if getattr(value, field.name) == field.default] == []


def plainly(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value.tolist()


UNEXPECTED: dict[str, tuple[type[Any], bytes, str]] = {
    "html": (Accepted, b"<html>" + b"x" * 200, "expected JSON, got '<html>xxx"),
    "truncated": (Accepted, b'{"operation_id": "a', "expected JSON"),
    "nothing": (Accepted, b"", "expected JSON, got ''"),
    "bytes": (Accepted, b"\xff\xfe\x00", "expected JSON"),
    "nested": (Accepted, b"[" * 100_000, "expected JSON"),
    "nested as deep as the parser goes": (Accepted, b"[" * 900 + b"]" * 900, "nested at most 256 deep"),
    "nested with a bare NaN": (Accepted, b"[" * 400 + b"NaN" + b"]" * 400, "nested at most 256 deep"),
    "nested objects": (Accepted, b'{"a":' * 300 + b"1" + b"}" * 300, "nested at most 256 deep"),
    "half a character": (Accepted, b'{"operation_id": "\\ud800"}', "expected JSON"),
    "long": (Accepted, b'{"operation_id": [%b1]}' % (b"1," * 10**5), "unexpected reply: expected str (got [1, 1,"),
    "null": (Accepted, b"null", "unexpected reply: expected an object, got None"),
    "a list for an object": (OptimStepResponse, b"[]", "unexpected reply: expected an object, got []"),
    "text for an object": (OptimStepResponse, b'"metrics"', "unexpected reply: expected an object, got 'metrics'"),
    "missing": (Accepted, b"{}", "unexpected reply: operation_id is missing"),
    "wrong type": (Accepted, b'{"operation_id": 5}', "unexpected reply: expected str (got 5) @ $.operation_id"),
    "tensor shape": (TensorData, b'{"data": [1], "shape": [2]}', "shape: [2] does not hold the 1 values of data"),
    "tensor type": (TensorData, b'{"data": [1], "dtype": "int4"}', "dtype: expected one of int64, float32, got 'int4'"),
    "tensor text": (TensorData, b'["a"]', "data: expected integers or floats"),
    "tensor without data": (TensorData, b'{"dtype": "int64"}', "data is missing"),
    "tensor fraction": (TensorData, b'{"data": [1.5], "dtype": "int64"}', "1.5 is not such a whole number"),
    "tensor too large": (TensorData, b"[1e300]", "does not fit into float32"),
    "metrics": (ForwardBackwardOutput, b'{"loss": 1, "metrics": [1]}', "unexpected reply"),
    "metrics without loss": (ForwardBackwardOutput, b'{"metrics": [1]}', "unexpected reply"),
    "loss": (ForwardBackwardOutput, b'{"loss": "much"}', "@ $.loss"),
    "date": (RunReply, codec.dumps({"run": {**RUN, "created_at": "yesterday"}}), "@ $.run.created_at"),
    "date null": (RunReply, codec.dumps({"run": {**RUN, "created_at": None}}), "@ $.run.created_at"),
}


@pytest.mark.parametrize("name", UNEXPECTED)
def test_an_unexpected_reply_is_a_protocol_error(name: str) -> None:
    kind, body, message = UNEXPECTED[name]
    with pytest.raises(ProtocolError) as caught:
        codec.decode(body, kind)
    assert message in caught.value.message
    assert len(caught.value.message) < 500


def test_plain_reads() -> None:
    assert codec.decode(b"7", object) == 7
    assert codec.decode(b'{"policy_version": 7}', object) == {"policy_version": 7}
    assert codec.decode(b"OK, not JSON", type(None)) is None


# ---------------------------------------------------------------- dicts


def test_to_dict_is_plain_and_from_dict_is_strict() -> None:
    datum = Datum([1, 2], {"weights": [0.5, 1.0]})
    plain = to_dict(datum)
    assert json.loads(json.dumps(plain)) == plain
    assert not any(isinstance(value, np.ndarray) for value in plain["loss_fn_inputs"]["weights"].values())
    assert from_dict(Datum, plain) == datum
    with pytest.raises(InvalidInputError, match=r"^unknown field temprature @ "):
        from_dict(SamplingParams, {"temprature": 1})
    with pytest.raises(InvalidInputError, match=r"^expected an object"):
        from_dict(SamplingParams, None)


def test_a_name_that_is_a_page_long_does_not_make_a_message_of_pages() -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.decode(b'{"metrics": {"%b": "x"}}' % (b"n" * 10**5), OptimStepResponse)
    assert 1000 < len(caught.value.message) < 2100


def test_nesting_up_to_what_we_write_ourselves() -> None:
    deep: Any = {"x": [1.0, "[[[["]}
    for _ in range(250):
        deep = [deep, None]
    assert codec.loads(codec.dumps(deep)) == deep
    assert codec.loads(json.dumps([deep, math.nan]).encode())[0] == deep
    assert repr(codec.loads(codec.dumps(deep)))
    assert codec.loads(b"[%b[]]" % (b"[]," * 1000)) == [[]] * 1001


def test_escaped_characters_beside_a_bare_nan() -> None:
    assert codec.loads(b'["\\u00e9\\ud83d\\ude00", NaN]')[0] == "\u00e9\U0001f600"


def test_a_time_without_a_zone_is_utc() -> None:
    run = codec.structure({"run": {**RUN, "created_at": "2026-01-02T03:04:05"}}, RunReply).run
    assert run.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("kind", [SaveWeightsResponse, LoadWeightsResponse], ids=lambda kind: kind.__name__)
def test_a_policy_version_counts_from_0(kind: type[Any]) -> None:
    assert codec.decode(b'{"path": "x", "policy_version": 0}', kind).policy_version == 0
    with pytest.raises(ProtocolError, match="policy_version: expected a value >= 0, got -4"):
        codec.decode(b'{"path": "x", "policy_version": -4}', kind)
