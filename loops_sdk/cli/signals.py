"""Ctrl-C and SIGTERM as callbacks on the event loop, also on Windows, whose loops do not take them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

__all__ = ["in_foreground", "on_signal"]


def on_signal(number: signal.Signals, callback: Callable[[], object]) -> None:
    """Have the running loop call `callback` whenever the signal comes. Only in the main thread."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))


def in_foreground() -> bool:
    """Whether a terminal sends its Ctrl-C to this program, and so to its children as well."""
    if not hasattr(os, "tcgetpgrp"):  # Windows, where a console tells all of its programs
        return bool(sys.__stdin__ and sys.__stdin__.isatty())
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno()) == os.getpgrp() if sys.__stdin__ else False
    except (OSError, ValueError):
        return False
