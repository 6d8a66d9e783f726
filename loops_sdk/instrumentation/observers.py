"""Observers: the one that logs, and how events reach all of them without any being able to break a training step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from loops_sdk.instrumentation.events import Event, OperationFinished, RequestRetried

__all__ = ["Emit", "Observer", "log_events", "tell"]

Observer = Callable[[Event], None]
Emit = Callable[[Event], None]

_log = logging.getLogger("loops_sdk")


def log_events(event: Event) -> None:
    """Log retries and failed operations as warnings of the logger ``loops_sdk``, everything else at debug level."""
    bad = isinstance(event, RequestRetried) or (isinstance(event, OperationFinished) and event.error is not None)
    _log.log(logging.WARNING if bad else logging.DEBUG, "%s", event)


def tell(observers: Sequence[Observer]) -> Emit:
    """A function that hands an event to every observer; one that raises is logged and does not stop the others."""

    def emit(event: Event) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:
                _log.exception("an observer failed on %s", type(event).__name__)

    return emit
