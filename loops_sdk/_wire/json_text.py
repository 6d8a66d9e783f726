"""Plain data to JSON text and back. Numbers in bulk go out as numpy arrays, and come in as such where asked for.

A large text is written and read in parts, so that whoever shares the interpreter gets his turn in between, and what is
needed at a time stays small.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Iterator
from typing import Any

import orjson

from loops_sdk.errors import InvalidInputError, ProtocolError

__all__ = ["brief", "containers", "dumps", "loads", "loads_with_arrays", "parts"]

#: Lists and objects within one another; more than any message has, fewer than make `repr` or `pickle` of them fail.
_DEEPEST = 256
_CONTAINERS = frozenset({dict, list})
#: Bytes that a part of a large text has at least, but for the last.
_PART = 256 * 1024
#: Shorter lists of numbers are read with what is around them, which costs less.
_LONG = 4096
#: What stands before the numbers of a tensor or a chunk. It is never found within a text, for a quote that follows a
#: letter is one that closes: those that open follow a comma, a colon or a bracket.
_BEFORE = (b'"data":', b'"data": ', b'"tokens":', b'"tokens": ')


def dumps(value: Any) -> bytes:
    """JSON of plain data; numpy arrays are lists, NaN and infinities are null.

    Raises:
        InvalidInputError: something that JSON cannot say.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidInputError(f"expected plain data (dicts, lists, text, numbers): {error}") from None


def parts(value: dict[str, Any]) -> Iterator[bytes]:
    """`dumps` of an object in parts. Its first field is a list, and the cuts are between the items of that."""
    name, items = next(iter(value.items()))
    head, tail = dumps({**value, name: []}).split(b"[]", 1)
    waiting, size = [head, b"["], 0
    for place, item in enumerate(items):
        text = dumps(item)
        waiting.append(b"," if place else b"")
        size += len(text)
        if size >= _PART:
            yield b"".join(waiting)
            yield text  # as it is: joined, it would be copied
            waiting, size = [], 0
        else:
            waiting.append(text)
    yield b"".join([*waiting, b"]", tail])


def loads(text: bytes) -> Any:
    """Plain data of JSON. Accepts the bare NaN and Infinity that some servers write.

    Raises:
        ProtocolError: not JSON, text that is not Unicode, or lists and objects nested more than 256 deep.
    """
    try:
        data = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"expected JSON, got {brief(text)} ({error})") from None
    if text.count(b"[") + text.count(b"{") > _DEEPEST:  # else it cannot be deeper
        deque(containers(data), maxlen=0)
    return data


def _parsed(text: bytes | memoryview) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as strict:
        try:
            return _parsed_leniently(bytes(text))
        except (ValueError, RecursionError):
            raise strict from None


def _parsed_leniently(text: bytes) -> Any:
    data = json.loads(text)
    if b"\\u" in text:  # half of a surrogate pair, which nobody could print or send on, is not let in
        json.dumps(data, ensure_ascii=False).encode()
    return data


def containers(data: Any) -> Iterator[Any]:
    """Every list and object in plain data, the outer ones first.

    Raises:
        ProtocolError: they are nested more than 256 deep.
    """
    level = [data] if type(data) in _CONTAINERS else []
    for _ in range(_DEEPEST):
        yield from level
        level = [inner for outer in level for inner in _containers_in(outer)]
        if not level:
            return
    raise ProtocolError(f"expected JSON nested at most {_DEEPEST} deep, got more")


def _containers_in(container: Any) -> list[Any]:
    values = container.values() if isinstance(container, dict) else container
    if _CONTAINERS.isdisjoint(map(type, values)):  # a list of numbers, most likely, and a long one
        return []
    return [inner for inner in values if type(inner) in _CONTAINERS]


def loads_with_arrays(text: bytes) -> Any:
    """`loads`, but long lists of numbers called ``data`` or ``tokens`` are numpy arrays.

    Each is parsed by itself and is an array before the next one is looked at: a third less work than to make objects
    of all numbers first, a fraction of the memory, and no long stretch of it holds the interpreter.

    Raises:
        ProtocolError: as `loads`.
    """
    if len(text) < _LONG:
        return loads(text)
    mark = secrets.token_hex(16)  # which no sender can know, so that none can name one of the arrays
    skeleton: list[bytes] = []
    arrays: list[Any] = []
    done = 0
    for start, end in _long_lists(text):
        try:
            array = _numbers(memoryview(text)[start:end])
        except ValueError:
            break  # the whole is not JSON either, and says so below
        skeleton += [text[done:start], b'"%b%d"' % (mark.encode(), len(arrays))]
        arrays.append(array)
        done = end
    if not arrays:
        return loads(text)
    data = loads(b"".join([*skeleton, text[done:]]))
    for holder in containers(data):
        for name in ("data", "tokens") if isinstance(holder, dict) else ():
            if isinstance(value := holder.get(name), str) and value.startswith(mark):
                holder[name] = arrays[int(value[len(mark) :])]
    return data


def _long_lists(text: bytes) -> Iterator[tuple[int, int]]:
    """Where long lists of numbers begin and end, unless lists are short on the whole."""
    start = text.find(b"[") if text.count(b"[") * _LONG <= len(text) else -1
    while start >= 0:
        following = text.find(b"[", start + 1)
        end = text.find(b"]", start, following if following >= 0 else len(text)) + 1
        if end - start > _LONG and text.endswith(_BEFORE, 0, start) and text.find(b'"', start, end) < 0:
            yield start, end
        start = following


def _numbers(text: memoryview) -> Any:
    """An array of int64 or float64; the list as it is where it holds anything else."""
    import numpy as np

    values = _parsed(text)
    array = np.array(values)
    return array if array.dtype.kind in "if" else values


def brief(body: bytes) -> str:
    """How a body begins, for messages."""
    text = body[:80].decode("utf-8", "replace")
    return repr(text) + (f"... ({len(body)} bytes)" if len(body) > 80 else "")
