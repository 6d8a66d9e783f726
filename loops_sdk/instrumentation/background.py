"""A thread of its own for observers that do I/O: giving it an event never waits, closing it does, within a bound.

It decides what becomes of trouble: one warning in the log, and no exception for who trains. It does not know what is
done with the events.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from loops_sdk.instrumentation.events import Event
from loops_sdk.instrumentation.redacting import logger

__all__ = ["Background", "Sink"]

#: Seconds that closing waits: uploading the last rows may take a while.
_PATIENCE = 60.0

_log = logger("loops_sdk")


class Sink(Protocol):
    """What the thread calls: `open` first, `write` for every event, `close` last, whatever failed before."""

    def open(self) -> None: ...

    def write(self, event: Event, at: float) -> None: ...

    def close(self) -> None: ...


class Background:
    """Hands events to `sink` on a daemon thread, in the order in which they were put.

    The first failure of the sink is logged as a warning and ends the recording: a curve that stops is honest, one with
    holes is not. What finds the queue full is dropped, with one warning for all.

    Args:
        name: of the thread, and of the observer in warnings.
        size: most events that wait.
    """

    def __init__(self, name: str, sink: Sink, *, size: int = 10_000) -> None:
        self._name = name
        self._sink = sink
        self._size = size
        self._waiting: deque[tuple[Event, float]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failed = False
        self._overflowed = False
        self._over: Future[None] = Future()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name=f"loops_sdk {name}", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, event: Event) -> None:
        """Hand over an event, stamped with the wall-clock time. After `close` it has no effect."""
        if self._forked():
            if not self._failed:
                _log.warning(
                    "%s was made before os.fork() and records nothing here: make one in this process", self._name
                )
            self._failed = True
            return
        with self._changed:
            full = len(self._waiting) >= self._size
            first, self._overflowed = full and not self._overflowed, self._overflowed or full
            if not (full or self._closed or self._failed):
                self._waiting.append((event, time.time()))
                self._changed.notify()
        if first:
            _log.warning("%s does not keep up: events are dropped", self._name)

    def close(self, timeout: float = _PATIENCE) -> None:
        """Wait until everything that was put is written and the sink is closed, `timeout` seconds at most."""
        if self._forked():
            return
        first = self._end()
        self._thread.join(timeout)
        self._after(first, timeout)

    async def aclose(self, timeout: float = _PATIENCE) -> None:
        """`close` for an event loop. No executor takes part: there is none left when the interpreter exits."""
        if self._forked():
            return
        first = self._end()
        await asyncio.wait([asyncio.wrap_future(self._over)], timeout=timeout)
        self._after(first, timeout)

    def _forked(self) -> bool:
        """In a child of `os.fork` there is no such thread: waiting for it, or for a lock that it held, is no use."""
        return os.getpid() != self._process

    def _end(self) -> bool:
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.notify()
        return first

    def _after(self, first: bool, timeout: float) -> None:
        if self._over.done():
            self._thread.join()
            atexit.unregister(self.close)
        elif first:
            _log.warning("%s did not finish within %g s; it is left to itself", self._name, timeout)

    def _run(self) -> None:
        try:
            self._attempt(self._write_all)
            self._attempt(self._sink.close)
        finally:
            self._over.set_result(None)

    def _write_all(self) -> None:
        self._sink.open()
        atexit.unregister(self.close)  # a library that came with it may clear up at exit, which must come after this
        atexit.register(self.close)
        while (item := self._next()) is not None:
            self._sink.write(*item)

    def _next(self) -> tuple[Event, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            with self._changed:
                first, self._failed = not self._failed, True
                self._waiting.clear()
            if first:
                _log.warning("%s failed and records nothing more: %s: %s", self._name, type(error).__name__, error)
