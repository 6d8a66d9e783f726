"""Which operation to ask for next, as a machine without clock or network.

A trainer works through its operations one at a time and in order, so asking for the few at the head of the queue is
enough, however many wait behind them. The machine also decides how long to stay away from a server that fails, and
when an operation has had its time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal

import attrs

from loops_sdk._wire.retrying import Backoff

Heard = Literal["finished", "running", "transient"]


@attrs.define
class _Waiting:
    since: float  # from then on the trainer could work on it: registered, or the last one before it finished
    asking: bool = False
    asked: bool = False


@attrs.define
class Polling:
    """The queue of one trainer's unfinished operations.

    Args:
        timeout: seconds an operation may take once those before it have finished.
        window: how many operations at the head are asked for at the same time.
        backoff: how long to stay away after failures in a row.
        draw: uniform random numbers in [0, 1), for the jitter.
    """

    timeout: float
    draw: Callable[[], float]
    window: int = 2
    backoff: Backoff = attrs.field(factory=Backoff)
    failures: int = attrs.field(default=0, init=False)
    _queue: OrderedDict[str, _Waiting] = attrs.field(factory=OrderedDict, init=False)
    _last_finish: float = attrs.field(default=float("-inf"), init=False)
    _not_before: float = attrs.field(default=float("-inf"), init=False)

    def __len__(self) -> int:
        return len(self._queue)

    def register(self, operation_id: str, now: float) -> None:
        """Start asking for an operation, behind all that are registered already."""
        self._queue.setdefault(operation_id, _Waiting(now))

    def cancel(self, operation_id: str) -> None:
        """Stop asking for an operation; unknown ids are ignored."""
        self._queue.pop(operation_id, None)

    def next_poll(self, now: float) -> str | None:
        """The operation to ask for now, marked as being asked for; `None` when there is nothing to do yet.

        While the server fails, one question at a time goes out, after the back-off, for however many operations wait.
        """
        if now < self._not_before:
            return None
        head = list(self._head())
        if self.failures and any(waiting.asking for _, waiting in head):
            return None
        for operation_id, waiting in head:
            if not waiting.asking:
                self._mark(waiting)
                return operation_id
        return None

    def _mark(self, waiting: _Waiting) -> None:
        if not waiting.asked:
            waiting.since = max(waiting.since, self._last_finish)
        waiting.asking = waiting.asked = True

    def feed(self, operation_id: str, heard: Heard, now: float, retry_after: float | None = None) -> None:
        """What came of asking: finished (well or badly), still running, or a failure that may pass."""
        if heard == "transient":
            self.failures += 1
            self._not_before = now + max(self.backoff.delay(self.failures, self.draw()), retry_after or 0.0)
        else:
            self.failures = 0
        waiting = self._queue.get(operation_id)
        if waiting is None:
            return
        waiting.asking = False
        if heard == "finished":
            self._finish(operation_id, now)

    def _finish(self, operation_id: str, now: float) -> None:
        passed = False
        for other, waiting in self._head():
            if passed:
                waiting.since = now
            passed = passed or other == operation_id
        self._last_finish = now
        del self._queue[operation_id]

    def expire(self, now: float) -> list[str]:
        """Remove and return the operations at the head that have had their time. Those behind them follow at once when
        the trainer has finished nothing in the meantime, so a trainer that hangs fails all its operations together."""
        expired: list[str] = []
        while (first := next(iter(self._queue), None)) is not None:
            if self._deadline(self._queue[first]) > now:
                break
            del self._queue[first]
            expired.append(first)
        return expired

    def wake_at(self, now: float) -> float | None:
        """When to look again even if nothing is heard: the end of the back-off or the deadline of the head."""
        first = next(iter(self._queue.values()), None)
        if first is None:
            return None
        deadline = self._deadline(first)
        return min(deadline, self._not_before) if self._not_before > now else deadline

    def _head(self) -> Iterator[tuple[str, _Waiting]]:
        yield from islice(self._queue.items(), self.window)

    def _deadline(self, waiting: _Waiting) -> float:
        return (waiting.since if waiting.asked else max(waiting.since, self._last_finish)) + self.timeout
