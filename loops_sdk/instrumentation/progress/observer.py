"""The observer behind the lines: which calls and events are a wait. What of it is shown is decided elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

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
from loops_sdk.instrumentation.progress.waits import Wait
from loops_sdk.instrumentation.trails import Call, Follower

__all__ = ["ProgressObserver"]

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
