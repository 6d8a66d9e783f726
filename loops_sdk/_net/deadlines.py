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
        self._open: dict[_Scope, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def within(self, seconds: float = math.inf) -> _Scope:
        """``async with deadlines.within(seconds):`` raises `TimeoutError` when that is over, or with `end`."""
        return _Scope(self, seconds)

    def end(self) -> None:
        """Let every open scope run out now."""
        self._run_out(list(self._open))
        if self._timer is not None:
            self._timer.cancel()

    def add(self, scope: _Scope, seconds: float) -> None:
        """Let a scope run out in so many seconds."""
        self._open[scope] = at = asyncio.get_running_loop().time() + seconds
        if at < self._next:
            self._wake_at(at)

    def remove(self, scope: _Scope) -> None:
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

    def _run_out(self, scopes: list[_Scope]) -> None:
        for scope in scopes:
            del self._open[scope]
            scope.run_out()


class _Scope:
    """As `asyncio.timeout`, without a timer: the task is cancelled, and what comes of it is a `TimeoutError`, unless
    somebody else cancelled it as well.
    """

    __slots__ = ("_cancelled_before", "_deadlines", "_ran_out", "_seconds", "_task")

    _task: asyncio.Task[object]
    _cancelled_before: int

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines, self._seconds, self._ran_out = deadlines, seconds, False

    def run_out(self) -> None:
        """To be called once."""
        self._ran_out = True
        self._task.cancel()

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task that it can cancel")
        self._task, self._cancelled_before = task, task.cancelling()
        self._deadlines.add(self, self._seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if self._ran_out and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error
