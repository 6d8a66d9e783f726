"""From what a script or a JSON document gives to what a field declares, by the field's annotation.

It decides what passes for a number, a date or a nested value; it knows no type of this namespace by name. Text is never
taken for a number, nor true for 1.
"""

from __future__ import annotations

import base64
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from numbers import Real
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from loops_sdk import InvalidInputError

__all__ = ["read", "refuse"]


def read(kind: Any, value: Any, name: str) -> Any:
    """`value` as `kind`, an annotation; containers are copied, values of this namespace are kept as they are.

    Raises:
        InvalidInputError: it is something else; the message calls it `name`.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), value, name)
    if origin is Literal:
        return value if value in get_args(kind) else refuse(name, f"one of {list(get_args(kind))}", value)
    if origin is dict:
        return _dict(get_args(kind), value, name)
    if origin in (list, Sequence):
        return _items(origin, get_args(kind)[0], value, name)
    if reader := _PLAIN.get(kind):
        return reader(value, name)
    return _nested(kind, value, name)


def refuse(name: str, wanted: str, given: object) -> NoReturn:
    """Raise the error for `given`."""
    text = repr(given)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    raise InvalidInputError(f"{name}: expected {wanted}, got {type(given).__name__} {shown}")


def _one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """The first kind that takes the value; of nested values the one whose `type` is named."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if isinstance(value, Mapping):
        kinds = tuple(kind for kind in kinds if _is_tagged(kind, value.get("type"))) or kinds
    for kind in kinds[:-1]:
        try:
            return read(kind, value, name)
        except InvalidInputError:
            continue
    try:
        return read(kinds[-1], value, name)
    except InvalidInputError:
        if len(kinds) == 1:
            raise
        refuse(name, " or ".join(_called(kind) for kind in kinds), value)


def _is_tagged(kind: Any, tag: Any) -> bool:
    return isinstance(kind, type) and tag in get_args(get_type_hints(kind).get("type"))


def _called(kind: Any) -> str:
    return str(kind) if get_origin(kind) else str(kind.__name__)


def _dict(kinds: tuple[Any, Any], value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        refuse(name, "a dict", value)
    return {read(kinds[0], key, f"{name}: key"): read(kinds[1], one, f"{name}[{key!r}]") for key, one in value.items()}


def _items(origin: Any, kind: Any, value: Any, name: str) -> Any:
    """A list; of a `Sequence` a tuple stays a tuple, so that a value made of tuples has a hash."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable) or hasattr(value, "dtype"):
        refuse(name, "a list", value)
    items = list(value)
    if kind is not Any and not set(map(type, items)) <= {kind}:  # token ids come by the thousand
        items = [read(kind, one, f"{name}[{index}]") for index, one in enumerate(items)]
    return tuple(items) if origin is Sequence and isinstance(value, tuple) else items


def _nested(kind: Any, value: Any, name: str) -> Any:
    """A value of this namespace, or a dict with the fields of one."""
    if isinstance(value, kind):
        return value
    if not (isinstance(value, Mapping) and hasattr(kind, "model_validate")):
        refuse(name, kind.__name__, value)
    try:
        return kind.model_validate(value)
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}.{error.message}") from None


def _int(value: Any, name: str) -> int:
    if isinstance(value, float):
        return int(value) if value.is_integer() else refuse(name, "a whole number", value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        refuse(name, "a whole number", value)
    return operator.index(value)


def _float(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        refuse(name, "a number", value)
    return float(value)


def _instance(kind: type, wanted: str) -> Callable[[Any, str], Any]:
    return lambda value, name: value if isinstance(value, kind) else refuse(name, wanted, value)


def _bytes(value: Any, name: str) -> bytes:
    """Bytes, or base64 text that stands for some, as in JSON."""
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(memoryview(value))
    except (TypeError, ValueError):
        refuse(name, "bytes or base64 text", value)


def _datetime(value: Any, name: str) -> datetime:
    try:
        return value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        refuse(name, "a date and time (ISO 8601)", value)


_PLAIN: dict[Any, Callable[[Any, str], Any]] = {
    Any: lambda value, _name: value,
    bool: _instance(bool, "true or false"),
    str: _instance(str, "text"),
    int: _int,
    float: _float,
    bytes: _bytes,
    datetime: _datetime,
}
