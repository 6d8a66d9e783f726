"""`Driver`: the one thread in which a generation engine lives, and how coroutines reach it.

It decides when the engine steps: always, while there is anything to generate. Between two steps it takes commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import attrs

from loops_sdk.errors import OverloadedError, ServerShutdownError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.engine import Generation, GenerationEngine, GenerationRequest

__all__ = ["Driver"]

T = TypeVar("T")
_log = logger(__name__)


@attrs.define(eq=False)
class _Job:
    """A request on its way: `answer` gets the generation and whatever `prepare` gave along with the request."""

    prepare: Callable[[], tuple[GenerationRequest, Any]]
    answer: Future[Any]
    extra: Any = None
    ticket: int | None = None
    dropped: bool = False


class Driver:
    """Runs an engine.

    Args:
        engine: never touched outside the driver's thread from here on.
        most: most requests at the same time.
    """

    def __init__(self, engine: GenerationEngine, *, most: int = 20_000) -> None:
        self._engine, self._most = engine, most
        self._jobs: dict[int, _Job] = {}
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._accepted = 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the driver's thread, between two steps. Cancelling abandons the wait only."""
        answer: Future[T] = Future()
        self._post(lambda: _settle(answer, work))
        return await asyncio.wrap_future(answer)

    async def generate(self, prepare: Callable[[], tuple[GenerationRequest, T]]) -> tuple[Generation, T]:
        """The generation for a request, with what `prepare` returned beside the request. Cancelling drops the request.

        Args:
            prepare: called in the driver's thread, where it may load an adapter.

        Raises:
            InvalidInputError: the engine refuses the request.
            OverloadedError: too many requests at once.
            ServerShutdownError: the driver is closing.
        """
        if self._accepted >= self._most:
            raise OverloadedError(f"{self._accepted} requests are running already", status=429, retry_after=1.0)
        job = _Job(prepare, Future())
        job.answer.set_running_or_notify_cancel()  # from here on only the driver settles it
        self._accepted += 1
        try:
            self._post(lambda: self._add(job))
            generation, extra = await asyncio.wrap_future(job.answer)
            return generation, extra
        except asyncio.CancelledError:
            self._post(lambda: self._drop(job), quietly=True)
            raise
        finally:
            self._accepted -= 1

    async def aclose(self, timeout: float = 1.0) -> bool:
        """Fail what is running and end the thread; `True` when it ended within `timeout` seconds."""
        with self._lock:
            self._closed = True
            self._commands.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, timeout)
        return not self._thread.is_alive()

    def _post(self, command: Callable[[], None], *, quietly: bool = False) -> None:
        with self._lock:  # nothing may be queued behind the end: it would never be answered
            if not self._closed:
                self._commands.put(command)
            elif not quietly:
                raise _closing()

    # ------------------------------------------------------------ in the driver's thread

    def _run(self) -> None:
        for command in self._until_closed():
            try:
                command()
            except Exception as error:
                _log.exception("the engine failed; every running request fails with it")
                self._fail_all(error)
        self._fail_all(_closing())

    def _until_closed(self) -> Iterator[Callable[[], None]]:
        """Commands as long as there are any, then a step; waits when there is nothing to generate."""
        while True:
            try:
                command = self._commands.get(block=not self._jobs)
            except queue.Empty:
                yield self._step
                continue
            if command is None:
                return
            yield command

    def _add(self, job: _Job) -> None:
        if job.dropped:
            return
        try:
            request, job.extra = job.prepare()
            self._engine.check(request)
            job.ticket = self._engine.add(request)
        except Exception as error:
            job.answer.set_exception(error)
        else:
            self._jobs[job.ticket] = job

    def _drop(self, job: _Job) -> None:
        job.dropped = True
        if job.ticket is not None and self._jobs.pop(job.ticket, None) is not None:
            self._engine.cancel(job.ticket)

    def _step(self) -> None:
        for ticket, outcome in self._engine.step():
            job = self._jobs.pop(ticket, None)
            if job is None:
                continue
            if isinstance(outcome, Exception):
                job.answer.set_exception(outcome)
            else:
                job.answer.set_result((outcome, job.extra))

    def _fail_all(self, error: Exception) -> None:
        jobs, self._jobs = self._jobs, {}
        for ticket, job in jobs.items():
            job.answer.set_exception(error)
            with contextlib.suppress(Exception):  # an engine that has just failed may fail at this as well
                self._engine.cancel(ticket)


def _closing() -> ServerShutdownError:
    return ServerShutdownError("the sampler is shutting down", status=503, retry_after=1.0)


def _settle(answer: Future[T], work: Callable[[], T]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(work())
    except Exception as error:
        answer.set_exception(error)
