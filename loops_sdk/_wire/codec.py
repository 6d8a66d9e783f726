"""Values to bytes and back: one cattrs converter, with a short cut for arrays of tokens and numbers.

Arrays go out as they are and come in as one numpy call per tensor; in which form is not decided here. Fields that are
not known are ignored in replies; the servers read requests with `decode_request`, which refuses them, so that a
misspelt parameter is heard of.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TypeVar, cast

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from loops_sdk._wire import bodies
from loops_sdk._wire.json_text import dumps, loads, loads_with_arrays
from loops_sdk._wire.packing import is_packed, unpack
from loops_sdk.errors import InvalidInputError, ProtocolError
from loops_sdk.types import (
    EncodedTextChunk,
    ForwardBackwardOutput,
    ImageChunk,
    ModelInput,
    TensorData,
)
from loops_sdk.types._checks import shown

T = TypeVar("T")

_MOST_TEXT = 2000

__all__ = [
    "decode",
    "decode_request",
    "dumps",
    "encode",
    "from_dict",
    "loads",
    "message",
    "plain",
    "structure",
    "to_dict",
]


def plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers and numpy arrays with the content of a value of the API or of a request body."""
    return _replies().unstructure(value)


def encode(value: Any) -> bytes:
    """JSON of a value of the API or of a request body."""
    return dumps(plain(value))


def message(body: bytes) -> Any:
    """Plain data of a message of the trainer in either form, with numpy arrays where it holds numbers in bulk.

    Raises:
        ProtocolError: neither JSON nor the binary form.
    """
    return unpack(body) if is_packed(body) else loads_with_arrays(body)


def decode(body: bytes, kind: type[T]) -> T:
    """A value of `kind` from a server's reply; `None` for `NoneType`, whatever the reply.

    Raises:
        ProtocolError: not JSON, or not of this shape; the message names the field.
    """
    return structure(None if kind is type(None) else loads(body), kind)


def structure(data: Any, kind: type[T]) -> T:
    """`decode` for a reply that is already plain data."""
    try:
        return _replies().structure(data, kind)
    except Exception as error:  # cattrs groups whatever the fields' own types raise
        raise ProtocolError(f"unexpected reply: {_explain(error)}") from None


def decode_request(body: bytes, kind: type[T]) -> T:
    """A value of `kind` from a client's request, read strictly.

    Raises:
        InvalidInputError: not JSON, not of this shape, or a field that is not known; the message names the field.
    """
    try:
        data = message(body) if body else {}
    except ProtocolError as error:
        raise InvalidInputError(f"body: {error.message}") from None
    return _structure_strictly(data, kind)


def to_dict(value: Any) -> Any:
    """Plain dicts, lists, strings and numbers with the content of a value of the API, ready for any JSON writer.

    Args:
        value: a value of the API, or lists and dicts of such.
    """
    return _replies_with_lists().unstructure(value)


def from_dict(kind: type[T], data: Any) -> T:
    """The value of `kind` that `to_dict` made `data` from.

    Args:
        kind: the type of the value, for example `Datum`.
        data: what `to_dict` made, also after a way through JSON.

    Raises:
        InvalidInputError: `data` has another shape, or a field that `kind` does not have.
    """
    return _structure_strictly(data, kind)


def _structure_strictly(data: Any, kind: type[T]) -> T:
    try:
        return _requests().structure(data, kind)
    except Exception as error:
        raise InvalidInputError(_explain(error)) from None


def _explain(error: BaseException) -> str:
    """The messages of all fields that were wrong, each with its path, on one line."""
    if isinstance(error, InvalidInputError):
        return error.message
    lines = cattrs.transform_error(error, format_exception=_explain_one)
    text = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."


def _explain_one(error: BaseException, kind: type | None) -> str:
    if isinstance(error, InvalidInputError):
        return error.message
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, cattrs.errors.ForbiddenExtraKeysError):
        return f"unknown field {', '.join(sorted(error.extra_fields))}"
    name = "an object" if kind is None else getattr(kind, "__name__", str(kind))
    return f"expected {name} ({error})"


# ---------------------------------------------------------------- hooks

_Check = Callable[..., None]


def _accept_any(_data: Any, *_fields: str) -> None:
    """Unknown fields are the server's business."""


def _refuse_unknown(data: Any, *fields: str) -> None:
    if isinstance(data, dict) and (unknown := data.keys() - set(fields)):
        raise InvalidInputError(f"unknown field {', '.join(sorted(unknown))}")


def _tensor_from(check: _Check, data: Any, _kind: object) -> TensorData:
    """The declared form, or the bare list that some servers send. `null` is NaN."""
    check(data, "data", "dtype", "shape")
    if not isinstance(data, dict):
        return TensorData(_without_null(data))
    values = data["data"]
    return TensorData(
        _without_null(values) if data.get("dtype") != "int64" else values, data.get("dtype"), data.get("shape")
    )


def _without_null(values: Any) -> Any:
    if isinstance(values, list) and None in values:
        return [float("nan") if value is None else value for value in values]
    return values


def _float_from(value: Any, _kind: object) -> float:
    return float("nan") if value is None else float(value)


def _number_from(value: Any, _kind: object) -> float:
    """What a request may say for a float: a number, not text that looks like one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"got {shown(value)}")
    return float(value)


def _int_from(value: Any, _kind: object) -> int:
    """Whole numbers only: `int("7")` and `int(7.9)` would hide a mistake."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"got {shown(value)}")
    return int(value)


def _bool_from(value: Any, _kind: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"got {shown(value)}")
    return value


def _logprobs_by_token_from(data: Any, _kind: object) -> dict[int, float]:
    """JSON has no integer keys; they travel as text."""
    return {int(token): _float_from(value, None) for token, value in data.items()}


def _logprobs_by_token_to(data: dict[int, float]) -> dict[str, float]:
    return {str(token): value for token, value in data.items()}


def _str_from(value: Any, _kind: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"got {shown(value)}")
    return value


def _time_from(value: Any, _kind: object) -> datetime:
    """With a time zone, also where none was written: times without one cannot be compared with the others."""
    time = datetime.fromisoformat(value)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _chunk_from(check: _Check, data: Any, _kind: object) -> EncodedTextChunk | ImageChunk:
    kind = data.get("type", "encoded_text") if isinstance(data, dict) else None
    if kind == "encoded_text":
        check(data, "type", "tokens")
        return EncodedTextChunk(data["tokens"])
    if kind == "image":
        check(data, "type", "data", "expected_tokens", "format")
        return ImageChunk(data["data"], data["expected_tokens"], data.get("format", "png"))
    raise InvalidInputError(f"chunk type: expected encoded_text or image, got {shown(kind)}")


def _model_input_from(check: _Check, data: Any, _kind: object) -> ModelInput:
    check(data, "chunks")
    if not isinstance(data, dict) or not isinstance(data.get("chunks"), list):
        raise InvalidInputError("model_input: expected {'chunks': [...]}")
    return ModelInput(tuple(_chunk_from(check, chunk, None) for chunk in data["chunks"]))


def _image_to(chunk: ImageChunk) -> dict[str, Any]:
    return {"type": "image", "data": chunk.data, "format": chunk.format, "expected_tokens": chunk.expected_tokens}


def _output_from(data: Any, plain: Callable[[Any, Any], ForwardBackwardOutput]) -> ForwardBackwardOutput:
    """`loss` may stand in the metrics only; NaN says that the server gave none."""
    if isinstance(data, dict) and data.get("loss") is None:
        metrics = data.get("metrics") or {}
        data = {**data, "loss": metrics.get("loss", metrics.get("loss:sum"))}
    if isinstance(data, dict):  # some servers write null for what they leave out
        data = {name: value for name, value in data.items() if value is not None or name == "loss"}
    return plain(data, ForwardBackwardOutput)


def _sent_fields_only(kind: type[Any], converter: cattrs.Converter) -> Callable[[Any], dict[str, Any]]:
    optional: dict[str, Any] = {
        field.name: override(omit_if_default=True) for field in attrs.fields(kind) if field.default is None
    }
    return make_dict_unstructure_fn(kind, converter, **optional)


def _is_request(kind: Any) -> bool:
    return getattr(kind, "__module__", None) == bodies.__name__ and kind.__name__.endswith("Body")


def _converter(*, strict: bool, arrays_as_lists: bool) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=strict)
    lists: Callable[[Any], Any] = (lambda array: array.tolist()) if arrays_as_lists else (lambda array: array)
    # By predicate: looking the classes' annotations up, as registering by class does, would import numpy.
    for kind, to in (
        (TensorData, lambda t: {"data": lists(t.data), "dtype": t.dtype, "shape": list(t.shape)}),
        (EncodedTextChunk, lambda c: {"type": "encoded_text", "tokens": lists(c.tokens)}),
        (ImageChunk, _image_to),
        (ModelInput, lambda m: {"chunks": [converter.unstructure(chunk) for chunk in m.chunks]}),
    ):
        converter.register_unstructure_hook_func(partial(operator.is_, kind), to)
    converter.register_structure_hook_factory(attrs.has, lambda kind: _object_hook(kind, converter))
    check = _refuse_unknown if strict else _accept_any
    for kind, hook in (
        (TensorData, _tensor_from),
        (ModelInput, _model_input_from),
        (EncodedTextChunk, _chunk_from),
        (ImageChunk, _chunk_from),
    ):
        converter.register_structure_hook_func(partial(operator.is_, kind), partial(hook, check))
    converter.register_structure_hook_func(lambda kind: kind in (object, type(None)), lambda data, _: data)
    converter.register_unstructure_hook_func(partial(operator.is_, object), lambda data: data)
    converter.register_structure_hook_func(partial(operator.eq, dict[int, float]), _logprobs_by_token_from)
    converter.register_unstructure_hook_func(partial(operator.eq, dict[int, float]), _logprobs_by_token_to)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_unstructure_hook_factory(_is_request, lambda kind: _sent_fields_only(kind, converter))
    converter.register_structure_hook(float, _number_from if strict else _float_from)
    converter.register_structure_hook(int, _int_from)
    converter.register_structure_hook(bool, _bool_from)  # else bool, a subclass of int, is read as one
    converter.register_structure_hook(str, _str_from)
    converter.register_structure_hook(datetime, _time_from)
    converter.register_structure_hook_factory(
        lambda kind: kind is ForwardBackwardOutput, lambda kind: _output_hook(kind, converter)
    )
    return converter


def _object_hook(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    plain = make_dict_structure_fn(kind, converter)

    def from_object(data: Any, _kind: object) -> Any:
        if not isinstance(data, dict):  # a list or a text would pass for an object without fields
            raise InvalidInputError(f"expected an object, got {shown(data)}")
        return plain(data, kind)

    return from_object


def _output_hook(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], ForwardBackwardOutput]:
    plain = cast("Callable[[Any, Any], ForwardBackwardOutput]", make_dict_structure_fn(kind, converter))
    return lambda data, _: _output_from(data, plain)


# Made on first use: together they would be a tenth of what importing this package costs.
_replies = cache(partial(_converter, strict=False, arrays_as_lists=False))
_replies_with_lists = cache(partial(_converter, strict=False, arrays_as_lists=True))
_requests = cache(partial(_converter, strict=True, arrays_as_lists=False))
