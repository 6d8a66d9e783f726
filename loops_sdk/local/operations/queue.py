"""`Operations`: one worker thread that does what was accepted, in the order in which it was accepted.

It decides order, identity and waiting. What an operation does is a callable it is given; what came of it are bytes.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable

from loops_sdk._wire.codec import dumps
from loops_sdk.errors import LoopsError, OverloadedError, ServerShutdownError
from loops_sdk.local.operations.records import Bounds, Operation, Records

__all__ = ["Operations"]

_log = logging.getLogger(__name__)


class Operations:
    """A serial queue of operations.

    Args:
        hold: seconds that `retrieve` waits for an operation to finish.
        bounds: how many operations and results are kept.
    """

    def __init__(self, *, hold: float = 30.0, bounds: Bounds | None = None) -> None:
        self._hold = hold
        self._bounds = bounds or Bounds()
        self._records = Records(self._bounds)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._waiting = self._waiting_bytes = 0
        self._running: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._closed = False
        self._worker = threading.Thread(target=self._run, name="operations", daemon=True)

    def start(self) -> None:
        """Start the worker. Call it in the event loop in which `retrieve` will be awaited."""
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

    def submit(
        self, name: str, key: str | None, fingerprint: bytes, work: Callable[[], bytes], *, size: int = 0
    ) -> str:
        """Accept an operation and return its id; one that was accepted under the same key before is not accepted again.

        Args:
            name: for logs and `running`.
            key: the client's idempotency key, if it sent one.
            fingerprint: what the key stands for.
            work: does the operation in the worker and returns its result as JSON.
            size: bytes that `work` holds on to.

        Raises:
            InvalidInputError: the key was used for something else.
            OverloadedError: too much is waiting already.
            ServerShutdownError: the queue is closing.
        """
        with self._lock:
            if (known := self._records.known(key, fingerprint)) is not None:
                return known
            self._require_room(size)
            operation = Operation(uuid.uuid4().hex, name, key, fingerprint, size, work)
            self._records.add(operation)
            self._waiting += 1
            self._waiting_bytes += size
            self._queue.put(operation)
            return operation.id

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
        """The reply about an operation as JSON; `None` when it is still not finished after `hold` seconds.

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
        return not self._worker.is_alive()

    # ------------------------------------------------------------ in the worker

    def _run(self) -> None:
        while (operation := self._queue.get()) is not None and not self._closed:
            with self._lock:
                self._running = operation.name
                self._waiting -= 1
                self._waiting_bytes -= operation.size
            reply = _perform(operation)
            with self._lock:
                self._running = None
                self._records.finish(operation, reply, time.monotonic())
            self._tell(operation)

    def _tell(self, operation: Operation) -> None:
        assert self._loop is not None  # `start` set it
        try:
            self._loop.call_soon_threadsafe(operation.done.set)
        except RuntimeError:  # the loop has been closed: nobody is waiting any more
            _log.debug("operation %s finished after the server had gone", operation.id)


def _perform(operation: Operation) -> bytes:
    """The reply about an operation, done or failed."""
    assert operation.work is not None  # dropped only when the operation is done
    try:
        return b'{"status":"done","result":%b}' % operation.work()
    except Exception as error:
        _log.warning("%s failed: %s: %s", operation.name, type(error).__name__, error, exc_info=_unexpected(error))
        message = error.message if isinstance(error, LoopsError) else str(error)
        kind = type(error).__name__
        return dumps({"status": "error", "error": {"message": message or kind}, "error_class": kind})


def _unexpected(error: Exception) -> bool:
    """Whether the traceback helps: not when an engine refuses in its own words."""
    return not isinstance(error, LoopsError | RuntimeError)
