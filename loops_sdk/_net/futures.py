"""Futures of trainer operations: what a caller holds while the trainer works.

A future is a view; the record behind it belongs to the poller. Waiting can be abandoned and taken up again at will.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from loops_sdk.errors import ClientClosedError, LoopsError, RequestTimeoutError, UnretrievedErrorWarning
from loops_sdk.instrumentation.trails import Trail
from loops_sdk.types._checks import check_number

A = TypeVar("A")
T = TypeVar("T")

__all__ = ["ComposedFuture", "OperationFuture", "Record"]


class Record(Generic[T]):
    """One accepted operation: its ids, and its outcome once that is known.

    Args:
        decode: makes the result of plain data; may be called in a thread.
        trail: of the call, which its polls belong to.
        on_result: hears of the result before anybody who awaits it, and returns what they get, or raises the
            `LoopsError` that they get instead.
    """

    def __init__(
        self,
        operation: str,
        operation_id: str,
        idempotency_key: str,
        url: str,
        decode: Callable[[Any], T],
        trail: Trail,
        on_result: Callable[[T], T] | None = None,
    ) -> None:
        self.operation = operation
        self.operation_id = operation_id
        self.idempotency_key = idempotency_key
        self.url = url
        self.decode = decode
        self.trail = trail
        self.on_result = on_result
        self.place: int | None = None
        self.accepted_at = time.monotonic()
        self.settled = asyncio.Event()
        self.error: LoopsError | None = None
        self.final = False
        self.retrieved = False
        self._value: T | None = None

    def succeed(self, value: T) -> None:
        """The trainer finished the operation."""
        try:
            self._value = value if self.on_result is None else self.on_result(value)
        except LoopsError as error:
            self.fail(error, final=True)
            return
        self.final = True
        self.settled.set()

    def fail(self, error: LoopsError, *, final: bool) -> None:
        """The operation failed (`final`), or only our asking for it did, and it may be asked for again."""
        error.add_context(**self.context())
        self.error, self.final = error, final
        self.settled.set()

    def reopen(self) -> None:
        """Forget a failure that was not final."""
        self.settled.clear()
        self.error, self.retrieved = None, False

    def context(self) -> dict[str, Any]:
        """What an error about this operation carries, so that the operation can be resumed from it."""
        return {
            "operation": self.operation,
            "operation_id": self.operation_id,
            "idempotency_key": self.idempotency_key,
            "url": self.url,
            "elapsed": time.monotonic() - self.accepted_at,
        }

    def value(self) -> T:
        """The result, or its error raised anew: every waiter gets a traceback of its own."""
        self.retrieved = True
        if self.error is not None:
            raise _copy(self.error)
        return cast("T", self._value)

    def __del__(self) -> None:
        error = getattr(self, "error", None)
        if error is not None and not self.retrieved and not isinstance(error, ClientClosedError):
            warnings.warn(
                f"{self.operation} failed and its future was never awaited: {error}",
                UnretrievedErrorWarning,
                stacklevel=2,
                source=self,
            )


def _copy(error: LoopsError) -> LoopsError:
    rebuild, arguments = error.__reduce__()
    made: LoopsError = rebuild(*arguments)
    made.__cause__ = error.__cause__
    return made


def _not_yet(future: object, name: str, way: str) -> AttributeError:
    """The error of who asks a future for what only its result has."""
    kind = type(future).__name__
    plain = f"{kind!r} object has no attribute {name!r}"
    return AttributeError(plain if name.startswith("_") else f"{plain}: it is the future of a result; {way}")


_AWAIT = "await it first: (await future).{name}"


class OperationFuture(Generic[T]):
    """The future result of an operation that the trainer has accepted.

    ``await future`` waits as long as the operation's own deadline allows; `result_async` takes a timeout. It may be
    awaited many times and by many tasks. Cancelling an await, or running out of a timeout, abandons that wait and not
    the operation: ask again whenever you like, also after a failure of the connection.
    """

    def __init__(self, record: Record[T], ask: Callable[[Record[T]], None]) -> None:
        self._record = record
        self._ask = ask

    @property
    def operation(self) -> str:
        """Name of the call, for example ``"forward_backward"``."""
        return self._record.operation

    @property
    def operation_id(self) -> str:
        """The trainer's id of the operation."""
        return self._record.operation_id

    @property
    def idempotency_key(self) -> str:
        """The key under which it was submitted: submitting again with it has no further effect."""
        return self._record.idempotency_key

    def done(self) -> bool:
        """Whether the result, or the failure, is known."""
        return self._record.settled.is_set()

    async def result_async(self, timeout: float | None = None) -> T:
        """The result of the operation.

        Args:
            timeout: seconds to wait; `None` means until the operation's own deadline.

        Raises:
            RemoteOpError: the operation failed on the trainer.
            OperationTimeoutError: the operation's own deadline has passed.
            RequestTimeoutError: `timeout` has passed; the operation goes on and the future can be asked again.
            UnknownRequestError: the trainer does not know the operation any more.
            LoopsError: the trainer could not be asked; the future can be asked again.
        """
        _check_timeout(timeout)
        record = self._record
        if record.error is not None and not record.final and record.retrieved:
            record.reopen()
            self._ask(record)
        try:
            async with asyncio.timeout(timeout):
                while not self.done():  # another waiter may have asked again before this one woke up
                    await record.settled.wait()
        except TimeoutError:
            raise _still_waiting(timeout, **record.context()) from None
        return record.value()

    def __await__(self) -> Generator[Any, None, T]:
        return self.result_async().__await__()

    def __repr__(self) -> str:
        record = self._record
        state = "waiting" if not self.done() else "done" if record.error is None else type(record.error).__name__
        return f"<OperationFuture {record.operation} {record.operation_id} {state}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise _not_yet(self, name, _AWAIT.format(name=name))


class ComposedFuture(Generic[T]):
    """An operation followed by a stage on the client, as one future.

    The second stage starts when the result is first asked for; a stage that failed is tried again by the next asking.
    """

    def __init__(
        self, first: OperationFuture[A], then: Callable[[A], Awaitable[T]], own: Callable[[asyncio.Task[Any]], None]
    ) -> None:
        async def both() -> T:
            return await then(await first)

        self._first: OperationFuture[Any] = first
        self._both = both
        self._own = own
        self._task: asyncio.Task[T] | None = None

    @property
    def operation(self) -> str:
        """Name of the call."""
        return self._first.operation

    @property
    def operation_id(self) -> str:
        """The trainer's id of the first stage."""
        return self._first.operation_id

    @property
    def idempotency_key(self) -> str:
        """The key of the first stage."""
        return self._first.idempotency_key

    def done(self) -> bool:
        """Whether both stages are over."""
        return self._task is not None and self._task.done()

    async def result_async(self, timeout: float | None = None) -> T:
        """The result of the second stage; see `OperationFuture.result_async` for `timeout` and errors of the first."""
        _check_timeout(timeout)
        task = self._running()
        done, _ = await asyncio.wait({task}, timeout=timeout)
        if not done:
            raise _still_waiting(timeout, operation=self.operation, operation_id=self.operation_id)
        if task.cancelled():
            raise ClientClosedError("the client was closed before the result arrived", operation=self.operation)
        error = task.exception()
        if isinstance(error, LoopsError):
            raise _copy(error)
        return task.result()

    def _running(self) -> asyncio.Task[T]:
        task = self._task
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._task = asyncio.get_running_loop().create_task(self._both())
            task.add_done_callback(_seen)
            self._own(task)
        return task

    def __await__(self) -> Generator[Any, None, T]:
        return self.result_async().__await__()

    def __repr__(self) -> str:
        state = "done" if self.done() else "waiting" if self._task else "not asked for"
        return f"<ComposedFuture {self.operation} {self.operation_id} {state}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise _not_yet(self, name, _AWAIT.format(name=name))


def _seen(task: asyncio.Task[Any]) -> None:
    """Who stopped waiting for a stage must not hear of its failure from the event loop."""
    if not task.cancelled():
        task.exception()


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None:
        check_number("timeout", timeout, low=0)


def _still_waiting(timeout: float | None, **context: Any) -> RequestTimeoutError:
    return RequestTimeoutError(
        f"no result within {timeout or 0:g} s; the operation goes on and its future can be asked again", **context
    )
