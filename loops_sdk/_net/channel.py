"""The line to one trainer: operations are sent one after another, in the order in which they were called.

Order is decided when the call is made, before anything is awaited. At most four connections are in use: one that
submits, two that poll, one for small reads.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import attrs

from loops_sdk._net.caller import READS, Caller, Patience
from loops_sdk._net.futures import OperationFuture, Record
from loops_sdk._net.keepalive import KeepAlive
from loops_sdk._net.poller import Poller
from loops_sdk._wire import codec, idempotency
from loops_sdk._wire.bodies import Accepted
from loops_sdk._wire.endpoints import HEALTH, Endpoint
from loops_sdk.errors import ClientClosedError, LoopsError, ProtocolError
from loops_sdk.instrumentation import KeepAliveFailed, OperationSubmitted
from loops_sdk.types._checks import shown

T = TypeVar("T")

#: What can be an operation's id: it becomes part of an address.
_ID = re.compile(r"[!-~]{1,255}")
#: Bodies with more numbers than this are encoded off the event loop.
_LARGE = 32 * 1024
#: Seconds one attempt to submit gets at least, also when a quarter of the whole time is less: uploads may be slow.
_SHORTEST = 60.0
#: One question that keeps the trainer alive.
_BRIEFLY = Patience(total=10.0, attempts=1)


@attrs.define(eq=False)
class _Submission(Generic[T]):
    endpoint: Endpoint[T]
    body: Any
    size: int
    accepted: asyncio.Future[OperationFuture[T]]
    on_result: Callable[[T], None] | None
    key: str = attrs.field(factory=idempotency.new_key)
    called_at: float = attrs.field(factory=time.monotonic)


class Channel:
    """Submits operations to the trainer at `url` and hands out their futures.

    Args:
        timeout: seconds a submission may take with all its attempts, and an operation once its turn has come.

    Attributes:
        keep_alive: asks an idle trainer for its health; started by the first call, or by who hands the channel out.
    """

    def __init__(self, url: str, caller: Caller, poller: Poller, *, timeout: float) -> None:
        self.url = url
        self._caller = caller
        self._poller = poller
        self._patience = Patience(total=timeout, each=max(_SHORTEST, timeout / 4))
        self._source = poller.source(url, timeout)
        self._waiting: deque[_Submission[Any]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._reading = asyncio.Semaphore(1)
        self._closed = False
        self.keep_alive = KeepAlive(self._ping, self._busy, self._ping_failed)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"<Channel {self.url} {state}, {len(self._waiting)} to send, {len(self._source.records)} awaiting results>"
        )

    def require_open(self) -> None:
        """Raise `ClientClosedError` after `aclose`, `LoopsError` in another event loop than that of the first use."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        self._caller.transport.require_open()

    async def submit(
        self, endpoint: Endpoint[T], body: Any, *, size: int = 0, on_result: Callable[[T], None] | None = None
    ) -> OperationFuture[T]:
        """Take a place in the order, wait until the trainer has accepted the operation, return its future.

        A call that is cancelled before its turn to be sent is withdrawn without a trace. Once its body is on the way
        the operation goes through, as if only the future had been thrown away.

        Args:
            size: how many numbers the body holds; large bodies are encoded in a thread.
            on_result: called with the result when it arrives, before anybody who awaits it.
        """
        self.require_open()
        loop = asyncio.get_running_loop()
        submission = _Submission(endpoint, body, size, loop.create_future(), on_result)
        self._waiting.append(submission)
        if self._sender is None or self._sender.done():
            self._sender = loop.create_task(self._send_all())
        self.keep_alive.start()
        return await submission.accepted

    async def read(self, endpoint: Endpoint[T], patience: Patience = READS) -> T:
        """A small read, one at a time."""
        self.require_open()
        self.keep_alive.start()
        async with self._reading:
            self.require_open()
            return await self._caller.call(endpoint, endpoint.url(self.url), patience=patience)

    async def aclose(self) -> None:
        """Stop sending and asking; whatever waits fails with `ClientClosedError`. Operations that were accepted go
        on.
        """
        self._closed = True
        await self.keep_alive.aclose()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        while self._waiting:
            _refuse(self._waiting.popleft(), ClientClosedError("the client was closed before the operation was sent"))
        await self._poller.forget(self._source)

    def _busy(self) -> bool:
        """Whether requests reach the trainer anyway: a submission, polls, a read."""
        return self._sender is not None or bool(self._source.records) or self._reading.locked()

    async def _ping(self) -> None:
        async with self._reading:
            await self._caller.send(HEALTH, HEALTH.url(self.url), patience=_BRIEFLY)

    def _ping_failed(self, error: LoopsError) -> None:
        self._caller.emit(KeepAliveFailed("keep_alive", self.url, str(error)))

    async def _send_all(self) -> None:
        while self._waiting:
            submission = self._waiting.popleft()
            if submission.accepted.cancelled():
                continue
            try:
                future = await self._send(submission)
            except LoopsError as error:
                name, url = submission.endpoint.name, submission.endpoint.url(self.url)
                error.add_context(operation=name, url=url, idempotency_key=submission.key)
                _refuse(submission, error)
            except asyncio.CancelledError:
                _refuse(submission, ClientClosedError("the client was closed while the operation was being sent"))
                raise
            except Exception as error:  # a fault of ours must not stop the operations behind this one
                _refuse(submission, error)
            else:
                if not submission.accepted.done():
                    submission.accepted.set_result(future)
        self._sender = None

    async def _send(self, submission: _Submission[T]) -> OperationFuture[T]:
        endpoint = submission.endpoint
        url = endpoint.url(self.url)
        if submission.size > _LARGE:
            body = await asyncio.to_thread(codec.encode, submission.body)
        else:
            body = codec.encode(submission.body)
        headers = {idempotency.HEADER: submission.key}
        answer = await self._caller.send(endpoint, url, patience=self._patience, body=body, headers=headers)
        operation_id = self._new_id(codec.decode(answer.body, Accepted).operation_id)
        decode = partial(codec.structure, kind=endpoint.reply)
        record = Record(endpoint.name, operation_id, submission.key, url, decode, submission.on_result)
        elapsed = time.monotonic() - submission.called_at
        self._caller.emit(OperationSubmitted(endpoint.name, operation_id, submission.key, url, elapsed))
        self._watch(record)
        return OperationFuture(record, self._watch)

    def _new_id(self, operation_id: str) -> str:
        """The id of an operation, if it can be asked for, and nothing else is asked for under it."""
        if not _ID.fullmatch(operation_id) or operation_id in (".", ".."):
            raise ProtocolError(f"unexpected reply: expected an operation_id, got {shown(operation_id)}")
        if operation_id in self._source.records:
            raise ProtocolError(f"unexpected reply: operation_id {operation_id} is that of an earlier operation")
        return operation_id

    def _watch(self, record: Record[Any]) -> None:
        self._poller.watch(self._source, record)


def _refuse(submission: _Submission[Any], error: Exception) -> None:
    if not submission.accepted.done():
        submission.accepted.set_exception(error)
