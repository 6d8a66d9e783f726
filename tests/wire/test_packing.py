"""The binary form: a safetensors file that anybody can read, and what is no such file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from loops_sdk import Datum, ForwardBackwardOutput, TensorData
from loops_sdk._wire import codec
from loops_sdk._wire.bodies import ForwardBackwardBody
from loops_sdk._wire.packing import is_packed, pack, unpack
from loops_sdk.errors import InvalidInputError, ProtocolError


def text(said: bytes) -> Any:
    return np.frombuffer(said, np.uint8)


def test_it_is_a_file_that_every_reader_of_the_format_reads() -> None:
    value = {"data": [{"a/b~": {"data": np.float32([0.5, 2]), "shape": [2]}, "tokens": np.arange(3)}], "loss_fn": "ppo"}
    read = load(pack(value))
    assert codec.loads(read.pop("").tobytes()) == {
        "data": [{"a/b~": {"data": None, "shape": [2]}, "tokens": None}],
        "loss_fn": "ppo",
    }
    assert {name: (array.dtype.name, array.tolist()) for name, array in read.items()} == {
        "/data/0/a~1b~0/data": ("float32", [0.5, 2.0]),
        "/data/0/tokens": ("int64", [0, 1, 2]),
    }
    assert codec.to_dict(_lists(unpack(pack(value)))) == codec.to_dict(_lists(value))


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists(one) for name, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, list | np.ndarray) else value


def test_arrays_elsewhere_travel_as_text() -> None:
    assert unpack(pack({"prompt": np.arange(3), "data": [1]})) == {"prompt": [0, 1, 2], "data": [1]}


def test_a_request_and_a_result_mean_the_same_in_both_forms() -> None:
    datum = Datum([1, 2, 3], {"target_tokens": [2, 3, -100], "weights": np.float32([0.1, 1 / 3, 1e-30])})
    body = ForwardBackwardBody([datum, datum], "cross_entropy", {"a": [None]})
    for read in (pack(codec.plain(body)), codec.encode(body)):
        asked = codec.decode_request(read, ForwardBackwardBody)
        assert (asked.data, asked.loss_fn, asked.loss_fn_config) == ([datum, datum], "cross_entropy", {"a": [None]})
    output = ForwardBackwardOutput(1.5, {"n": 2.0}, [{"logprobs": TensorData([-0.5, math.nan])}], "x")
    assert codec.structure(codec.message(pack(codec.plain(output))), ForwardBackwardOutput) == output


def test_infinities_stay_what_they_are() -> None:
    tensor = TensorData([math.inf, -math.inf, math.nan, -0.0])
    assert codec.structure(unpack(pack(codec.plain(tensor))), TensorData) == tensor


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        pack({"data": {1, 2}})


@pytest.mark.parametrize("said", [b"", b"{}", b" [1]", b'{"a": "\\u0000"}', b"nonsense", b"\xef\xbb\xbf{}"])
def test_json_is_never_taken_for_it(said: bytes) -> None:
    assert not is_packed(said)
    assert is_packed(pack({}))


def bare(said: bytes, **shapes: list[int]) -> bytes:
    """A file with tensors of no bytes, whatever their shapes."""
    entries = {name: {"dtype": "I64", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    head = codec.dumps({**entries, "": {"dtype": "U8", "shape": [len(said)], "data_offsets": [0, len(said)]}})
    return len(head).to_bytes(8, "little") + head + said


GOOD = pack({"data": [{"tokens": np.arange(3)}], "loss_fn": "ppo"})
NUMBERS = np.arange(3)
WRONG: dict[str, bytes] = {
    "cut": GOOD[:-1],
    "longer": GOOD + b"\0",
    "empty header": b"\0" * 8,
    "huge header": b"\xff" * 7 + b"\0" + b"{}",
    "nested header": len(b'{"a":' * 9000).to_bytes(8, "little") + b'{"a":' * 9000,
    "no text": save({"/data": NUMBERS}),
    "text of floats": save({"": np.zeros(3, np.float32)}),
    "not json": save({"": text(b"{")}),
    "not unicode": save({"": text(b'"\xff"')}),
    "too deep": save({"": text(b"[" * 300 + b"]" * 300)}),
    "nowhere": save({"": text(b'{"data":null}'), "/a/data": NUMBERS}),
    "no pointer": save({"": text(b'{"data":null}'), "data": NUMBERS}),
    "not null": save({"": text(b'{"data":[]}'), "/data": NUMBERS}),
    "not there": save({"": text(b"{}"), "/data": NUMBERS}),
    "another name": save({"": text(b'{"loss_fn_config":null}'), "/loss_fn_config": NUMBERS}),
    "in a list": save({"": text(b"[null]"), "/0": NUMBERS}),
    "beyond a list": save({"": text(b'[{"data":null}]'), "/1/data": NUMBERS}),
    "from the end of a list": save({"": text(b'[{"data":null}]'), "/-1/data": NUMBERS}),
    "endless index": save({"": text(b'[{"data":null}]'), f"/{'9' * 5000}/data": NUMBERS}),
    "digits that are not ascii": save({"": text(b'[{"data":null}]'), "/\N{ARABIC-INDIC DIGIT ZERO}/data": NUMBERS}),
    "into an array": save({"": text(b'{"data":null}'), "/data": NUMBERS, "/data/0/data": NUMBERS}),
    "into a text": save({"": text(b'{"a":"data"}'), "/a/data": NUMBERS}),
    "float64": save({"": text(b'{"data":null}'), "/data": np.zeros(3)}),
    "bytes": save({"": text(b'{"data":null}'), "/data": np.zeros(3, np.uint8)}),
    "not flat": save({"": text(b'{"data":null}'), "/data": np.zeros((3, 1), np.int64)}),
    "more dimensions than numpy has": bare(b'{"data":null}', **{"/data": [0] + [1] * 99}),
    "a shape that overflows": bare(b'{"data":null}', **{"/data": [2**62, 2**62]}),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_not_of_this_form_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        unpack(body)
    if is_packed(body):
        with pytest.raises(InvalidInputError, match=r"^body: expected"):
            codec.decode_request(body, ForwardBackwardBody)


def test_values_are_checked_as_in_json() -> None:
    def request(tokens: Any, **tensor: Any) -> bytes:
        chunks = [{"type": "encoded_text", "tokens": tokens}]
        inputs = {"weights": {"dtype": "float32", **tensor}} if tensor else {}
        return pack({"data": [{"model_input": {"chunks": chunks}, "loss_fn_inputs": inputs}]})

    for body, message in (
        (request(np.array([-1])), "token ids are >= 0"),
        (request(np.float32([0.5])), "is not such a whole number"),
        (request(np.arange(2), data=np.float32([1, 2]), shape=[3]), "shape"),
        (request(np.arange(2), data=np.float32([1, 2, 3])), "has 3 values, but"),
        (request(np.arange(2), data=np.array([1, 2**62]), dtype="int8"), "dtype"),
        (pack({"data": np.arange(3)}), "data"),
        (pack({"data": [], "tokens": np.arange(3)}), "unknown field tokens"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            codec.decode_request(body, ForwardBackwardBody)
