"""The line to one trainer: operations are sent one after another, in the order in which they were called.

Order is decided when the call is made, before anything is awaited. What needs several operations in a row holds its
turn. At most four connections are in use: one that submits, two that poll, one for small reads.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import attrs

from loops_sdk._net.caller import READS, Caller, Patience
from loops_sdk._net.futures import OperationFuture, Record
from loops_sdk._net.keepalive import KeepAlive
from loops_sdk._net.poller import Poller
from loops_sdk._wire import codec, idempotency
from loops_sdk._wire.bodies import Accepted
from loops_sdk._wire.endpoints import HEALTH, Endpoint
from loops_sdk._wire.forms import NOTHING, Body, Offer, encode_large
from loops_sdk.errors import (
    CLOSED,
    ClientClosedError,
    ConnectionFailedError,
    InvalidInputError,
    LoopsError,
    ProtocolError,
)
from loops_sdk.instrumentation import KeepAliveFailed, OperationSubmitted, SubmissionFailed
from loops_sdk.instrumentation.trails import Trail
from loops_sdk.types._checks import shown

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")

#: What can be an operation's id: it becomes part of an address, so it is none of those that lead elsewhere.
_ID = re.compile(r"(?!\.{1,2}$)[!-~]{1,255}")
#: Bodies with more numbers than this are encoded off the event loop.
_LARGE = 32 * 1024
#: Seconds one attempt to submit gets at least, also when a quarter of the whole time is less: uploads may be slow.
_SHORTEST = 60.0
#: One question that keeps the trainer alive.
_BRIEFLY = Patience(total=10.0, attempts=1)
#: What else may be the matter when no trainer answers.
_GONE = (
    ". If the run has ended, which `loops runs list --all` shows, create_training_client_from_state goes on from its "
    "last checkpoint"
)

#: The channel whose turn is held while the code that looks is run by it.
_held: ContextVar[Channel | None] = ContextVar("_held", default=None)


@attrs.define(eq=False)
class _Submission(Generic[T]):
    endpoint: Endpoint[T]
    body: Any
    size: int
    accepted: asyncio.Future[OperationFuture[T]]
    on_result: Callable[[T], T] | None
    url: str
    key: str
    trail: Trail
    called_at: float = attrs.field(factory=time.monotonic)

    def refuse(self, error: Exception) -> None:
        self._failed(error)
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def withdrawn(self) -> bool:
        """Whether nobody waits for it any more, which is then told."""
        if gone := self.accepted.cancelled():
            self._failed(asyncio.CancelledError("the call was withdrawn before it was sent"))
        return gone

    def _failed(self, error: BaseException) -> None:
        took, kind = time.monotonic() - self.called_at, type(error).__name__
        told = SubmissionFailed(self.endpoint.name, self.key, self.url, took, str(error), kind, self.trail.run_id)
        self.trail.emit(told)


class Turn:
    """A place in the order, taken by ``with channel.turn() as turn:`` and kept until the block is left.

    What is submitted meanwhile is sent in a row; what was called later waits behind it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: asyncio.Queue[_Submission[Any] | None] = asyncio.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting.put_nowait(None)

    def submit(
        self, endpoint: Endpoint[T], body: Any, *, size: int = 0, on_result: Callable[[T], T] | None = None
    ) -> asyncio.Future[OperationFuture[T]]:
        """To be awaited: the operation's future, once the trainer has accepted it; see `Channel.submit`."""
        self._channel.require_open()
        accepted: asyncio.Future[OperationFuture[T]] = asyncio.get_running_loop().create_future()
        url, key = endpoint.url(self._channel.url), idempotency.new_key()
        trail = self._channel.trails.begin(endpoint.name, url, key)
        self._waiting.put_nowait(_Submission(endpoint, body, size, accepted, on_result, url, key, trail))
        return accepted

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function(*args, **kwargs)`` in a thread. Operations that it calls itself are refused: they would wait for
        the end of the turn, and the turn for theirs.
        """
        token = _held.set(self._channel)
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        finally:
            _held.reset(token)

    async def next(self) -> _Submission[Any] | None:
        """What is to be sent next; `None` when the turn is over."""
        return await self._waiting.get()

    def refuse(self) -> None:
        """Fail everything that has not been sent."""
        while not self._waiting.empty():
            if (submission := self._waiting.get_nowait()) is not None:
                submission.refuse(ClientClosedError("the client was closed before the operation was sent"))


class Channel:
    """Submits operations to the trainer at `url` and hands out their futures.

    Args:
        timeout: seconds a submission may take with all its attempts, and an operation once its turn has come.
        about: what events tell of every operation: run and base model.

    Attributes:
        trails: begins the trail of an operation.
        keep_alive: asks an idle trainer for its health; started by the first call, or by who hands the channel out.
    """

    def __init__(self, url: str, caller: Caller, poller: Poller, *, timeout: float, **about: str | None) -> None:
        self.url = url
        self.trails = caller.trails.of(**about)
        self._caller = caller
        self._poller = poller
        self._patience = Patience(total=timeout, each=max(_SHORTEST, timeout / 4))
        self._source = poller.source(url, timeout)
        self._offer = NOTHING
        self._turns: deque[Turn] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._sending = False
        self._reading = asyncio.Semaphore(1)
        self._closed = False
        self.keep_alive = KeepAlive(self._ping, self._busy, self._ping_failed)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Channel {self.url} {state}, {len(self._turns)} to send, {len(self._source.records)} awaiting results>"

    def require_open(self) -> None:
        """Raise `ClientClosedError` after `aclose`, `LoopsError` in another event loop than that of the first use."""
        self.refuse_closed()
        self._caller.transport.require_open()

    def refuse_closed(self) -> None:
        """Raise `ClientClosedError` after `aclose`; for what any thread may do."""
        if self._closed:
            raise ClientClosedError(CLOSED)

    def turn(self) -> Turn:
        """Take a place in the order for everything that is submitted until the turn is left.

        Raises:
            ClientClosedError: after `aclose`.
            LoopsError: in another event loop than that of the first use, or by a function that a turn of this channel
                runs.
        """
        self.require_open()
        if _held.get() is self:
            raise LoopsError(
                "the loss function calls the trainer that waits for it: make the call before or after, not inside"
            )
        self._turns.append(turn := Turn(self))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())
        self.keep_alive.start()
        return turn

    async def submit(
        self, endpoint: Endpoint[T], body: Any, *, size: int = 0, on_result: Callable[[T], T] | None = None
    ) -> OperationFuture[T]:
        """Take a place in the order, wait until the trainer has accepted the operation, return its future.

        A call that is cancelled before its turn to be sent is withdrawn without a trace. Once its body is on the way
        the operation goes through, as if only the future had been thrown away.

        Args:
            size: how many numbers the body holds; large bodies are encoded in a thread.
            on_result: called with the result when it arrives, before anybody who awaits it. It returns what they get,
                or raises the `LoopsError` that they get instead.
        """
        with self.turn() as turn:  # and left at once, so that the sender need not come back for it
            accepted = turn.submit(endpoint, body, size=size, on_result=on_result)
        return await accepted

    def resume(self, endpoint: Endpoint[T], operation_id: str, key: str) -> OperationFuture[T]:
        """The future of an operation that was accepted earlier, perhaps from another process.

        Raises:
            InvalidInputError: no id, or that of an operation of another kind.
        """
        self.require_open()
        if not _ID.fullmatch(operation_id):
            raise InvalidInputError(f"operation_id: expected what the trainer gave, got {shown(operation_id)}")
        record: Record[T] | None = self._source.records.get(operation_id)
        if record is None:
            trail = self.trails.begin(endpoint.name, endpoint.url(self.url), key, operation_id=operation_id)
            return self._accepted(endpoint, operation_id, key, trail)
        if record.operation != endpoint.name:
            raise InvalidInputError(f"operation: {operation_id} is the id of {record.operation}, got {endpoint.name}")
        return OperationFuture(record, self._watch)

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
        while self._turns:
            self._turns.popleft().refuse()
        await self._poller.forget(self._source)

    def _busy(self) -> bool:
        """Whether requests reach the trainer anyway: a submission, polls, a read. A turn that is held is none."""
        return self._sending or bool(self._source.records) or self._reading.locked()

    async def _ping(self) -> None:
        async with self._reading:
            await self._caller.send(HEALTH, HEALTH.url(self.url), patience=_BRIEFLY)

    def _ping_failed(self, error: LoopsError) -> None:
        self._caller.emit(KeepAliveFailed("keep_alive", self.url, str(error)))

    async def _send_all(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            try:
                while (submission := await turn.next()) is not None:
                    await self._deliver(submission)
            finally:
                turn.refuse()
        self._sender = None

    async def _deliver(self, submission: _Submission[Any]) -> None:
        if submission.withdrawn():
            return
        self._sending = True
        try:
            future = await self._send(submission)
        except LoopsError as error:
            error.add_context(operation=submission.endpoint.name, url=submission.url, idempotency_key=submission.key)
            if isinstance(error, ConnectionFailedError) and error.code == "unreachable":
                error.message += _GONE
            submission.refuse(error)
        except asyncio.CancelledError:
            submission.refuse(ClientClosedError("the client was closed while the operation was being sent"))
            raise
        except Exception as error:  # a fault of ours must not stop the operations behind this one
            submission.refuse(error)
        else:
            if not submission.accepted.done():
                submission.accepted.set_result(future)
        finally:
            self._sending = False

    async def _send(self, submission: _Submission[T]) -> OperationFuture[T]:
        endpoint, url, trail = submission.endpoint, submission.url, submission.trail
        body = await self._encoded(submission)
        headers = {idempotency.HEADER: submission.key}
        answer = await self._caller.send(
            endpoint, url, patience=self._patience, body=body, headers=headers, trail=trail
        )
        self._offer = Offer.of(answer.headers)
        self._source.headers = self._offer.accepting
        try:
            operation_id = self._new_id(codec.decode(answer.body, Accepted).operation_id)
        except LoopsError as error:
            error.add_context(elapsed=time.monotonic() - submission.called_at, **answer.context())
            raise
        elapsed = time.monotonic() - submission.called_at
        trail.emit(OperationSubmitted(endpoint.name, operation_id, submission.key, url, elapsed, trail.run_id))
        return self._accepted(endpoint, operation_id, submission.key, trail, submission.on_result)

    async def _encoded(self, submission: _Submission[T]) -> bytes | Body:
        if submission.size <= _LARGE:
            return codec.encode(submission.body)
        return await asyncio.to_thread(encode_large, submission.body, self._offer, size=submission.size)

    def _new_id(self, operation_id: str) -> str:
        """The id of an operation, if it can be asked for, and nothing else is asked for under it."""
        if not _ID.fullmatch(operation_id):
            raise ProtocolError(f"unexpected reply: expected an operation_id, got {shown(operation_id)}")
        if operation_id in self._source.records:
            raise ProtocolError(f"unexpected reply: operation_id {operation_id} is that of an earlier operation")
        return operation_id

    def _accepted(
        self,
        endpoint: Endpoint[T],
        operation_id: str,
        key: str,
        trail: Trail,
        on_result: Callable[[T], T] | None = None,
    ) -> OperationFuture[T]:
        """The future of an operation that the trainer has accepted, whose result is asked for from now on."""
        decode = partial(codec.structure, kind=endpoint.reply)
        record = Record(endpoint.name, operation_id, key, endpoint.url(self.url), decode, trail, on_result)
        self._watch(record)
        return OperationFuture(record, self._watch)

    def _watch(self, record: Record[Any]) -> None:
        self._poller.watch(self._source, record)
