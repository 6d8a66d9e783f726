"""Everything that anybody logs, of whatever level, while a block runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Logged(logging.Handler):
    """Keeps records with their tracebacks as text until somebody looks."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self._lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelno, self.format(record)))

    def look(self, level: int = 0) -> list[str]:
        """What was logged since the last look, of `level` or above."""
        lines, self._lines = self._lines, []
        return [text for number, text in lines if number >= level]


@contextmanager
def everything_logged() -> Iterator[Logged]:
    handler, root = Logged(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
