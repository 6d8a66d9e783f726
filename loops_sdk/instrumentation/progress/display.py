"""The display of this process: a thread that draws lines while there are any, and the one place where all who have
something to show meet, so that nobody draws over another.

It decides when lines are drawn and erased. It holds up nobody: what is drawn is drawn by the thread, and only the last
line is taken away by who ends the last wait, so that whatever that one prints next has the terminal for itself.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from loops_sdk.instrumentation.progress.waits import Line, Wait, Waits
from loops_sdk.instrumentation.redacting import logger

__all__ = ["DELAY", "Display", "Surface", "joined", "left"]

#: Seconds after which a wait gets a line.
DELAY = 1.0
#: Seconds to wait for a terminal that does not take what is drawn, because somebody has halted it with Ctrl-S.
_PATIENCE = 0.1

_log = logger("loops_sdk")


class Surface(Protocol):
    """What lines are drawn on: by one thread at a time, and whatever it raises ends the display and nothing else.

    Attributes:
        pause: seconds from one drawing to the next.
    """

    pause: float

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines in place of those that are shown."""

    def erase(self) -> None:
        """Show none."""

    def close(self) -> None:
        """Leave everything as it was found."""


class Display:
    """Draws what is waited for on a surface.

    Args:
        delay: seconds after which a wait gets a line.
    """

    def __init__(self, surface: Surface, *, delay: float) -> None:
        self._surface = surface
        self._waits = Waits(delay)
        self._changed = threading.Condition()
        self._drawing = threading.RLock()
        self._thread: threading.Thread | None = None
        self._idle = self._shown = self._over = False
        self._process = os.getpid()

    def begin(self, wait: Wait) -> None:
        """Something is waited for from now on."""
        if self.forked:  # the thread, the terminal and the locks are the parent's
            return
        self._waits.add(wait)
        if self._thread is None:
            self._start()
        elif self._idle:
            with self._changed:
                self._changed.notify()

    def end(self, wait: Wait) -> None:
        """It is over. When nothing else is shown, nothing is left on the surface when this returns."""
        if not self.forked:
            self._waits.remove(wait)
            self._erased()

    def forget(self, owner: object) -> None:
        """All that this owner waits for is over."""
        if not self.forked:
            self._waits.forget(owner)
            self._erased()

    def close(self) -> None:
        """Erase everything and end the thread. Nothing is drawn after this."""
        if self.forked:
            return
        with self._changed:
            self._over = True
            self._changed.notify()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(1.0)
            atexit.unregister(self.close)
        if self._drawing.acquire(timeout=_PATIENCE):
            try:
                self._attempt(self._erase)
                self._attempt(self._surface.close)
            finally:
                self._drawing.release()

    @property
    def forked(self) -> bool:
        """Whether this is a child process of the one that draws."""
        return os.getpid() != self._process

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None or self._over:
                return
            thread = threading.Thread(target=self._run, name="loops_sdk progress", daemon=True)
            try:
                thread.start()
                atexit.register(self.close)
            except RuntimeError:  # the interpreter is on its way out
                self._over = True
            else:
                self._thread = thread

    def _run(self) -> None:
        self._attempt(self._draw_all)

    def _draw_all(self) -> None:
        while self._due():
            self._draw()

    def _due(self) -> bool:
        """Wait until something is to be drawn; false when nothing is any more."""
        with self._changed:
            if not self._over:
                pause = self._surface.pause if self._shown else self._until_due()
                self._idle = pause is None
                self._changed.wait(pause)
                self._idle = False
            return not self._over

    def _until_due(self) -> float | None:
        due = self._waits.due()
        # Not less than a little: a line that is due may be kept back, by a surface on which somebody else writes.
        return None if due is None else max(due - time.monotonic(), self._surface.pause)

    def _draw(self) -> None:
        with self._drawing:
            self._shown = True  # before looking: who ends a wait from now on waits for this drawing, and erases it
            if lines := self._waits.lines(time.monotonic()):
                self._surface.draw(lines)
            else:
                self._erase()

    def _erased(self) -> None:
        if not self._shown or ((due := self._waits.due()) is not None and due <= time.monotonic()):
            return
        if self._drawing.acquire(timeout=_PATIENCE):  # else the thread does it, once it can draw again
            try:
                self._attempt(self._erase)
            finally:
                self._drawing.release()

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            self._surface.erase()

    def _attempt(self, action: Callable[[], None]) -> None:
        """What goes wrong with a surface is one line in the log, and the end of the display."""
        try:
            action()
        except Exception as error:
            first, self._over, self._shown = not self._over, True, False
            if first:
                _log.warning("progress is not shown any more: %s: %s", type(error).__name__, error)


# ------------------------------------------------------------------ one per process

_meeting = threading.Lock()
_display: Display | None = None
_users = 0


def joined(surface: Callable[[], Surface]) -> Display:
    """The display of this process; it is made on this surface if there is none. Everybody who joins it leaves it."""
    global _display, _users
    with _meeting:
        if _display is None or _display.forked:
            _display, _users = Display(surface(), delay=DELAY), 0
        _users += 1
        return _display


def left(display: Display) -> None:
    """One user less; the last one closes the display."""
    global _display, _users
    with _meeting:
        if display is not _display:  # that of a parent process
            return
        _users -= 1
        if _users == 0:
            _display = None
            display.close()
