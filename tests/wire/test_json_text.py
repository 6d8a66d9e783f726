"""JSON in parts: the same bytes going out, the same numbers coming in, and nothing that a text could pretend to be."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk._wire import json_text
from loops_sdk._wire.json_text import dumps, loads, loads_with_arrays, parts
from loops_sdk.errors import ProtocolError

LONG = list(range(3000))


@pytest.mark.parametrize("sizes", [[], [1], [1, 2, 3], [90_000], [90_000, 1, 90_000], [50] * 3000])
def test_parts_are_the_whole(sizes: list[int]) -> None:
    value = {"data": [{"tokens": np.arange(size)} for size in sizes], "loss_fn": "x[]", "config": {"a": [[]]}}
    made = list(parts(value))
    assert b"".join(made) == dumps(value)
    assert max(map(len, made)) < 700_000


def test_parts_of_many_small_items_are_few() -> None:
    assert len(list(parts({"data": [{"tokens": [1, 2, 3]}] * 20_000}))) < 10


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [(LONG, "int64"), ([0.5, *LONG], "float64"), ([-0.0, 1e-300, *LONG], "float64")],
)
@pytest.mark.parametrize("name", ["data", "tokens"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_long_lists_of_numbers_are_arrays(numbers: Any, dtype: str, name: str, separators: Any) -> None:
    text = json.dumps({"a": [{name: numbers, "b": 1}, {name: [1]}]}, separators=separators).encode()
    read = loads_with_arrays(text)
    array = read["a"][0].pop(name)
    assert (array.dtype, array.tolist()) == (dtype, numbers)
    assert read == {"a": [{"b": 1}, {name: [1]}]}


@pytest.mark.parametrize(
    "odd", [None, True, 2**63, 10**30, "text", {}, {"a": 1}, [1]], ids=lambda value: type(value).__name__
)
def test_lists_of_anything_else_are_lists(odd: Any) -> None:
    value = {"data": [*LONG, odd, 1.5], "tokens": LONG}
    read = loads_with_arrays(json.dumps(value).encode())
    assert np.asarray(read.pop("tokens")).tolist() == LONG
    read["data"] = read["data"].tolist() if isinstance(read["data"], np.ndarray) else read["data"]
    assert read == orjson.loads(json.dumps({"data": value["data"]}))


def test_a_bare_nan_and_infinities() -> None:
    text = b'{"data": [%b NaN, Infinity, -Infinity], "loss": NaN}' % (b"1, " * 3000)
    read = loads_with_arrays(text)
    assert np.isnan(read["data"][-3])
    assert read["data"][-2:].tolist() == [math.inf, -math.inf]
    assert math.isnan(read["loss"])


@pytest.mark.parametrize(
    "pretender", ['"data":[%s]', '\\"data\\":[%s]', ":[%s]", '","data":[%s]', 'a":[%s]', '{"data": [%s]}', "\\%s"]
)
def test_a_text_is_never_taken_for_numbers(pretender: str) -> None:
    text = pretender % ",".join(map(str, LONG))
    value = {"data": text, text: 1, "a": [text, {"tokens": text}]}
    assert loads_with_arrays(dumps(value)) == value


def test_no_sender_can_name_an_array() -> None:
    value = {"data": LONG, "a": {"data": "0", "tokens": "00000000000000000000000000000000" + "0"}}
    read = loads_with_arrays(dumps(value))
    assert read["a"] == value["a"]


@pytest.mark.parametrize(
    "text",
    [
        b'{"data": [%b1,]}',
        b'{"data": [,%b1]}',
        b'{"data": [%b1 2]}',
        b'{"data": [%b1-]}',
        b'{"data": [%b1]',
        b'{"data": [%b1]]}',
        b'{"data": [%b1}',
        b'"data": [%b1]',
        b'{"a" "data": [%b1]}',
        b'{"data": [%b\xff]}',
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected JSON"):
        loads_with_arrays(text % (b"1," * 3000))


def test_what_stands_beside_the_numbers_may_not_be_nested_too_deep() -> None:
    deep = b'{"data":[%b1],"a":%b%b}' % (b"1," * 10**6, b"[" * 300, b"]" * 300)
    with pytest.raises(ProtocolError, match="nested at most 256 deep"):
        loads_with_arrays(deep)


@pytest.mark.parametrize(
    "text",
    [
        b'"data":[' * 2**20,
        b'{"data":[' * 2**20,
        (b'"data":[' + b"1," * 3000) * 1000,
        b'["data":[' + b"1," * 2**22 + b'"',
    ],
    ids=["openings", "nested", "never closed", "a quote at the end"],
)
def test_nothing_makes_it_look_at_its_bytes_again_and_again(text: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ProtocolError):
        loads_with_arrays(text)
    assert time.process_time() - began < 2


_DAMAGE = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from([bytes([byte]) for byte in b'"[]{},:0-+.eE\\ \0nNI\xff'] + [b""])),
    min_size=1,
    max_size=4,
)


@given(damage=_DAMAGE)
def test_damaged_texts_are_read_as_without_arrays(damage: list[tuple[int, bytes]]) -> None:
    """Also where the lists are short, which makes this quick."""
    tensor = {"data": [1, 2.5, None, 4, 5], "dtype": "float32", "shape": [5]}
    text = dumps({"data": [{"tokens": [1, 2, 3, 40, 5], "x": tensor}, {"data": [[1, 2], [3]]}], "t": '"data":[1,2]'})
    for place, byte in damage:
        at = place % len(text)
        text = text[:at] + byte + text[at + 1 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_LONG", 6)
        assert _outcome(loads_with_arrays, text) == _outcome(loads, text)


def _outcome(read: Any, text: bytes) -> str:
    try:
        return repr(_as_lists(read(text)))
    except ProtocolError:
        return "refused"


def _as_lists(value: Any) -> Any:
    """Of a list that mixes them, numpy makes floats of all numbers."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list):
        return [float(one) if type(one) is int else _as_lists(one) for one in value]
    return {name: _as_lists(one) for name, one in value.items()} if isinstance(value, dict) else value
