"""`Proxy`: what every generated client is made of. It holds a client of the core and closes it in the end.

It decides who keeps whom alive: a client made by another one, and every future, hold on to where they came from.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from loops_sdk_sync._futures import CoreFuture, Future
from loops_sdk_sync._portal import Closable, Portal, portal

A = TypeVar("A")
C = TypeVar("C", bound=Closable)
T = TypeVar("T")


class Proxy(Generic[C]):
    """A client of the core, used through the portal."""

    _core: C
    _door: Portal
    _parent: Proxy[Any] | None
    #: The subclasses that a client hands out in place of the generated clients.
    _given: ClassVar[Mapping[type[Proxy[Any]], type[Proxy[Any]]]] = {}

    def _start(self, core: C, opening: Callable[[C], Coroutine[Any, Any, object]] | None = None) -> None:
        """Take over a client that belongs to nobody else: it is closed when this one is collected, or at exit."""
        self._core, self._door, self._parent = core, portal(), None
        self._door.keep(core)
        release = weakref.finalize(self, self._door.release, core)
        release.atexit = False  # the portal does that itself, while its loop still runs
        if opening is not None:
            try:
                self._door.call(opening, core)
            except BaseException:
                release()
                raise

    @classmethod
    def _alone(cls, core: C) -> Self:
        self = cls.__new__(cls)
        self._start(core)
        return self

    @classmethod
    def _around(cls, core: C, parent: Proxy[Any]) -> Self:
        """The facade of a client that ends with the one that made it."""
        kind = cast("type[Self]", parent._given.get(cls, cls))
        self = kind.__new__(kind)
        self._core, self._door, self._parent = core, parent._door, parent
        return self

    @property
    def _portal(self) -> Portal:
        """Where this client lives. After a fork one that can be copied goes on in the child as a copy; others
        refuse.
        """
        if self._door.forked:
            with contextlib.suppress(TypeError):
                self._start(copy.copy(self._core))
        return self._door

    def _future(self, core: CoreFuture[T]) -> Future[T]:
        return Future(self._portal, core, self)

    def _future_of(self, around: Callable[[A, Proxy[Any]], T], core: CoreFuture[A]) -> Future[T]:
        return Future(self._portal, core, self, lambda made: around(made, self))

    def __repr__(self) -> str:
        return repr(self._core)

    def __reduce__(self) -> tuple[Any, ...]:
        """As the client of the core, which may refuse; the copy belongs to nobody else."""
        return _again, (type(self), self._core)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.call(self._core.aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._portal.call_async(self._core.aclose)


def _again(kind: type[Proxy[Any]], core: Closable) -> Proxy[Any]:
    return kind._alone(copy.copy(core))  # of its own also where nothing was pickled, as by `copy.copy`
