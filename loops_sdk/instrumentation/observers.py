"""Observers: the one that logs, and how events reach all of them without any being able to break a training step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from loops_sdk.instrumentation.events import Event, KeepAliveFailed, RequestRetried
from loops_sdk.instrumentation.redacting import logger

__all__ = ["Emit", "Observer", "log_events", "tell"]

#: Who hears of events. It is called in the event loop, at once and in their order: it must not take long. One that has
#: the attribute ``draws_curves = True`` has numbers worked out for it that the results do not hold; see
#: `OperationMeasured`.
Observer = Callable[[Event], None]
#: What events are given to: it tells all observers, and none of their errors comes back.
Emit = Callable[[Event], None]

_log = logger("loops_sdk")


def log_events(event: Event) -> None:
    """The observer that every client has: it logs `event` to ``loops_sdk``, retries, and trainers that may fall asleep,
    as warnings, everything else at debug level. A failure is told by its exception. The fields of the event are
    attributes of the record, so that formatters which write JSON show them.
    """
    if isinstance(event, RequestRetried):
        text = "%s: attempt %d failed, the next follows in %.1f s: %s"
        _log.warning(text, event.operation, event.attempt, event.wait, event.error, extra=_fields(event))
    elif isinstance(event, KeepAliveFailed):
        text = "%s: an idle trainer may be scaled to zero: %s"
        _log.warning(text, event.operation, event.error, extra=_fields(event))
    elif _log.isEnabledFor(logging.DEBUG):
        _log.debug("%s", event, extra=_fields(event))


def _fields(event: Event) -> dict[str, Any]:
    return {name: value for name, value in attrs.asdict(event).items() if value is not None}


def tell(observers: Sequence[Observer]) -> Emit:
    """A function that hands an event to all `observers`; one that raises is logged and does not stop the others."""

    def emit(event: Event) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:
                _log.exception("an observer failed on %s", type(event).__name__)

    return emit
