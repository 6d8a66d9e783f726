"""The observer behind the lines: which calls and events are a wait, and when somebody is there to be shown any.

It decides whether anything is shown. What a line looks like, and when it is drawn, is decided elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TextIO

from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation.events import (
    Event,
    OperationFinished,
    SampleFailed,
    SampleFinished,
    SubmissionFailed,
    WaitAdvanced,
    WaitFinished,
    WaitStarted,
)
from loops_sdk.instrumentation.progress.display import Display, Surface, joined, left
from loops_sdk.instrumentation.progress.notebook import Notebook, in_notebook
from loops_sdk.instrumentation.progress.plain import Plain
from loops_sdk.instrumentation.progress.terminal import Terminal
from loops_sdk.instrumentation.progress.waits import Wait
from loops_sdk.instrumentation.trails import Call, Follower

__all__ = ["ProgressObserver", "progress_observer"]

_PROGRESS = "LOOPS_PROGRESS"
_CI = "CI"
_TERM = "TERM"
_OVER = (OperationFinished, SubmissionFailed, SampleFinished, SampleFailed)


class ProgressObserver:
    """An observer that shows what is waited for, on the display of this process, which it joins with the first wait.

    Args:
        surface: makes what is drawn on, if this process has no display yet.
    """

    def __init__(self, surface: Callable[[], Surface]) -> None:
        self._surface = surface
        self._display: Display | None = None
        self._waits: dict[int, Wait] = {}
        self._closed = False

    def follow(self, call: Call) -> Follower:
        """Wait for a call from now on.

        Args:
            call: an operation or a sample.
        """
        return _Followed(self, self._begun(call.operation, call=True))

    def __call__(self, event: Event) -> None:
        if isinstance(event, WaitStarted):
            self._waits[event.wait] = self._begun(event.subject)
        elif isinstance(event, WaitAdvanced):
            self._advanced(event)
        elif isinstance(event, WaitFinished) and (wait := self._waits.pop(event.wait, None)) is not None:
            self.ended(wait)

    def ended(self, wait: Wait) -> None:
        """A wait is over."""
        if self._display is not None:
            self._display.end(wait)

    def _begun(self, subject: str, *, call: bool = False) -> Wait:
        wait = Wait(self, subject, time.monotonic(), call)
        if not self._closed:
            if self._display is None:
                self._display = joined(self._surface)
            self._display.begin(wait)
        return wait

    def _advanced(self, event: WaitAdvanced) -> None:
        if (wait := self._waits.get(event.wait)) is None:
            return
        wait.state = event.state or wait.state
        if event.done is not None and event.total is not None:
            wait.counted(event.done, event.total)

    def close(self) -> None:
        """Show nothing more of what this observer has heard of. Safe to call twice."""
        self._closed = True
        display, self._display = self._display, None
        if display is not None:
            display.forget(self)
            left(display)


class _Followed:
    """One call, until it is over."""

    __slots__ = ("_observer", "_wait")
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, observer: ProgressObserver, wait: Wait) -> None:
        self._observer, self._wait = observer, wait

    def __call__(self, event: Event) -> None:
        if isinstance(event, _OVER):
            self._observer.ended(self._wait)


# ------------------------------------------------------------------ whether


def progress_observer(progress: bool | None) -> ProgressObserver | None:
    """Who shows what is waited for; `None` where nothing is shown.

    Args:
        progress: as `loops_sdk.ServiceClient` takes it.

    Raises:
        InvalidInputError: it is neither a bool nor `None`, or ``LOOPS_PROGRESS`` is neither ``0`` nor ``1``.
    """
    surface = _surface(_wanted(progress))
    return None if surface is None else ProgressObserver(surface)


def _wanted(progress: bool | None) -> bool | None:
    if not (progress is None or isinstance(progress, bool)):
        raise InvalidInputError(f"progress: expected True, False or None, got {progress!r}")
    told = os.environ.get(_PROGRESS) or None
    if told not in (None, "0", "1"):
        raise InvalidInputError(f"{_PROGRESS}: expected 0 or 1, got {told!r}")
    return progress if progress is not None or told is None else told == "1"


def _surface(wanted: bool | None) -> Callable[[], Surface] | None:
    """Where lines go. Unasked, only where a person looks on and a line is in nobody's way."""
    if wanted is False or (wanted is None and _unattended()):
        return None
    if in_notebook():
        return Notebook
    stream: TextIO | None = sys.stderr
    if stream is None:  # a program without a console
        return None
    if _is_terminal(stream) and (wanted or not hasattr(sys, "ps1")):  # a prompt would be drawn over
        return lambda: Terminal(stream)
    return (lambda: Plain(stream)) if wanted else None


def _unattended() -> bool:
    return os.environ.get(_CI, "").lower() not in ("", "0", "false")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get(_TERM) != "dumb"
    except ValueError:  # it is closed
        return False
