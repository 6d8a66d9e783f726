"""A small question now and then, so that a trainer whose client is idle is not taken for abandoned and scaled to zero.

It decides when to ask. What is asked, and what counts as being busy, it is told.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable

from loops_sdk.errors import LoopsError

#: Seconds without any request after which the trainer is asked. Services scale down after 15 idle minutes by default.
INTERVAL = 60.0


class KeepAlive:
    """Asks while nothing else does. It keeps nobody alive but the trainer: a timer that holds on to it weakly.

    Args:
        ask: one small request.
        busy: whether requests are under way, or will be without the caller's doing.
        failed: told of the first failure after a success; failures have no other effect.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[None]], busy: Callable[[], bool], failed: Callable[[LoopsError], None]
    ) -> None:
        self._ask = ask
        self._busy = busy
        self._failed = failed
        self._last = 0.0
        self._healthy = True
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Count from now: the trainer has heard of its client."""
        self._last = time.monotonic()
        if self._timer is None and self._asking is None and not self._closed:
            self._wait(INTERVAL)

    async def aclose(self) -> None:
        """Ask no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), _wake, weakref.ref(self))

    def _due(self) -> None:
        self._timer = None
        if self._busy():
            self._last = time.monotonic()
        left = self._last + INTERVAL - time.monotonic()
        if left > 0:
            self._wait(left)
        else:
            self._asking = asyncio.get_running_loop().create_task(self._once())

    async def _once(self) -> None:
        try:
            await self._ask()
            self._healthy = True
        except LoopsError as error:
            if self._healthy and not self._closed:
                self._failed(error)
            self._healthy = False
        finally:
            self._asking = None
            if not self._closed:
                self.start()


def _wake(whose: Callable[[], KeepAlive | None]) -> None:
    if (keep_alive := whose()) is not None:
        keep_alive._due()
