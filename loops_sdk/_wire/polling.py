"""Which operation to ask for next, as a machine without clock or network.

A trainer works through its operations one at a time and in order, so asking for the few at the head of the queue is
enough, however many wait behind them. The machine also decides how long to stay away from a server that fails, and
when an operation has had its time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Literal

import attrs

from loops_sdk._wire.retrying import Backoff

Heard = Literal["finished", "running", "transient"]

#: A server holds a question for many seconds before it says "still running". Answers that come sooner than this are
#: followed up at once a few times, then with growing pauses: a server that does not hold must not be asked in a loop.
_HELD = 1.0
_FREE = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0


@attrs.define
class _Waiting:
    since: float  # from then on the trainer could work on it: registered, or the last one before it finished
    place: int
    asked_at: float | None = None


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
    _asking: set[str] = attrs.field(factory=set, init=False)
    _trial: str | None = attrs.field(default=None, init=False)  # the one question sent since the server last failed
    _hasty: int = attrs.field(default=0, init=False)
    _last_finish: float = attrs.field(default=float("-inf"), init=False)
    _not_before: float = attrs.field(default=float("-inf"), init=False)

    def __len__(self) -> int:
        return len(self._queue)

    def register(self, operation_id: str, now: float, place: int | None = None) -> None:
        """Start asking for an operation: at its place in the trainer's order, or behind all that wait already."""
        if operation_id in self._queue:
            return
        last = self._queue[next(reversed(self._queue))].place if self._queue else -1
        mine = last + 1 if place is None else place
        self._queue[operation_id] = _Waiting(now, mine)
        if mine < last:  # it is asked for once more, while younger ones wait
            self._queue = OrderedDict(sorted(self._queue.items(), key=lambda item: item[1].place))

    def cancel(self, operation_id: str) -> None:
        """Stop asking for an operation; unknown ids are ignored."""
        self._queue.pop(operation_id, None)
        self._answered(operation_id)

    def next_poll(self, now: float) -> str | None:
        """The operation to ask for now, marked as being asked for; `None` when there is nothing to do yet.

        While the server fails, one question at a time goes out, after the back-off, for however many operations wait.
        """
        if now < self._not_before or len(self._asking) >= self.window or self._trial is not None:
            return None
        for operation_id, waiting in islice(self._queue.items(), self.window):
            if operation_id not in self._asking:
                self._ask(operation_id, waiting, now)
                return operation_id
        return None

    def _ask(self, operation_id: str, waiting: _Waiting, now: float) -> None:
        if waiting.asked_at is None:
            waiting.since = max(waiting.since, self._last_finish)
        waiting.asked_at = now
        self._asking.add(operation_id)
        if self.failures:
            self._trial = operation_id

    def _answered(self, operation_id: str) -> None:
        self._asking.discard(operation_id)
        if self._trial == operation_id:
            self._trial = None

    def feed(self, operation_id: str, heard: Heard, now: float, retry_after: float | None = None) -> None:
        """What came of asking: finished (well or badly), still running, or a failure that may pass.

        A server may ask to be left alone for `retry_after` seconds, but for no longer than `timeout`.
        """
        self._answered(operation_id)
        if heard == "transient":
            self.failures += 1
            pause = self.backoff.delay(self.failures, self.draw())
            self._stay_away(now + max(pause, min(retry_after or 0.0, self.timeout)))
            return
        self.failures, self._trial = 0, None
        waiting = self._queue.get(operation_id)
        if waiting is None:
            return
        if heard == "finished":
            self._finish(operation_id, now)
        else:
            self._pace(waiting, now)

    def _finish(self, operation_id: str, now: float) -> None:
        passed = False
        for other, waiting in islice(self._queue.items(), self.window):
            if passed:
                waiting.since = now
            passed = passed or other == operation_id
        self._last_finish, self._hasty = now, 0
        del self._queue[operation_id]

    def _pace(self, waiting: _Waiting, now: float) -> None:
        held = waiting.asked_at is not None and now - waiting.asked_at >= _HELD
        self._hasty = 0 if held else self._hasty + 1
        if self._hasty > _FREE:
            self._stay_away(now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._hasty - _FREE, 30)))

    def _stay_away(self, until: float) -> None:
        self._not_before = max(self._not_before, until)

    def expire(self, now: float) -> list[str]:
        """Remove and return the operations at the head that have had their time. Those behind them follow at once when
        the trainer has finished nothing in the meantime, so a trainer that hangs fails all its operations together."""
        expired: list[str] = []
        while (first := next(iter(self._queue), None)) is not None:
            if self._deadline(self._queue[first]) > now:
                break
            self.cancel(first)
            expired.append(first)
        return expired

    def wake_at(self, now: float) -> float | None:
        """When to look again even if nothing is heard: the end of the back-off or the deadline of the head."""
        first = next(iter(self._queue.values()), None)
        if first is None:
            return None
        deadline = self._deadline(first)
        return min(deadline, self._not_before) if self._not_before > now else deadline

    def _deadline(self, waiting: _Waiting) -> float:
        start = waiting.since if waiting.asked_at is not None else max(waiting.since, self._last_finish)
        return start + self.timeout
