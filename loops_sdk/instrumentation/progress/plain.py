"""Lines for a log: where progress was asked for and there is neither terminal nor notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TextIO

from loops_sdk.instrumentation.progress.looks import as_text
from loops_sdk.instrumentation.progress.waits import Line

__all__ = ["Plain"]

#: Seconds after which the same is said again.
_AGAIN = 30.0


class Plain:
    """Says once what is waited for, and again every half a minute.

    Args:
        stream: where to.
        clock: seconds.
    """

    pause = 0.5

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._said: dict[str, float] = {}

    def draw(self, lines: Sequence[Line]) -> None:
        now = self._clock()
        self._said = {subject: at for subject, at in self._said.items() if any(subject == one.subject for one in lines)}
        for line in lines:
            if now - self._said.get(line.subject, -_AGAIN) >= _AGAIN:
                self._said[line.subject] = now
                print(as_text(line), file=self._stream, flush=True)

    def erase(self) -> None:
        self._said.clear()

    def close(self) -> None:
        """Nothing was changed."""
