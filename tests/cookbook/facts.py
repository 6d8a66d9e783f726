"""What can be said of a namespace without running it, as flat facts: one line per name, parameter and field.

Two namespaces are compared fact by fact. Nothing here knows which is the original.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, get_args, get_origin

import pydantic

#: Methods of pydantic's base class; which of them our values have, `test_namespace` says apart.
OF_PYDANTIC = frozenset(dir(pydantic.BaseModel))


def of_modules(modules: Mapping[str, types.ModuleType], only: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The facts of modules by name, such as ``tinker.types``, of some modules `only` those of a few names.

    What is shown again by a later module is described once only.
    """
    facts: dict[str, str] = {}
    described: dict[int, str] = {}
    for module_name, module in modules.items():
        for name in only.get(module_name) or public(module):
            key, value = f"{module_name}.{name}", getattr(module, name)
            is_ours = isinstance(value, type) and "tinker" in (value.__module__ or "")
            if is_ours and id(value) in described:
                facts[key] = f"is {described[id(value)]}"
                continue
            described[id(value)] = key
            facts.update(_of_value(key, value))
    return facts


def public(module: types.ModuleType) -> list[str]:
    """What a module says that it shows; failing that, what it shows without being asked for a module or a feature."""
    shown = getattr(module, "__all__", None)
    if shown is not None:
        return sorted(shown)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    )


def _of_value(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, type) and get_origin(value) is None:
        yield from _of_class(key, value)
    elif inspect.isfunction(value):
        yield key, _kind_of_function(value)
        yield from _of_parameters(key, value)
    elif isinstance(value, types.ModuleType):
        yield key, "module"
    elif isinstance(value, str):
        yield key, "text"
    else:
        yield key, _shown_alias(value)


def _shown_alias(value: Any) -> str:
    """What a union, a literal or a container is made of, in order of name: unions can be spelt in many ways."""
    return f"alias of {', '.join(sorted(set(_leaves(value))))}"


def _leaves(value: Any) -> Iterator[str]:
    parts = value.__args__ if get_origin(value) is Annotated else get_args(value)
    if isinstance(value, type) and not parts:
        yield value.__name__
    elif not parts:
        yield str(value)
    for part in parts:
        yield from _leaves(part)


def _of_class(key: str, cls: type) -> Iterator[tuple[str, str]]:
    yield key, _kind_of_class(cls)
    if issubclass(cls, enum.Enum):
        yield from ((f"{key}.{member.name}", repr(member.value)) for member in cls)
        return
    if not issubclass(cls, dict):
        yield from _of_parameters(key, cls)
    for name in dir(cls):
        if not name.startswith("_") and name not in OF_PYDANTIC:
            yield from _of_member(f"{key}.{name}", cls, name)


def _kind_of_class(cls: type) -> str:
    if not issubclass(cls, BaseException):
        return "class"
    builtin = [base.__name__ for base in cls.__mro__[1:] if base is not object]
    return f"error: {', '.join(builtin)}"


def _of_member(key: str, cls: type, name: str) -> Iterator[tuple[str, str]]:
    member = inspect.getattr_static(cls, name)
    if isinstance(member, staticmethod | classmethod):
        yield key, f"{type(member).__name__}, {_kind_of_function(member.__func__)}"
        yield from _of_parameters(key, getattr(cls, name))
    elif inspect.isfunction(member):
        yield key, _kind_of_function(member)
        yield from _of_parameters(key, member)
    elif isinstance(member, property | cached_property):
        yield key, "property"
    # anything else is a field, which the constructor shows, or data of a class


def _kind_of_function(function: Any) -> str:
    return "coroutine function" if inspect.iscoroutinefunction(inspect.unwrap(function)) else "function"


def _of_parameters(key: str, function: Any) -> Iterator[tuple[str, str]]:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a class in C, which has no signature
        return
    place = 0
    for name, parameter in parameters.items():
        if name.startswith("_"):
            continue
        place += parameter.kind is not parameter.KEYWORD_ONLY
        where = "by name" if parameter.kind is parameter.KEYWORD_ONLY else f"{place}. {parameter.kind.description}"
        yield f"{key}({name})", f"{where}, {_shown_default(parameter.default)}"


def _shown_default(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, type):
        return f"default {default.__name__}"
    return f"default {default!r}"


def differences(original: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """What differs, by the name of the fact; of something that is missing only that it is."""
    missing = {key for key in {*original, *ours} if key not in original or key not in ours}
    found: dict[str, str] = {}
    for key in sorted({*original, *ours}):
        if original.get(key) != ours.get(key) and not any(whole in missing for whole in _wholes(key)):
            found[key] = f"{original.get(key, 'absent')} -> {ours.get(key, 'absent')}"
    return found


def _wholes(key: str) -> Iterator[str]:
    """What a fact belongs to: the function of a parameter, the class of a method."""
    function, parenthesis, _ = key.partition("(")
    if parenthesis:
        yield function
    while "." in function:
        function = function.rpartition(".")[0]
        yield function
