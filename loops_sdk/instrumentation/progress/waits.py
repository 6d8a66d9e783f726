"""What is being waited for, and which of it is worth a line: whatever has lasted a while, many of a kind as one.

The time is an argument; there is no clock, no thread and no terminal here. It may be used from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain

import attrs

__all__ = ["Line", "Wait", "Waits"]


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
    """

    owner: object
    subject: str
    since: float
    call: bool = False
    state: str | None = None
    done: int | None = None
    total: int | None = None
    first: int = 0

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


class Waits:
    """All of a process.

    Args:
        delay: seconds after which a wait gets a line.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self._single: dict[Wait, None] = {}
        self._calls: dict[str, dict[Wait, None]] = {}
        self._over: dict[str, int] = {}  #: calls of a name that are over, since there was none

    def add(self, wait: Wait) -> None:
        """It has begun."""
        with self._lock:
            (self._calls.setdefault(wait.subject, {}) if wait.call else self._single)[wait] = None

    def remove(self, wait: Wait) -> None:
        """It is over; a second time this has no effect."""
        with self._lock:
            waits = self._calls.get(wait.subject, {}) if wait.call else self._single
            if waits.pop(wait, wait) is None and wait.call:
                self._over[wait.subject] = self._over.get(wait.subject, 0) + 1
                self._tidy(wait.subject)

    def forget(self, owner: object) -> None:
        """Nobody hears any more of what this owner told of."""
        with self._lock:
            for waits in (self._single, *self._calls.values()):
                for wait in [one for one in waits if one.owner is owner]:
                    del waits[wait]
            for name in list(self._calls):
                self._tidy(name)

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
        return chain(self._single, (next(iter(calls)) for calls in self._calls.values()))

    def _tidy(self, name: str) -> None:
        if not self._calls[name]:
            del self._calls[name]
            self._over.pop(name, None)

    def _line(self, wait: Wait, now: float) -> Line:
        seconds = now - wait.since
        if not wait.call:
            speed = None if wait.done is None else (wait.done - wait.first) / max(seconds, 1e-9)
            return Line(wait.subject, seconds, wait.state or "", wait.done, wait.total, speed)
        waiting, over = len(self._calls[wait.subject]), self._over.get(wait.subject, 0)
        if waiting + over == 1:
            return Line(wait.subject, seconds)
        return Line(wait.subject, seconds, f"{waiting} waiting", over, over + waiting)
