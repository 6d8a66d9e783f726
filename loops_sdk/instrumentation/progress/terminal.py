"""Lines at the bottom of a terminal, which make room for whatever else is written there.

`rich` can redirect the streams of a program while it draws. It puts other objects in their places: a log that holds the
old ones writes into its lines, output that goes to a file comes to the terminal, and a prompt waits for its end of
line. Here the streams stay what they are and are only listened to. Before anything is written the lines are taken away,
and they come back when what was written has ended its line. The cursor is never hidden, so that none is missing after a
program that was killed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from loops_sdk.instrumentation.progress.looks import drawn
from loops_sdk.instrumentation.progress.waits import Line

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Terminal"]


class Terminal:
    """Draws on a terminal.

    Args:
        stream: what leads there.
    """

    pause = 0.125

    def __init__(self, stream: TextIO) -> None:
        self._lock = threading.RLock()
        self._midline = False
        self._live: Live | None = None
        self._process = os.getpid()
        self._out = _Straight(stream)
        others = [one for one in (sys.stdout, sys.stderr) if one is not None and one is not stream and _leads_here(one)]
        self._taps = [_Tap(one, self._write) for one in (stream, *others)]

    def draw(self, lines: Sequence[Line]) -> None:
        if not self._in_foreground():
            return
        with self._lock:
            if self._midline:  # somebody else's line has not ended: a prompt, or another bar
                return
            live = self._live or self._begun()
            console = live.console
            ascii_only = not console.encoding.startswith("utf")
            table = drawn(lines, width=console.width - 1, ascii_only=ascii_only, now=time.monotonic())
            live.update(table, refresh=True)

    def erase(self) -> None:
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                live.stop()

    def close(self) -> None:
        for tap in self._taps:
            tap.remove()

    def _begun(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        class Steady(Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False

        console = Steady(file=cast("IO[str]", self._out), force_terminal=True)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        return self._live

    def _in_foreground(self) -> bool:
        """Whether this program has the terminal, or was put behind with ``&`` or Ctrl-Z."""
        try:
            return os.tcgetpgrp(self._out.fileno()) == os.getpgrp()
        except (AttributeError, OSError, ValueError):  # Windows, and streams without a number
            return True

    def _write(self, write: Callable[[str], int], text: str) -> int:
        """What somebody else writes, with the terminal for itself."""
        if os.getpid() != self._process:  # a fork, whose lock may be held for ever
            return write(text)
        with self._lock:
            self.erase()
            if text:
                self._midline = not text.endswith("\n")
            return write(text)


def _leads_here(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


class _Tap:
    """Everything that is written to a stream, heard of before it is written."""

    def __init__(self, stream: Any, written: Callable[[Callable[[str], int], str], int]) -> None:
        self._stream = stream
        self._before = vars(stream).get("write") if hasattr(stream, "__dict__") else None
        write = stream.write
        self._ours = lambda text: written(write, text)
        try:
            stream.write = self._ours
        except AttributeError:  # it takes no attributes: then it cannot be listened to
            self._stream = None

    def remove(self) -> None:
        """Listen no more, unless somebody has come after us whom that would cut off."""
        if self._stream is None or vars(self._stream).get("write") is not self._ours:
            return
        if self._before is None:
            del self._stream.write
        else:
            self._stream.write = self._before


class _Straight:
    """A stream past its tap. What its encoding does not have is replaced."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._write = stream, stream.write

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        count: int = self._write(text.encode(encoding, "replace").decode(encoding))
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
