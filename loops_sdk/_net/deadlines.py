"""What bounds everything that is under way: its own time, and the end of all of it. It does not know what is under way.

One timer serves all: to arm and disarm one per request would cost as much as encoding the request.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds between two looks: thousands that run out together are found in a few.
_RESOLUTION = 0.01


class Deadlines:
    """The scopes that are open, each until when."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def within(self, seconds: float | None = None) -> _Scope:
        """``async with deadlines.within(seconds):`` raises `TimeoutError` when that is over, or with `end`."""
        return _Scope(self, seconds)

    def end(self) -> None:
        """Let every open scope run out now."""
        self._run_out(list(self._open))
        if self._timer is not None:
            self._timer.cancel()

    def add(self, scope: asyncio.Timeout, seconds: float | None) -> None:
        """Let a scope that was just entered run out in so many seconds."""
        at = math.inf if seconds is None else asyncio.get_running_loop().time() + seconds
        self._open[scope] = at
        if at < self._next:
            self._wake_at(at)

    def remove(self, scope: asyncio.Timeout) -> None:
        """Forget a scope. The timer stays: it finds nothing, or what is next."""
        self._open.pop(scope, None)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        now, self._timer, self._next = self._next, None, math.inf
        self._run_out([scope for scope, at in self._open.items() if at <= now])
        coming = min(self._open.values(), default=math.inf)
        if coming < math.inf:
            self._wake_at(max(coming, now + _RESOLUTION))

    def _run_out(self, scopes: list[asyncio.Timeout]) -> None:
        now = asyncio.get_running_loop().time()
        for scope in scopes:
            del self._open[scope]  # it runs out once
            scope.reschedule(now)


class _Scope:
    def __init__(self, deadlines: Deadlines, seconds: float | None) -> None:
        self._deadlines, self._seconds, self._scope = deadlines, seconds, asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        self._deadlines.add(self._scope, self._seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self._scope)
        await self._scope.__aexit__(kind, error, trace)
