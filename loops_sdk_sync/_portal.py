"""One background event loop per process, and the bridge into it from any thread and any other event loop.

It decides where coroutines run, how callers wait for them, and how all of it ends: at interpreter exit, after a fork,
on Ctrl-C. It knows no client.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from loops_sdk import ClientClosedError, LoopsError

P = ParamSpec("P")
T = TypeVar("T")

Coroutines: TypeAlias = Callable[P, Coroutine[Any, Any, T]]

_EXITING = "the interpreter is exiting: its event loop is closed"
_FORKED = "this client was made before os.fork(), in process {pid}: make a new one in this process"
_OWN_THREAD = (
    "a blocking call was made on the thread that does its work (from an observer, for example) and would wait for "
    "itself: use the *_async form, or another thread"
)


class Closable(Protocol):
    async def aclose(self) -> None: ...


class Portal:
    """An event loop on a daemon thread. Coroutines started here begin in the order of the calls, whatever the thread.

    Args:
        exit_timeout: seconds that `close` may take: clients are closed first, then everything left is cancelled.
    """

    def __init__(self, exit_timeout: float = 5.0) -> None:
        self._exit_timeout = exit_timeout
        self._refusal: str | None = None
        self.forked = False
        self._kept: set[Closable] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loops_sdk_sync", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"<Portal {self._refusal or 'open'}, {len(self._kept)} clients>"

    # ------------------------------------------------------------------ calls

    def call(self, function: Coroutines[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function(*args, **kwargs)`` on the loop and block until it is over."""
        return self.block(futures.Future(), function, *args, **kwargs)

    async def call_async(self, function: Coroutines[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for callers on an event loop of their own; cancelling the await cancels the call."""
        return await self.bridge(futures.Future(), function, *args, **kwargs)

    def block(self, waiting: futures.Future[T], function: Coroutines[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` through a future of the caller's, which was there before anything began: however the wait is cut
        short, by Ctrl-C for example, and however early, the call is cancelled with it.
        """
        self.require_other_thread()
        try:
            self.start(waiting, function, *args, **kwargs)
            return waiting.result()
        except futures.CancelledError:
            if self._refusal is not None:
                raise ClientClosedError(self._refusal) from None
            raise
        except BaseException:
            waiting.cancel()
            raise

    def require_other_thread(self) -> None:
        """Refuse to block the thread that would have to do the work.

        Raises:
            LoopsError: this is that thread.
        """
        if threading.current_thread() is self._thread:
            raise LoopsError(_OWN_THREAD)

    async def bridge(
        self, waiting: futures.Future[T], function: Coroutines[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`call_async` through a future of the caller's."""
        self.start(waiting, function, *args, **kwargs)
        return await asyncio.wrap_future(waiting)

    def start(self, waiting: futures.Future[T], function: Coroutines[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function(*args, **kwargs)`` on the loop for `waiting`. Cancelling that cancels the call."""
        if self._refusal is not None:
            raise ClientClosedError(self._refusal)
        try:
            self._loop.call_soon_threadsafe(self._begin, waiting, partial(function, *args, **kwargs))
        except RuntimeError:  # closed between the two lines
            raise ClientClosedError(_EXITING) from None

    def _begin(self, waiting: futures.Future[T], make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        if waiting.cancelled():
            return
        task = self._loop.create_task(make())
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(partial(self._ended, waiting))
        waiting.add_done_callback(partial(self._abandoned, task))

    def _ended(self, waiting: futures.Future[T], task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            waiting.cancel()
        error = None if task.cancelled() else task.exception()
        if not waiting.set_running_or_notify_cancel():
            return
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(task.result())

    def _abandoned(self, task: asyncio.Task[T], waiting: futures.Future[T]) -> None:
        if waiting.cancelled() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(task.cancel)

    # ------------------------------------------------------------------ clients that must not outlive the loop

    def keep(self, client: Closable) -> None:
        """Remember to close `client` before the loop ends."""
        self._kept.add(client)

    def release(self, client: Closable) -> None:
        """Close a client that nobody can reach any more. Takes no lock: the garbage collector calls it anywhere."""
        if self._refusal is None:
            self._kept.discard(client)
            with contextlib.suppress(ClientClosedError):
                self.start(futures.Future(), client.aclose)

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Close every kept client, cancel the rest, and end the thread. Called at interpreter exit."""
        if self._refusal is None:
            self._refusal = _EXITING
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(self._exit_timeout)

    def abandon(self) -> None:
        """After a fork the loop belongs to the parent, whose selector this process shares: nothing of it is touched."""
        self.forked = True
        if self._refusal is None:
            self._refusal = _FORKED.format(pid=os.getppid())

    def _run(self) -> None:
        while self._refusal is None:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised by a task: its caller gets it
                self._loop.run_forever()
        self._loop.run_until_complete(self._wind_up())
        self._loop.close()

    async def _wind_up(self) -> None:
        closing = [asyncio.ensure_future(client.aclose()) for client in self._kept]
        if closing:
            await asyncio.wait(closing, timeout=self._exit_timeout * 0.6)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=self._exit_timeout * 0.2)
        await self._loop.shutdown_asyncgens()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """One of uvloop, on which a call costs less time of the processor, where it is installed."""
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        return asyncio.new_event_loop()
    return loop


_lock = threading.Lock()
_current: Portal | None = None
_of_parents: list[Portal] = []


def portal() -> Portal:
    """The portal of this process, started on first use."""
    global _current
    with _lock:
        if _current is None:
            _current = Portal()
        return _current


def _after_fork() -> None:
    global _current, _lock
    _lock = threading.Lock()
    if _current is not None:
        _current.abandon()
        _of_parents.append(_current)  # kept alive: collecting its sockets would disturb the parent's selector
        _current = None


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)
