"""What a client of the core says to code that was written for the blocking facade: how the call is written here.

It gives the clients nothing that a type checker sees, and nothing that works.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

C = TypeVar("C", bound=type)


def awaited_only(client: C) -> C:
    """Have `client` explain itself where a blocking name is asked for, or ``with`` in place of ``async with``."""
    client.__getattr__ = _missing  # type: ignore[attr-defined]
    client.__enter__ = _entered  # type: ignore[attr-defined]
    client.__exit__ = _left  # type: ignore[attr-defined]
    return client


def _missing(self: object, name: str) -> NoReturn:
    kind = type(self)
    awaited = {"close": "aclose"}.get(name, f"{name}_async")
    if name.startswith("_") or not hasattr(kind, awaited):
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}", name=name, obj=self)
    raise AttributeError(
        f"{kind.__name__} of loops_sdk has no {name}, it is awaited: `await client.{awaited}(...)`; "
        f"for calls that block take the {kind.__name__} of loops_sdk_sync"
    )


def _entered(self: object) -> NoReturn:
    kind = type(self).__name__
    raise TypeError(f"a {kind} of loops_sdk is entered with `async with`; for `with` take the {kind} of loops_sdk_sync")


def _left(self: object, *_error: Any) -> None:
    """Never called: nothing is entered. Without it ``with`` would not even ask to enter."""
