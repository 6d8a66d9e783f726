"""`APIFuture`: what every call of the namespace gives back at once.

It is a `concurrent.futures.Future` that can be awaited on any event loop. It decides how a wait begins and is
abandoned; what there is to wait for runs on the portal.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Coroutine, Generator
from concurrent import futures
from functools import partial
from typing import Any, Self, TypeVar

from loops_sdk import ClientClosedError, LoopsError, UnretrievedErrorWarning
from loops_sdk_sync._portal import Portal
from loops_sdk_sync._proxy import Proxy
from loops_sdk_sync.tinker._exceptions import from_loops

__all__ = ["APIFuture"]

T = TypeVar("T")


class APIFuture(futures.Future[T]):
    """The result of a call that goes on by itself.

    ``future.result()`` blocks, ``await future`` does not and works on any event loop; both may be done many times, by
    many threads and tasks. It is also the `concurrent.futures.Future` that older scripts took it for. A timeout that
    runs out, a cancelled await, and Ctrl-C abandon that wait only. `cancel` gives the future up for good; an operation
    that the trainer has accepted goes on there, and no later one is held up.
    """

    _told_nobody = True

    def __init__(self, operation: str, door: Portal, owner: object) -> None:
        super().__init__()
        self._operation = operation
        self._door = door
        self._owner = owner  # a client closes when nobody holds it, or a future of it

    @classmethod
    def of(cls, operation: str, client: Proxy[Any], work: Callable[[], Coroutine[Any, Any, T]]) -> Self:
        """Begin `work` on the loop of `client`, behind all that was begun before."""
        door = client._portal
        future = cls(operation, door, client)
        door.start(future, partial(_translated, work))
        return future

    def result(self, timeout: float | None = None) -> T:
        """Block until the result is there.

        Args:
            timeout: seconds to wait; `None` means until the call's own deadline.

        Raises:
            TimeoutError: `timeout` has passed; the call goes on and the future can be asked again.
            TinkerError, ValueError, NotImplementedError: the call failed.
            concurrent.futures.CancelledError: `cancel` was called.
            LoopsError: it was asked on the thread that would have to answer, from a callback for example.
        """
        self._told_nobody = False
        if not self.done():
            self._door.require_other_thread()
        try:
            return super().result(timeout)
        except TimeoutError:
            if self.done():
                raise
            raise _over(self._operation, timeout) from None

    async def result_async(self, timeout: float | None = None) -> T:
        """As `result`, with the same `timeout`, without blocking; on any event loop."""
        self._told_nobody = False
        try:
            async with asyncio.timeout(timeout):
                await self._settled()
        except TimeoutError:
            if not self.done():
                raise _over(self._operation, timeout) from None
        return super().result()

    def __await__(self) -> Generator[Any, None, T]:
        return self.result_async().__await__()

    async def coroutine(self) -> T:
        """The wait as a coroutine, for those who take nothing else."""
        return await self

    def future(self) -> futures.Future[T]:
        """The `concurrent.futures.Future`: this one."""
        return self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, with the error as the result, and `None` when there is none."""
        self._told_nobody = False
        if not self.done():
            self._door.require_other_thread()
        return super().exception(timeout)

    def __del__(self) -> None:
        if not self._told_nobody or not self.done() or self.cancelled():
            return
        error = super().exception()
        if error is not None and not isinstance(error, ClientClosedError):
            text = f"{self._operation} failed and its future was never asked: {error}"
            warnings.warn(text, UnretrievedErrorWarning, stacklevel=2, source=self)

    async def _settled(self) -> None:
        """Return when this is done. Nothing of the waiter reaches the future, neither its end nor that of its loop."""
        loop = asyncio.get_running_loop()
        waiter = asyncio.Event()

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the waiter's loop has been closed
                loop.call_soon_threadsafe(waiter.set)

        self.add_done_callback(wake)
        await waiter.wait()


async def _translated(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return await work()
    except LoopsError as error:
        told = from_loops(error)
        if told is error:
            raise
        raise told from error


def _over(operation: str, timeout: float | None) -> TimeoutError:
    return TimeoutError(f"{operation} has no result after {timeout} s; it goes on: ask the future again")
