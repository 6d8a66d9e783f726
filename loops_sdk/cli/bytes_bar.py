"""A bar of bytes for what is read or written in one go: on standard error, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

#: Hears of the bytes that are there, and of those there will be.
Hears = Callable[[int, int], None]


@contextmanager
def bytes_bar() -> Iterator[Hears | None]:
    """What moves the bar; `None` where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda there, total: bar.update(task, completed=there, total=total)
