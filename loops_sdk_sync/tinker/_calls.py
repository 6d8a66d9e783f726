"""How the methods of the namespace come in their second form, and what they say of arguments that lead nowhere."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeAlias, TypeVar

from loops_sdk_sync.tinker._exceptions import NotOfferedError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

Twin: TypeAlias = Callable[P, Coroutine[Any, Any, T]]


def awaited(method: Callable[Concatenate[S, P], Awaitable[T]]) -> Twin[Concatenate[S, P], T]:
    """The ``*_async`` form of a method whose result is wanted at once: a coroutine that gives the value."""

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await method(self, *args, **kwargs)

    return _as_twin(twin, method, "As `{}`, awaited: gives the value itself.")


def submitted(method: Callable[Concatenate[S, P], T]) -> Twin[Concatenate[S, P], T]:
    """The ``*_async`` form of an operation of the trainer: a coroutine that gives the future."""

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self, *args, **kwargs)

    return _as_twin(twin, method, "As `{}`, which does not block either: gives its future.")


def _as_twin(twin: Twin[P, T], method: Callable[..., Any], text: str) -> Twin[P, T]:
    name = method.__name__
    # Not functools.wraps: whoever unwraps it would take it for a plain function.
    twin.__name__, twin.__doc__, twin.__module__ = f"{name}_async", text.format(name), method.__module__
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return twin


def refused(name: str, why: str) -> tuple[Callable[..., NoReturn], Callable[..., Coroutine[Any, Any, NoReturn]]]:
    """Both forms of a method that Loops has no counterpart of.

    Args:
        name: class and method, for the message.
        why: what is missing, and what to do instead.
    """

    def method(_self: object, *_args: Any, **_kwargs: Any) -> NoReturn:
        refuse(name, why)

    async def twin(_self: object, *_args: Any, **_kwargs: Any) -> NoReturn:
        refuse(name, why)

    method.__doc__ = twin.__doc__ = f"Not offered: {why}.\n\nRaises:\n    NotOfferedError: always."
    method.__qualname__, twin.__qualname__ = name, f"{name}_async"
    return method, twin


def refuse(what: str, why: str) -> NoReturn:
    """Say that there is no such thing here.

    Raises:
        NotOfferedError: always.
    """
    raise NotOfferedError(f"{what}: {why}")


def not_kept(argument: str, value: object, why: str, *, stacklevel: int = 3) -> None:
    """Warn, once per line of the user's, of an argument that changes nothing here."""
    if value:
        warnings.warn(f"{argument}: {why}", UserWarning, stacklevel=stacklevel)
