"""`Future`: the result of a trainer operation, for code that blocks and for code on any event loop.

It decides how a wait begins, ends and is abandoned. What there is to wait for, and its errors, are the core's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator
from concurrent import futures
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar

from loops_sdk import ForwardBackwardOutput, RequestTimeoutError
from loops_sdk.instrumentation import RedactingFilter
from loops_sdk_sync._portal import Portal

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

logger = logging.getLogger("loops_sdk_sync")
logger.addFilter(RedactingFilter())


class CoreFuture(Protocol[T_co]):
    """What the futures of the core have in common."""

    @property
    def operation(self) -> str: ...
    @property
    def operation_id(self) -> str: ...
    @property
    def idempotency_key(self) -> str: ...
    def done(self) -> bool: ...
    async def result_async(self, timeout: float | None = None) -> T_co: ...


class Future(Generic[T]):
    """The future result of an operation that the trainer has accepted.

    ``future.result()`` blocks, ``await future`` does not and works on any event loop. It may be asked many times, by
    many threads and tasks. A timeout that runs out, `cancel`, or Ctrl-C abandons that wait and not the operation: ask
    again whenever you like.
    """

    def __init__(
        self, portal: Portal, core: CoreFuture[Any], owner: object, wrap: Callable[[Any], T] | None = None
    ) -> None:
        self._portal = portal
        self._core = core
        self._owner = owner  # a client closes when nobody holds it, or a future of it
        self._wrap = wrap
        self._wrapped: tuple[Any, T] | None = None
        self._waits: set[futures.Future[Any]] = set()

    def __repr__(self) -> str:
        return repr(self._core).replace(type(self._core).__name__, "Future", 1)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            plain = f"{type(self).__name__!r} object has no attribute {name!r}"
            way = f": it is the future of a result; ask for that first: future.result().{name}"
            raise AttributeError(plain if name.startswith("_") else plain + way)

    @property
    def operation(self) -> str:
        """Name of the call, for example ``"forward_backward"``."""
        return self._core.operation

    @property
    def operation_id(self) -> str:
        """The trainer's id of the operation."""
        return self._core.operation_id

    @property
    def idempotency_key(self) -> str:
        """The key under which it was submitted: submitting again with it has no further effect."""
        return self._core.idempotency_key

    def done(self) -> bool:
        """Whether the result, or the failure, is known."""
        return self._core.done()

    def result(self, timeout: float | None = None) -> T:
        """Block until the result is there.

        Args:
            timeout: seconds to wait; `None` means until the operation's own deadline.

        Raises:
            RemoteOpError: the operation failed on the trainer.
            OperationTimeoutError: the operation's own deadline has passed.
            RequestTimeoutError: `timeout` has passed; the operation goes on and the future can be asked again.
            UnknownRequestError: the trainer does not know the operation any more.
            concurrent.futures.CancelledError: `cancel` was called meanwhile.
            LoopsError: the trainer could not be asked, and the future can be asked again; or the call was made on the
                thread that would have to answer it.
        """
        wait: futures.Future[T] = self._wait()
        return self._portal.block(wait, self._result, timeout)

    async def result_async(self, timeout: float | None = None) -> T:
        """As `result`, with the same `timeout`, without blocking; on any event loop. Cancelling the await abandons the
        wait.
        """
        wait: futures.Future[T] = self._wait()
        return await self._portal.bridge(wait, self._result, timeout)

    def __await__(self) -> Generator[Any, None, T]:
        return self.result_async().__await__()

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Block until the outcome is known; the operation's error, or `None` when it succeeded.

        Args:
            timeout: as in `result`.

        Raises:
            RequestTimeoutError, concurrent.futures.CancelledError, LoopsError: the wait failed, not the operation.
        """
        try:
            self.result(timeout)
        except Exception as error:
            if type(error) is RequestTimeoutError or not self.done():
                raise
            return error
        return None

    def cancel(self) -> bool:
        """Abandon every wait under way: each raises ``CancelledError``, and callbacks that wait are dropped.

        The operation goes on at the trainer, which works in order, and the future can be asked again.

        Returns:
            Whether the result was still unknown.
        """
        for wait in self._waits.copy():
            wait.cancel()
        return not self.done()

    def add_done_callback(self, callback: Callable[[Future[T]], object]) -> None:
        """Call ``callback(future)`` once the outcome is known, at once if it is.

        `callback` runs on a worker thread, never on the event loop: it may block, and call `result`. What it raises is
        logged.
        """
        self._portal.start(self._wait(), self._tell, callback)

    # ------------------------------------------------------------------ on the portal's loop

    def _wait(self) -> futures.Future[Any]:
        """A wait that `cancel` knows of, to be started."""
        wait: futures.Future[Any] = futures.Future()
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)
        return wait

    async def _result(self, timeout: float | None) -> T:
        value = await self._core.result_async(timeout)
        if self._wrap is None:
            return value  # type: ignore[no-any-return]
        if self._wrapped is None or self._wrapped[0] is not value:
            self._wrapped = (value, self._wrap(value))
        return self._wrapped[1]

    async def _tell(self, callback: Callable[[Future[T]], object]) -> None:
        with contextlib.suppress(Exception):
            await self._core.result_async()
        try:
            await asyncio.to_thread(callback, self)
        except Exception:
            logger.exception("a callback of %r failed", self)


# The names under which the signatures of the clients speak of it.
#: The future of one operation.
OperationFuture = Future
#: The future of an operation and a stage that follows on the client.
ComposedFuture = Future
#: The future of a pass: its loss, its metrics and its log-probabilities.
ForwardBackwardFuture = Future[ForwardBackwardOutput]
