"""What a malicious JSON writer sends: values of wrong kinds, and good values with some of their places changed.

Values that are too large to be drawn stand as marks, which `written` replaces when the bytes are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

#: Mark in the text -> what is sent in its place.
_MARKS = {
    b'"@deep@"': b"[" * 100_000 + b"]" * 100_000,
    b'"@deep object@"': b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'"@deepish@"': b"[" * 900 + b"]" * 900,
    b'"@digits@"': b"9" * 5000,
    b'"@long@"': b'"' + b"x" * 1_000_000 + b'"',
    b'"@many@"': b"[" + b"1," * 100_000 + b"1]",
}
#: A server may repeat what it was sent.
KEY = "the-secret-key-of-the-fuzzer-0123456789"
_NASTY: list[Any] = [
    KEY,
    f"Bearer {KEY} is no key of ours",
    *(mark.decode().strip('"') for mark in _MARKS),
    "",
    "..",
    ".",
    "a/b",
    "\0",
    "\ud800",
    "\r\nX-Evil: 1",
    "é" * 40,
    "1_0",
    "-1",
    "http://[::1",
    "http://127.0.0.1:99999/",
    "https://a\nb.example/",
    "file:///etc/passwd",
    "http://user:pass@127.0.0.1/",
    "bt://loops:../weights/x",
    "token_id:-1",
    "2026-01-01T00:00:00",
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1e308,
    -0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
]
LEAVES = st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=12) | st.sampled_from(_NASTY)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def written(value: Any) -> bytes:
    """The bytes of a value; NaN and infinities bare, as Python and some servers write them."""
    text = json.dumps(value).encode()
    for mark, meant in _MARKS.items():
        text = text.replace(mark, meant)
    return text


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(value[path[0]], path[1:], new)
    return copy


@st.composite
def mutated(draw: st.DrawFn, good: Any) -> Any:
    """A good value with one to three places replaced, dropped, doubled or added."""
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        path = draw(st.sampled_from(list(places(good))))
        good = _changed(good, path, draw(_instead(_at(good, path))))
    return good


def _instead(old: Any) -> st.SearchStrategy[Any]:
    """What may come in the place of `old`."""
    if isinstance(old, dict) and old:
        fewer = st.sampled_from(sorted(old)).map(lambda gone: {key: old[key] for key in old if key != gone})
        more = st.tuples(st.text(max_size=6), JSON).map(lambda item: {**old, item[0]: item[1]})
        return JSON | fewer | more
    if isinstance(old, list):
        return JSON | st.sampled_from([old[:-1], [*old, *old], [*old, *old[:1]], old[::-1], []])
    if isinstance(old, int | float) and not isinstance(old, bool):
        return JSON | st.sampled_from([old + 1, old - 1, -old - 1, str(old), [old], float(old)])
    return JSON
