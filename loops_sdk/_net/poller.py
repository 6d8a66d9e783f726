"""The shared poller: retrieves the results of all operations of all trainers with a handful of long polls.

The machine in `_wire.polling` says whom to ask; this module asks, and tells the records what came back. It has no
task while nothing waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypeVar

from loops_sdk._net.futures import Record
from loops_sdk._net.transport import Response, Transport
from loops_sdk._wire.endpoints import RETRIEVE
from loops_sdk._wire.polling import Polling
from loops_sdk._wire.retrieval import Failed, Finished, Retrieval, Running, Trouble, read_retrieval
from loops_sdk.errors import (
    ClientClosedError,
    LoopsError,
    OperationTimeoutError,
    ProtocolError,
    RemoteOpError,
    RequestTimeoutError,
    ServerShutdownError,
    UnknownRequestError,
)
from loops_sdk.instrumentation import OperationFinished, RequestRetried

T = TypeVar("T")

#: A server holds a poll for about 30 s; proxies cut connections that are silent for 60 s.
POLL_TIMEOUT = 45.0
#: 503 says that the trainer is going away, or that a load balancer picked a replica that is: this many in a row is
#: enough.
MOST_SHUTDOWNS = 6
#: Replies above this many bytes are decoded off the event loop.
_LARGE = 256 * 1024


class Source:
    """The operations of one trainer that wait for their results.

    Attributes:
        headers: of every question, beside what all requests carry.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.polling = Polling(timeout=timeout, draw=random.random)
        self.records: dict[str, Record[Any]] = {}
        self.trouble: LoopsError | None = None
        self.shutdowns = 0
        self.closed = False
        self.headers: Mapping[str, str] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.polls: dict[str, asyncio.Task[None]] = {}
        self._places = count()

    def drop(self, operation_id: str) -> None:
        """Stop asking for an operation, also where the question is under way."""
        self.polling.cancel(operation_id)
        if (poll := self.polls.pop(operation_id, None)) is not None:
            poll.cancel()

    def add(self, record: Record[Any]) -> None:
        """Ask for an operation, at the place it had in the trainer's order when it was first asked for."""
        record.place = next(self._places) if record.place is None else record.place
        self.records[record.operation_id] = record
        self.polling.register(record.operation_id, time.monotonic(), record.place)


class Poller:
    """Asks for results until it is closed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._sources: list[Source] = []
        self._polls: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        waiting = sum(len(source.polling) for source in self._sources)
        state = "closed" if self._closed else "open"
        return f"<Poller {state}, {waiting} operations waiting, {len(self._polls)} polls under way>"

    def source(self, url: str, timeout: float) -> Source:
        """A queue for the operations of the trainer at `url`, each of which may take `timeout` seconds in its turn."""
        made = Source(url, timeout)
        self._sources.append(made)
        return made

    def watch(self, source: Source, record: Record[T]) -> None:
        """Ask for an operation until it is settled."""
        if source.closed or self._closed:
            record.fail(ClientClosedError("the client was closed before the result arrived"), final=False)
            return
        self._transport.require_open()
        source.add(record)
        self._pump(source)

    async def forget(self, source: Source) -> None:
        """Stop asking for a trainer's operations; those that wait fail with `ClientClosedError`."""
        source.closed = True
        if source.timer is not None:
            source.timer.cancel()
        if source in self._sources:
            self._sources.remove(source)
        polls = list(source.polls.values())
        for operation_id, record in source.records.items():
            source.drop(operation_id)
            record.fail(ClientClosedError("the client was closed before the result arrived"), final=False)
            _tell(record)
        source.records.clear()
        await asyncio.gather(*polls, return_exceptions=True)

    async def aclose(self) -> None:
        """Stop asking; everything that waits fails with `ClientClosedError`."""
        self._closed = True
        for source in list(self._sources):
            await self.forget(source)
        await asyncio.gather(*self._polls, return_exceptions=True)

    # ------------------------------------------------------------------ one turn

    def _pump(self, source: Source) -> None:
        """Start every poll that is due, fail what has had its time, and set the clock for the next turn."""
        now = time.monotonic()
        for operation_id in source.polling.expire(now):
            self._expired(source, source.records[operation_id])
        while (due := source.polling.next_poll(now)) is not None:
            poll = asyncio.get_running_loop().create_task(self._poll(source, source.records[due]))
            source.polls[due] = poll
            self._polls.add(poll)
            poll.add_done_callback(self._polls.discard)
        self._set_timer(source, now)

    def _set_timer(self, source: Source, now: float) -> None:
        if source.timer is not None:
            source.timer.cancel()
        at = source.polling.wake_at(now)
        loop = asyncio.get_running_loop()
        source.timer = None if at is None else loop.call_later(max(0.0, at - now), self._pump, source)

    async def _poll(self, source: Source, record: Record[Any]) -> None:
        retrieval, value = await self._ask(source, record)
        if source.polls.get(record.operation_id) is not asyncio.current_task():
            return  # nobody waits for this answer any more
        del source.polls[record.operation_id]
        self._heard(source, record, retrieval, value)
        self._pump(source)

    async def _ask(self, source: Source, record: Record[Any]) -> tuple[Retrieval, Any]:
        url = RETRIEVE.url(source.url, operation_id=record.operation_id)
        try:
            response = await self._transport.request(
                "GET", url, headers=record.trail.added(source.headers), timeout=POLL_TIMEOUT, most=RETRIEVE.most
            )
        except RequestTimeoutError:
            return Running(), None  # a poll that times out says nothing about the operation
        except LoopsError as error:
            return Trouble(error), None
        if len(response.body) > _LARGE:
            return await asyncio.to_thread(_understand, response, record.decode)
        return _understand(response, record.decode)

    def _heard(self, source: Source, record: Record[Any], retrieval: Retrieval, value: Any) -> None:
        now = time.monotonic()
        if isinstance(retrieval, Trouble):
            self._troubled(source, record, retrieval.error, now)
            return
        source.trouble, source.shutdowns = None, 0
        if isinstance(retrieval, Running):
            source.polling.feed(record.operation_id, "running", now)
            return
        source.polling.feed(record.operation_id, "finished", now)
        error = retrieval.error if isinstance(retrieval, Failed) else None
        # A refusal of the question, 401 for example, says nothing about the operation.
        final = error is None or isinstance(error, RemoteOpError | UnknownRequestError | ProtocolError)
        self._settle(source, record, error, value, final=final)

    def _troubled(self, source: Source, record: Record[Any], error: LoopsError, now: float) -> None:
        source.trouble = error
        source.shutdowns = source.shutdowns + 1 if isinstance(error, ServerShutdownError) else 0
        source.polling.feed(record.operation_id, "transient", now, error.retry_after)
        if source.shutdowns >= MOST_SHUTDOWNS:
            for operation_id, waiting in list(source.records.items()):
                source.drop(operation_id)
                self._settle(source, waiting, ServerShutdownError(error.message, **error.context()), None, final=False)
            source.shutdowns = 0
            return
        wait = max(0.0, (source.polling.wake_at(now) or now) - now)
        name, ids = f"retrieve {record.operation}", (record.operation_id, record.trail.run_id)
        record.trail.emit(RequestRetried(name, source.url, source.polling.failures, wait, error.message, *ids))

    def _expired(self, source: Source, record: Record[Any]) -> None:
        cause = f"; the last trouble was: {source.trouble.message}" if source.trouble else ""
        error = OperationTimeoutError(
            f"the trainer did not finish the operation within {source.polling.timeout:g} s of its turn{cause}; "
            f"await its future again to go on waiting"
        )
        error.__cause__ = source.trouble
        source.drop(record.operation_id)
        self._settle(source, record, error, None, final=False)

    def _settle(
        self, source: Source, record: Record[Any], error: LoopsError | None, value: Any, *, final: bool
    ) -> None:
        source.records.pop(record.operation_id, None)
        if error is None:
            record.succeed(value)
        else:
            record.fail(error, final=final)
        _tell(record)


def _tell(record: Record[Any]) -> None:
    """What has become of an operation, to all who hear of its call."""
    elapsed = time.monotonic() - record.accepted_at
    error, kind = (None, None) if record.error is None else (str(record.error), type(record.error).__name__)
    ids = record.operation, record.operation_id
    record.trail.emit(OperationFinished(*ids, elapsed, error, kind, record.trail.run_id))


def _understand(response: Response, decode: Callable[[Any], Any]) -> tuple[Retrieval, Any]:
    """What the answer means, and the decoded result if there is one. Large answers come here in a thread."""
    retrieval, value = _sorted(response, decode)
    if isinstance(retrieval, Failed | Trouble):
        retrieval.error.add_context(**response.context())
    return retrieval, value


def _sorted(response: Response, decode: Callable[[Any], Any]) -> tuple[Retrieval, Any]:
    retrieval = read_retrieval(response.status, response.headers, response.body, now=time.time())
    if not isinstance(retrieval, Finished):
        return retrieval, None
    try:
        return retrieval, decode(retrieval.result)
    except LoopsError as error:
        return Failed(error), None
    except Exception as error:  # whatever it is, the operation behind this one must be asked for
        return Failed(ProtocolError(f"unexpected result: {type(error).__name__}: {error}")), None
