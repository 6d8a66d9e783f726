"""Observers: the one that logs, and how events reach all of them without any being able to break a training step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from loops_sdk.instrumentation.events import Event, KeepAliveFailed, RequestRetried

__all__ = ["Emit", "Observer", "log_events", "tell"]

#: Who hears of events. It is called in the event loop, at once and in their order: it must not take long.
Observer = Callable[[Event], None]
#: What events are given to: it tells all observers, and none of their errors comes back.
Emit = Callable[[Event], None]

_log = logging.getLogger("loops_sdk")


def log_events(event: Event) -> None:
    """The observer that every client has: it logs `event` to ``loops_sdk``, retries, and trainers that may fall asleep,
    as warnings, everything else at debug level. A failure is told by its exception.
    """
    if isinstance(event, RequestRetried):
        told = (event.operation, event.attempt, event.wait, event.error)
        _log.warning("%s: attempt %d failed, the next follows in %.1f s: %s", *told)
    elif isinstance(event, KeepAliveFailed):
        _log.warning("%s: an idle trainer may be scaled to zero: %s", event.operation, event.error)
    else:
        _log.debug("%s", event)


def tell(observers: Sequence[Observer]) -> Emit:
    """A function that hands an event to all `observers`; one that raises is logged and does not stop the others."""

    def emit(event: Event) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:
                _log.exception("an observer failed on %s", type(event).__name__)

    return emit
