"""How many requests one server gets at a time: as many as are soon done, so that they share connections.

To open a connection costs as much as several requests over one that is open. But what takes long must not wait for one
another: when the line would not be gone within seconds, it is let in.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds until the first look at a line, and between two.
_FIRST, _NEXT = 1.0, 0.25
#: Seconds that a look comes late when this process is what is slow: then more connections would not help.
_LATE = 0.05
#: A line that is gone within so many seconds, at the pace of the last ones, goes on waiting.
_PATIENCE = 4.0
#: Open files that are left to everything else.
_SPARE = 128


def most_connections() -> int:
    """As many as this process may have open, with some files to spare."""
    if sys.platform == "win32":
        return 8192
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**15 if files == resource.RLIM_INFINITY else max(_SPARE, min(files - _SPARE, 2**15))


class Gate:
    """``async with gate:`` waits for its turn.

    Args:
        usual: how many may be inside before the others have to wait.
        most: how many may ever be inside.
    """

    def __init__(self, usual: int, most: int) -> None:
        self._usual = self._width = min(usual, most)
        self._most = most
        self._inside = 0
        self._left = 0  # since the last look was arranged
        self._line: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        if self._inside < self._width and not self._line:
            self._inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._look_later(_FIRST)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in, and cancelled before it heard of it
                self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._inside -= 1
        self._left += 1
        self._admit()
        if not self._inside:
            self._width = self._usual

    def _admit(self) -> None:
        while self._line and self._inside < self._width:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                self._inside += 1

    def _look_later(self, seconds: float) -> None:
        if self._timer is None:
            self._left = 0
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        timer, self._timer = self._timer, None
        late = timer is not None and asyncio.get_running_loop().time() - timer.when() > _LATE
        waiting = sum(not turn.done() for turn in self._line)
        if not late and waiting > self._left / seconds * _PATIENCE:
            self._width = min(self._most, self._width + self._usual)
            self._admit()
        if self._line:
            self._look_later(_NEXT)
