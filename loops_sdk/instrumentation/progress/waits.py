"""What is being waited for, and which of it is worth a line: whatever has lasted a while, many of a kind as one.

The time is an argument; there is no clock, no thread and no terminal here. It may be used from several threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from itertools import chain

import attrs

__all__ = ["Line", "Wait", "Waits"]

#: Calls that may be over and still in line, besides as many as wait.
_FEW = 64


@attrs.define(eq=False)
class Wait:
    """One thing that is waited for.

    Attributes:
        owner: who told of it, and may forget all of its own.
        subject: what it is, for people.
        since: when it began, in seconds on the clock of who asks.
        call: whether it is one of many calls of the same name, which share a line.
        state: how far it has come.
        done, total: bytes that are there, and that there will be; `None` where nothing is counted.
        first: bytes that were there in the beginning.
        over: whether a call has ended.
    """

    owner: object
    subject: str
    since: float
    call: bool = False
    state: str | None = None
    done: int | None = None
    total: int | None = None
    first: int = 0
    over: bool = False

    def counted(self, done: int, total: int) -> None:
        """So many bytes are there."""
        if self.done is None:
            self.first = done
        self.done, self.total = done, total


@attrs.frozen
class Line:
    """What is shown of one wait, or of all calls of a name.

    Attributes:
        subject: what is waited for.
        seconds: how long, of calls the one that began first.
        state: how far it has come; of calls, how many wait.
        done, total: calls or bytes; `None` where nothing is counted.
        speed: bytes per second; `None` for calls.
    """

    subject: str
    seconds: float
    state: str = ""
    done: int | None = None
    total: int | None = None
    speed: float | None = None


@attrs.define
class _Calls:
    """All calls of a name that wait, oldest first. Those that are over stay in line for a while: to take each out of
    the middle would cost the more, the more there are.
    """

    line: deque[Wait] = attrs.field(factory=deque)
    waiting: int = 0
    over: int = 0

    def oldest(self) -> Wait:
        """The one that began first; there is one."""
        while self.line[0].over:
            self.line.popleft()
        return self.line[0]


class Waits:
    """All of a process.

    Args:
        delay: seconds after which a wait gets a line.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self._single: dict[Wait, None] = {}
        self._calls: dict[str, _Calls] = {}

    def add(self, wait: Wait) -> None:
        """It has begun."""
        with self._lock:
            if not wait.call:
                self._single[wait] = None
                return
            calls = self._calls.setdefault(wait.subject, _Calls())
            calls.line.append(wait)
            calls.waiting += 1

    def remove(self, wait: Wait) -> None:
        """It is over; a second time this has no effect."""
        with self._lock:
            self._remove(wait)

    def forget(self, owner: object) -> None:
        """Nobody hears any more of what this owner told of."""
        with self._lock:
            lines = (calls.line for calls in self._calls.values())
            for wait in [one for one in chain(self._single, *lines) if one.owner is owner]:
                self._remove(wait, counted=False)

    def lines(self, now: float) -> list[Line]:
        """What is shown, in the order in which it began."""
        with self._lock:
            shown = [wait for wait in self._oldest() if now - wait.since >= self._delay]
            shown.sort(key=lambda wait: wait.since)
            return [self._line(wait, now) for wait in shown]

    def due(self) -> float | None:
        """When the next line may appear, or one has; `None` while nothing is waited for."""
        with self._lock:
            return min((wait.since + self._delay for wait in self._oldest()), default=None)

    def _oldest(self) -> Iterator[Wait]:
        return chain(self._single, (calls.oldest() for calls in self._calls.values()))

    def _remove(self, wait: Wait, *, counted: bool = True) -> None:
        if not wait.call:
            self._single.pop(wait, None)
        elif not wait.over and (calls := self._calls.get(wait.subject)) is not None:
            wait.over = True
            calls.waiting -= 1
            calls.over += counted
            if calls.waiting == 0:
                del self._calls[wait.subject]
            elif len(calls.line) > 2 * calls.waiting + _FEW:
                calls.line = deque(one for one in calls.line if not one.over)

    def _line(self, wait: Wait, now: float) -> Line:
        seconds = now - wait.since
        if not wait.call:
            speed = None if wait.done is None else (wait.done - wait.first) / max(seconds, 1e-9)
            return Line(wait.subject, seconds, wait.state or "", wait.done, wait.total, speed)
        calls = self._calls[wait.subject]
        if calls.waiting + calls.over == 1:
            return Line(wait.subject, seconds)
        return Line(wait.subject, seconds, f"{calls.waiting} waiting", calls.over, calls.over + calls.waiting)
