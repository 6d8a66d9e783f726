"""What is remembered of operations: keys and results, within bounds. It has no thread, no clock and no event loop.

A result may be dropped; a key outlives it, so that an operation whose result is gone is still never done twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import takewhile

import attrs

from loops_sdk.errors import BadRequestError, InvalidInputError, NotFoundError

__all__ = ["Bounds", "Losses", "Operation", "Records", "Told"]


@attrs.frozen
class Bounds:
    """How much is kept.

    Attributes:
        results: most finished results.
        result_bytes: most bytes of them together.
        result_age: seconds that a result stays after the operation finished.
        keys: most keys of operations whose result has been dropped.
        queued: most operations that wait.
        queued_bytes: most bytes of their requests together.
    """

    results: int = 10_000
    result_bytes: int = 2 * 2**30
    result_age: float = 3600.0
    keys: int = 100_000
    queued: int = 10_000
    queued_bytes: int = 8 * 2**30


@attrs.define(eq=False)
class Operation:
    """One accepted operation. `work` is dropped when it is done, `reply` is there from then on.

    `seq` is its place in the journal, 0 without one. `again`: it may have been under way at a crash. `accepted_at` and
    `started_at` are seconds since the epoch; an operation that an earlier process accepted has no `accepted_at`.
    """

    id: str
    name: str
    key: str | None
    fingerprint: bytes
    size: int
    work: Callable[[], bytes] | None
    seq: int = 0
    again: bool = False
    accepted_at: float | None = None
    started_at: float | None = None
    reply: bytes | None = None
    finished_at: float = 0.0
    done: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.frozen
class Told:
    """An operation as people are told of it: how far it has come, and when. Times are seconds since the epoch.

    Attributes:
        operation: its name.
        accepted_at: `None` when an earlier process accepted it.
        started_at: `None` while it waits.
        finished_at: `None` while it waits or runs.
        error: what it failed with, if it did.
    """

    id: str
    operation: str
    accepted_at: float | None
    started_at: float | None
    finished_at: float | None = None
    error: str | None = None


@attrs.frozen
class _Dropped:
    operation_id: str
    fingerprint: bytes
    seq: int


@attrs.define
class Losses:
    """What has been dropped since somebody last asked, by place in the journal: results, and whole operations."""

    results: list[int] = attrs.field(factory=list)
    operations: list[int] = attrs.field(factory=list)


class Records:
    """Operations by id and by key. For one thread at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._by_id: dict[str, Operation] = {}
        self._by_key: dict[str, Operation] = {}
        self._finished: OrderedDict[str, Operation] = OrderedDict()
        self._finished_bytes = 0
        self._dropped: OrderedDict[str, _Dropped] = OrderedDict()
        self._dropped_ids: set[str] = set()
        self._losses = Losses()

    def known(self, key: str | None, fingerprint: bytes) -> str | None:
        """The operation that was accepted under this key; `None` when there is none.

        Raises:
            InvalidInputError: the key stood for another request.
            BadRequestError: 409, it was done and its result has been dropped.
        """
        if key is None:
            return None
        found = self._by_key.get(key) or self._dropped.get(key)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise InvalidInputError(f"Idempotency-Key: {key!r} was used for another request; take a new key")
        if isinstance(found, _Dropped):
            raise BadRequestError(
                f"operation {found.operation_id} with this key is done and not done again; its result has been dropped",
                status=409,
            )
        return found.id

    def add(self, operation: Operation) -> None:
        """Remember an operation that has been accepted."""
        self._by_id[operation.id] = operation
        if operation.key is not None:
            self._by_key[operation.key] = operation

    def get(self, operation_id: str) -> Operation:
        """An operation by its id.

        Raises:
            NotFoundError: never accepted here, or its result has been dropped.
        """
        operation = self._by_id.get(operation_id)
        if operation is not None:
            return operation
        why = (
            "it is done and its result has been dropped" if operation_id in self._dropped_ids else "it is unknown here"
        )
        raise NotFoundError(f"no operation {operation_id!r}: {why}", status=404)

    def all(self) -> list[Operation]:
        """Those that `get` finds, in the order in which they were added."""
        return list(self._by_id.values())

    def unfinished(self) -> list[Operation]:
        """Those without a reply, in the order in which they will be done. Each is newer than any that has one."""
        newest_first = takewhile(lambda one: one.reply is None, reversed(self._by_id.values()))
        return list(newest_first)[::-1]

    def finish(self, operation: Operation, reply: bytes, now: float) -> None:
        """Keep the result of an operation, at the cost of the oldest ones."""
        self.restore(operation, reply, now)
        self.evict(now)

    def restore(self, operation: Operation, reply: bytes, finished_at: float) -> None:
        """`finish` of long ago, whatever the bounds."""
        operation.reply, operation.finished_at, operation.work = reply, finished_at, None
        self._finished[operation.id] = operation
        self._finished_bytes += len(reply)

    def evict(self, now: float) -> None:
        """Drop what is beyond the bounds, oldest first."""
        while self._finished and self._beyond(next(iter(self._finished.values())), now):
            self._drop(self._finished.popitem(last=False)[1])

    def _beyond(self, oldest: Operation, now: float) -> bool:
        bounds = self._bounds
        crowded = len(self._finished) > bounds.results or self._finished_bytes > bounds.result_bytes
        # The newest stays whatever its size, or nobody could ever fetch a result larger than the bound.
        return (crowded and len(self._finished) > 1) or now - oldest.finished_at > bounds.result_age

    def _drop(self, operation: Operation) -> None:
        self._finished_bytes -= len(operation.reply or b"")
        del self._by_id[operation.id]
        if operation.key is None:
            self._losses.operations.append(operation.seq)
            return
        del self._by_key[operation.key]
        self._losses.results.append(operation.seq)
        self.remember_dropped(operation)

    def remember_dropped(self, operation: Operation) -> None:
        """Keep the key of an operation whose result is gone, at the cost of the oldest such key."""
        assert operation.key is not None  # without one there is nothing to remember
        self._dropped[operation.key] = _Dropped(operation.id, operation.fingerprint, operation.seq)
        self._dropped_ids.add(operation.id)
        if len(self._dropped) > self._bounds.keys:
            oldest = self._dropped.popitem(last=False)[1]
            self._dropped_ids.discard(oldest.operation_id)
            self._losses.operations.append(oldest.seq)

    def take_losses(self) -> Losses:
        """What has been dropped since this was last asked, so that the journal drops it, too."""
        losses, self._losses = self._losses, Losses()
        return losses
