"""`Supervised`: a trainer or sampler as the control plane knows it: an address, and whichever process answers there.

It decides what happens when that process dies unasked: another one takes over its socket, and with it its clients.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from loops_sdk.errors import LoopsError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.control_plane import State
from loops_sdk.local.stack.process import Process

__all__ = ["Supervised"]

#: Successors in a row that may fail before they are ready.
_MOST_TRIES = 5
#: Seconds of service after which a death is taken for an accident: the next process starts at once.
_PROVEN = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0

_log = logger(__name__)


class Supervised:
    """What serves one run or sampler.

    Args:
        process: a started process that has nothing to serve yet.
        serve: id of what it is to serve.
        listener: the socket to serve it on, closed with this object.
        successor: starts the process that takes over from one that died; `None` when its death is the end.
    """

    def __init__(
        self,
        process: Process,
        serve: str,
        listener: socket.socket,
        successor: Callable[[], Awaitable[Process]] | None,
    ) -> None:
        self._process, self._successor = process, successor
        self._final: State | None = None
        self._take(serve, listener)
        process.assign(serve, listener)
        self._watch = asyncio.create_task(self._supervise(), name=f"supervise {serve}")

    def __repr__(self) -> str:
        return f"<{self.serve} at port {self.port} {self.state}, {self._process!r}>"

    @property
    def state(self) -> State:
        """What it is up to, as the control plane calls it; ``starting`` also while a process takes over."""
        if self._final is not None:
            return self._final
        return "ready" if self._process.state == "ready" else "starting"

    @property
    def idle(self) -> float:
        """Seconds since a client last asked anything of it; see `Process.idle`."""
        return self._process.idle

    def _take(self, serve: str, listener: socket.socket) -> None:
        self.serve, self._listener = serve, listener
        self.port = int(listener.getsockname()[1])

    async def reassign(self, serve: str, listener: socket.socket, timeout: float) -> None:
        """Serve something else, at another address, without loading the base model again; returns when it listens.

        Raises:
            DeploymentFailedError: it would not let go of what it was doing, or is gone.
        """
        self._listener.close()
        self._take(serve, listener)
        await self._process.reassign(serve, listener, timeout)

    async def stop(self) -> None:
        """End it, within a few seconds."""
        self._end("stopped")
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        await self._process.stop()

    def kill(self) -> None:
        """End it now."""
        self._end("stopped")
        self._watch.cancel()
        self._process.kill()

    def _end(self, state: State) -> None:
        """Whoever waits to be answered hears that nobody will."""
        self._final = self._final or state
        self._listener.close()

    async def _supervise(self) -> None:
        tries, pause = 0, 0.0
        while True:
            await self._process.gone()
            served_for = self._process.served_for
            tries = tries if served_for is None else 0
            pause = 0.0 if served_for is not None and served_for >= _PROVEN else pause
            while self._process.ended:
                if self._successor is None or self._process.refused or tries >= _MOST_TRIES:
                    _log.error("%s is not served any more", self.serve)
                    self._end("failed")
                    return
                tries += 1
                await self._replace(self._successor, pause)
                pause = _longer(pause)

    async def _replace(self, successor: Callable[[], Awaitable[Process]], pause: float) -> None:
        _log.warning("the %s has died; another process takes over in %.2g s", self._process.name, pause)
        await asyncio.sleep(pause)
        try:
            process = await successor()
        except (OSError, LoopsError) as error:
            _log.error("no process can be started for %s: %s", self.serve, error)
            return
        self._process = process
        process.assign(self.serve, self._listener)


def _longer(pause: float) -> float:
    return min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
