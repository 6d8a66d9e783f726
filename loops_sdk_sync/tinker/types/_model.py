"""What the values of this namespace have in common: the methods that scripts know from pydantic, without pydantic.

It decides how a value is made from, and turned into, plain data. pydantic itself is imported only where a class of it
has a field of one of these types.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, dataclass_transform, get_type_hints

import attrs

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types._reading import read

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

__all__ = ["FieldInfo", "OpenModel", "StrictModel", "Value"]

T = TypeVar("T")
Mode = Literal["python", "json"]


@attrs.frozen
class FieldInfo:
    """A field, as `model_fields` shows it.

    Attributes:
        default: its default; of a required field ``inspect.Parameter.empty``.
    """

    default: Any

    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty


class _PerClass(Generic[T]):
    """An attribute of classes that is worked out once for each."""

    def __init__(self, work: Callable[[type], T]) -> None:
        self._work = work
        self._known: dict[type, T] = {}

    def __get__(self, instance: object, owner: type) -> T:
        if owner not in self._known:
            self._known[owner] = self._work(owner)
        return self._known[owner]


def _fields(cls: type) -> Mapping[str, FieldInfo]:
    return {name: FieldInfo(parameter.default) for name, parameter in inspect.signature(cls).parameters.items()}


def _kinds(cls: type) -> Mapping[str, Any]:
    hints = get_type_hints(cls)
    return {name: hints[name] for name in _fields(cls)}


class Value:
    """Plain data in and out. The fields are the parameters of the constructor."""

    #: The fields by name, in order.
    model_fields: ClassVar[_PerClass[Mapping[str, FieldInfo]]] = _PerClass(_fields)
    _ignores_unknown: ClassVar[bool] = False

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the fields that were given, rather than left to their default."""
        return set(self.model_fields)

    @classmethod
    def model_validate(cls, obj: Any) -> Self:
        """A value from plain data.

        Args:
            obj: a dict with the fields, nested ones as dicts; a value of this type is given back as it is.

        Raises:
            InvalidInputError: a field is missing, unknown (where unknown ones are not ignored) or of another type.
        """
        if isinstance(obj, cls):
            return obj
        if not isinstance(obj, Mapping):
            raise InvalidInputError(f"{cls.__name__}: expected a dict of its fields, got {type(obj).__name__}")
        known = cls.model_fields
        return cls(**{name: one for name, one in obj.items() if name in known or not cls._ignores_unknown})

    @classmethod
    def model_validate_json(cls, json_data: str | bytes) -> Self:
        """`model_validate` of a JSON document.

        Raises:
            InvalidInputError: not JSON, or not the fields of this type.
        """
        try:
            return cls.model_validate(json.loads(json_data))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{cls.__name__}: expected a JSON document ({error})") from None

    def model_dump(
        self,
        *,
        mode: Mode = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_unset: bool = False,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """The fields as plain data, nested values as dicts, bytes as base64 text.

        Args:
            mode: ``"json"`` also turns dates into text and tuples into lists.
            include: names of the fields wanted; `None` means all.
            exclude: names of the fields not wanted.
            exclude_unset: leave out what was not given, here and in nested values.
            exclude_none: leave out what is `None`, here and in nested values.
        """
        nested = {"mode": mode, "exclude_unset": exclude_unset, "exclude_none": exclude_none}
        names = self.model_fields_set if exclude_unset else set(self.model_fields)
        wanted = names.difference(exclude).intersection(names if include is None else include)
        dumped = {name: getattr(self, name) for name in self.model_fields if name in wanted}
        return {name: _plain(one, nested) for name, one in dumped.items() if not (exclude_none and one is None)}

    def model_dump_json(
        self,
        *,
        indent: int | None = None,
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_unset: bool = False,
        exclude_none: bool = False,
    ) -> str:
        """`model_dump(mode="json")` as a JSON document.

        Args:
            indent: spaces per level; `None` writes one line.
            include, exclude, exclude_unset, exclude_none: as there.

        Raises:
            ValueError: a number is infinite or NaN, which JSON does not have.
        """
        plain = self.model_dump(
            mode="json", include=include, exclude=exclude, exclude_unset=exclude_unset, exclude_none=exclude_none
        )
        separators = (",", ":") if indent is None else None
        return json.dumps(plain, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy.

        Args:
            update: fields that the copy has otherwise; they are checked like those of a new value.
            deep: copy what the fields hold, too.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**(copy.deepcopy(given) if deep else given), **(update or {})})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """What pydantic asks a type for that it does not know: take a value or a dict, give a dict."""
        from pydantic_core import core_schema

        dump = core_schema.plain_serializer_function_ser_schema(
            lambda value, info: value.model_dump(mode=info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(cls.model_validate, serialization=dump)


def _plain(value: Any, how: Mapping[str, Any]) -> Any:
    if isinstance(value, Value):
        return value.model_dump(**how)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _plain(one, how) for key, one in value.items()}
    if isinstance(value, list | tuple):
        items = (_plain(one, how) for one in value)
        return tuple(items) if isinstance(value, tuple) and how["mode"] == "python" else list(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value), how)
    return _json(value) if how["mode"] == "json" else value


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.value if isinstance(value, Enum) else value


def _remade(cls: type, given: dict[str, Any]) -> Any:
    return cls(**given)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,))
class StrictModel(Value):
    """A frozen value whose fields are given by name and read by their annotations. Unknown fields are refused."""

    _given: frozenset[str]
    _kinds: ClassVar[_PerClass[Mapping[str, Any]]] = _PerClass(_kinds)

    def __init_subclass__(cls, abstract: bool = False) -> None:
        if not abstract:
            # `kw_only=` reaches inherited fields in some versions of attrs only.
            attrs.frozen(
                cls,
                slots=False,
                auto_attribs=True,
                field_transformer=lambda _cls, fields: [field.evolve(kw_only=True) for field in fields],
            )

    def __new__(cls, *_args: Any, **given: Any) -> Self:
        fields = cls.model_fields
        if unknown := [name for name in given if name not in fields]:
            raise InvalidInputError(f"{unknown[0]}: {cls.__name__} has no such field; it has {', '.join(fields)}")
        if missing := [name for name, field in fields.items() if field.is_required() and name not in given]:
            raise InvalidInputError(f"{missing[0]}: {cls.__name__} needs this field")
        made = super().__new__(cls)
        object.__setattr__(made, "_given", frozenset(given))
        return made

    def __attrs_post_init__(self) -> None:
        for name, kind in self._kinds.items():
            if name in self._given:
                object.__setattr__(self, name, read(kind, getattr(self, name), name))

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the fields that were given, rather than left to their default."""
        return set(self._given)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """The fields as pairs, so that ``dict(value)`` has them, nested values as they are."""
        return iter([(name, getattr(self, name)) for name in self.model_fields])

    def __reduce__(self) -> tuple[Any, ...]:
        """By construction, so that a copy knows which fields were given."""
        return _remade, (type(self), {name: getattr(self, name) for name in self._given})


class OpenModel(StrictModel, abstract=True):
    """A value that a server sends: `model_validate` passes over fields that it does not know yet."""

    _ignores_unknown: ClassVar[bool] = True
