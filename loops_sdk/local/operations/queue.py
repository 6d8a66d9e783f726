"""`Operations`: one worker thread that does what was accepted, in the order in which it was accepted.

It decides order, identity and waiting. What an operation does is a callable it is given; what came of it are bytes.
With a journal, nothing is accepted, and nothing is reported, that is not on the disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import uuid
from collections.abc import Callable, Container

import attrs

from loops_sdk.errors import OverloadedError, ServerShutdownError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.operations.journal import Entry, Journal, State
from loops_sdk.local.operations.outcomes import Outcome, failure, is_failure, outcome_of
from loops_sdk.local.operations.records import Bounds, Operation, Records, Told
from loops_sdk.types import OperationInfo

__all__ = ["Done", "Operations"]

Work = Callable[[], bytes]

#: An operation at which the process died so many times after the first is given up: it takes the process down.
MOST_REDONE = 5

_log = logger(__name__)


@attrs.frozen
class Done:
    """A finished operation whose effect was in the memory of a process that is gone.

    Attributes:
        body: the request.
        error: what it failed with; `None` when it succeeded.
    """

    name: str
    body: bytes
    error: str | None


class Operations:
    """A serial queue of operations.

    Args:
        hold: seconds that `retrieve` waits for an operation to finish.
        bounds: how many operations and results are kept.
        lasting: names of operations whose effect stays in memory until a saved state has it: their requests are kept
            until then, so that they can be done again after a crash.
    """

    def __init__(
        self, *, hold: float = 30.0, bounds: Bounds | None = None, lasting: Container[str] = frozenset()
    ) -> None:
        self._hold, self._lasting = hold, lasting
        self._bounds = bounds or Bounds()
        self._records = Records(self._bounds)
        self._journal: Journal | None = None
        self._keep: Callable[[str, str | None], State | None] = _keep_nothing
        self._history: Callable[[Told], None] = _remember_nothing
        self._lock = threading.Lock()
        self._accepting = threading.Lock()  # held while the disk is written to; `_lock` never is
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._waiting = self._waiting_bytes = 0
        self._running: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._closed = False
        self._fault: Exception | None = None
        self._worker = threading.Thread(target=self._run, name="operations", daemon=True)

    def restore(self, journal: Journal, redo: Callable[[str, bytes], Work]) -> list[Done]:
        """Take over what an earlier process left, and write down from now on what is accepted and what comes of it.

        Before `start`, once. Results can be retrieved from then on; what had not finished is done after `start`.

        Args:
            redo: gives the work for the name and the request of an operation that had not finished.

        Returns:
            The finished operations whose effect the saved state lacks, in order.
        """
        with self._lock:
            self._journal = journal
            entries = journal.entries()
            for entry in entries:
                self._restore(entry, redo)
            self._records.evict(time.monotonic())
        return [Done(one.name, one.body, one.error) for one in entries if one.finished_at and one.body is not None]

    def _restore(self, entry: Entry, redo: Callable[[str, bytes], Work]) -> None:
        operation = Operation(entry.id, entry.name, entry.key, entry.fingerprint, len(entry.body or b""), None)
        operation.seq = entry.seq
        if entry.finished_at is None:
            assert entry.body is not None  # it is dropped only when the operation has finished
            operation.work = redo(entry.name, entry.body)
            operation.again = self._waiting == 0  # the one that the process was busy with
            self._enqueue(operation)
        elif entry.reply is not None:
            self._records.add(operation)
            age = max(0.0, time.time() - entry.finished_at)
            self._records.restore(operation, entry.reply, time.monotonic() - age)
        elif entry.key is not None:
            self._records.remember_dropped(operation)

    def start(
        self,
        keep: Callable[[str, str | None], State | None] | None = None,
        history: Callable[[Told], None] | None = None,
    ) -> None:
        """Start the worker. Call it in the event loop in which `retrieve` will be awaited.

        Args:
            keep: called in the worker with the name of an operation that has just been done, and what it failed with if
                it did; gives the saved state that has its effect and that of all before it, `None` when there is no new
                one.
            history: called in the worker with what has just been done, before anybody else hears of it. An operation
                that is done again because the process died just then is told of twice.
        """
        self._keep, self._history = keep or _keep_nothing, history or _remember_nothing
        self._loop = asyncio.get_running_loop()
        self._worker.start()

    @property
    def queued(self) -> int:
        """Number of operations that wait for the worker."""
        return self._waiting

    @property
    def running(self) -> str | None:
        """Name of the operation that the worker is busy with."""
        return self._running

    def submit(self, name: str, key: str | None, fingerprint: bytes, work: Work, *, body: bytes = b"") -> str:
        """Accept an operation and return its id; one that was accepted under the same key before is not accepted again.

        Args:
            name: for logs and `running`.
            key: the client's idempotency key, if it sent one.
            fingerprint: what the key stands for.
            work: does the operation in the worker and returns the reply about its success.
            body: the request, from which `work` can be made again after a crash.

        Raises:
            InvalidInputError: the key was used for something else.
            OverloadedError: too much is waiting already.
            ServerShutdownError: the queue is closing, or the disk refuses.
        """
        with self._accepting:
            with self._lock:
                if (known := self._records.known(key, fingerprint)) is not None:
                    return known
                self._require_room(len(body))
            operation = Operation(uuid.uuid4().hex, name, key, fingerprint, len(body), work, accepted_at=time.time())
            if self._journal is not None:
                operation.seq = self._journal.accept(Entry(0, operation.id, key, fingerprint, name, body=body))
            with self._lock:
                self._enqueue(operation)
        return operation.id

    def _enqueue(self, operation: Operation) -> None:
        self._records.add(operation)
        self._waiting += 1
        self._waiting_bytes += operation.size
        self._queue.put(operation)

    def listed(self) -> list[OperationInfo]:
        """Operations whose result is there or still to come, in the order of acceptance."""
        with self._lock:
            operations, busy = self._records.all(), self._running is not None
        unfinished = [operation.id for operation in operations if operation.reply is None]
        return [_told(one, running=busy and one.id == unfinished[0]) for one in operations]

    def unfinished(self, most: int) -> list[Told]:
        """What runs and what waits, in the order in which it will be done; at most so many."""
        with self._lock:
            return [_so_far(operation) for operation in self._records.unfinished()[:most]]

    def known(self, key: str | None, fingerprint: bytes) -> str | None:
        """The operation that was accepted under `key` before; `None` when there is none.

        Raises:
            InvalidInputError: the key was used for something else.
        """
        with self._lock:
            return self._records.known(key, fingerprint)

    def _require_room(self, size: int) -> None:
        if self._closed:
            raise ServerShutdownError("the trainer is shutting down", status=503, retry_after=1.0)
        crowded = self._waiting >= self._bounds.queued
        if crowded or (self._waiting and self._waiting_bytes + size > self._bounds.queued_bytes):
            text = f"{self._waiting} operations ({self._waiting_bytes} bytes) are waiting already; come back later"
            raise OverloadedError(text, status=429, retry_after=1.0)

    async def retrieve(self, operation_id: str) -> bytes | None:
        """The reply about an operation; `None` when it is still not finished after `hold` seconds.

        Raises:
            NotFoundError: no such operation, or its result has been dropped.
            ServerShutdownError: the queue is closing and the operation has not finished.
        """
        with self._lock:
            self._records.evict(time.monotonic())
            operation = self._records.get(operation_id)
        if operation.reply is None:
            await self._first(operation.done, self._closing)
        if operation.reply is None and self._closing.is_set():
            raise ServerShutdownError("the trainer is shutting down", status=503, retry_after=1.0)
        return operation.reply

    async def _first(self, *events: asyncio.Event) -> None:
        tasks = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(tasks, timeout=self._hold, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self, timeout: float = 1.0) -> bool:
        """Accept nothing more, wake everyone who waits, and end the worker after the operation it is busy with.

        Returns:
            Whether the worker ended within `timeout` seconds. A computation cannot be interrupted from outside; the
            worker is a daemon thread, so it does not keep the process alive.
        """
        with self._lock:
            self._closed = True
        self._closing.set()
        self._queue.put(None)
        if self._worker.is_alive():
            await asyncio.to_thread(self._worker.join, timeout)
        ended = not self._worker.is_alive()
        if ended:
            self._close_journal()
        return ended

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()

    async def broken(self) -> None:
        """Return once nothing more will be done here.

        Raises:
            Exception: what was done could not be put on the disk. The operation has not been reported; a new process
                that takes over the journal does it again.
        """
        await self._closing.wait()
        if self._fault is not None:
            raise self._fault

    # ------------------------------------------------------------ in the worker

    def _run(self) -> None:
        try:
            self._work_off()
        finally:
            self._close_journal()

    def _work_off(self) -> None:
        while (operation := self._queue.get()) is not None and not self._closed:
            self._do(operation)

    def _do(self, operation: Operation) -> None:
        with self._lock:
            self._running, operation.started_at = operation.name, time.time()
            self._waiting -= 1
            self._waiting_bytes -= operation.size
        try:
            self._finish(operation, self._try(operation))
        except Exception as error:
            self._break(operation, error)
        else:
            self._tell(operation.done.set)

    def _try(self, operation: Operation) -> Outcome:
        if operation.again and self._journal is not None and self._journal.redo(operation.seq) > MOST_REDONE:
            text = f"the trainer's process died {MOST_REDONE + 1} times while it did this operation, which is given up"
            return failure("RuntimeError", text)
        assert operation.work is not None  # dropped only when the operation is done
        return outcome_of(operation.name, operation.work)

    def _finish(self, operation: Operation, outcome: Outcome) -> None:
        """On the disk first: what has been reported must be so after a crash, too."""
        finished_at = time.time()
        self._history(attrs.evolve(_so_far(operation), finished_at=finished_at, error=outcome.error))
        state = self._keep(operation.name, outcome.error)
        with self._lock:
            losses = self._records.take_losses()
        if self._journal is not None:
            self._journal.finish(
                operation.seq,
                outcome.reply,
                finished_at,
                error=outcome.error,
                keep_body=operation.name in self._lasting and state is None,
                state=state,
                dropped=losses.results,
                forgotten=losses.operations,
            )
        with self._lock:
            self._running = None
            self._records.finish(operation, outcome.reply, time.monotonic())

    def _break(self, operation: Operation, error: Exception) -> None:
        """Memory is ahead of the disk: nothing more may be done from here."""
        _log.critical("%s was done but cannot be kept: %s: %s", operation.name, type(error).__name__, error)
        with self._lock:
            self._closed, self._running, self._fault = True, None, error
        self._tell(self._closing.set)

    def _tell(self, tell: Callable[[], None]) -> None:
        assert self._loop is not None  # `start` set it
        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop has been closed: nobody is waiting any more
            _log.debug("an operation finished after the server had gone")


def _keep_nothing(_name: str, _error: str | None) -> None:
    return None


def _remember_nothing(_told: Told) -> None:
    return


def _so_far(operation: Operation) -> Told:
    return Told(operation.id, operation.name, operation.accepted_at, operation.started_at)


def _told(operation: Operation, *, running: bool) -> OperationInfo:
    waiting = "running" if running else "queued"
    status = waiting if operation.reply is None else "error" if is_failure(operation.reply) else "done"
    return OperationInfo(operation.name, operation.id, status, operation.key)
