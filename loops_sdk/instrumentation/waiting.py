"""A wait, told from its beginning to its end: what everything that waits for a server or for files uses to say so.

It decides how often something that is counted is told. Who hears of it, and what is shown, is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from loops_sdk.instrumentation.events import Event, WaitAdvanced, WaitFinished, WaitStarted
from loops_sdk.instrumentation.observers import Emit

__all__ = ["Waiting", "nobody", "waiting"]

#: Seconds between two tellings of what is counted.
_OFTEN = 0.25

_numbers = count(1)


class Waiting:
    """A wait that is under way.

    Args:
        emit: what events are given to.
        operation: the call that waits.
    """

    def __init__(self, emit: Emit, operation: str, run_id: str | None) -> None:
        self._emit, self._operation, self._run_id = emit, operation, run_id
        self.number = next(_numbers)
        self._state: str | None = None
        self._told_at = -_OFTEN

    def state(self, state: str) -> None:
        """It has come to a state; one that is known already is not told again."""
        if state != self._state:
            self._state = state
            self._emit(WaitAdvanced(self._operation, self.number, state, run_id=self._run_id))

    def counted(self, done: int, total: int) -> None:
        """So many bytes of so many are there. The last ones are always told."""
        now = time.monotonic()
        if now - self._told_at >= _OFTEN or done >= total:
            self._told_at = now
            self._emit(WaitAdvanced(self._operation, self.number, None, done, total, self._run_id))


@contextmanager
def waiting(emit: Emit, operation: str, subject: str, run_id: str | None = None) -> Iterator[Waiting]:
    """Tell of a wait that lasts as long as the block, however that ends.

    Args:
        emit: what events are given to.
        operation: the call that waits.
        subject: what is waited for, for people.
        run_id: the run that it is about, if that is known.
    """
    wait, start = Waiting(emit, operation, run_id), time.monotonic()
    emit(WaitStarted(operation, wait.number, subject, run_id))
    told: tuple[str | None, str | None] = (None, None)
    try:
        yield wait
    except BaseException as error:
        told = str(error), type(error).__name__
        raise
    finally:
        emit(WaitFinished(operation, wait.number, time.monotonic() - start, *told, run_id))


def nobody(_event: Event) -> None:
    """Hears of a wait that nobody wants to hear of."""
