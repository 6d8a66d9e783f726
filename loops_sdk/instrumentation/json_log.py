"""`JsonLogFormatter`: log records as lines of JSON, without secrets, for services whose logs are read by programs."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any

from loops_sdk.instrumentation.redacting import STANDARD, RedactingFilter, redacted

__all__ = ["JsonLogFormatter"]

_redacting = RedactingFilter()


class JsonLogFormatter(logging.Formatter):
    """Formats each record as one line: a JSON object without secrets.

    ``time`` (ISO 8601, UTC), ``level``, ``logger`` and ``message`` come first, then what the record was given by
    ``extra=``, then ``exception`` and ``stack`` as text where there are some. The records of this package have the
    fields of the event that they tell of: ``operation`` and, as it is known, ``operation_id``, ``run_id``, ``attempt``,
    ``url`` and others. What JSON does not know is written as text.

        handler = logging.StreamHandler()
        handler.setFormatter(JsonLogFormatter())
        logging.basicConfig(handlers=[handler], level=logging.INFO)

    The record itself is left as it is; other handlers need a `RedactingFilter` or a formatter of their own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record, without its end.

        Args:
            record: the record.
        """
        clean = logging.makeLogRecord(vars(record))
        _redacting.filter(clean)
        when = datetime.fromtimestamp(clean.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": clean.levelname, "logger": clean.name, "message": clean.getMessage()}
        given = {name: value for name, value in vars(clean).items() if name not in STANDARD and name not in said}
        return json.dumps(_plain({**said, **given, **self._traces(clean)}), default=_text)

    def _traces(self, record: logging.LogRecord) -> dict[str, str]:
        exception = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else None)
        told = {"exception": exception, "stack": record.stack_info}
        return {name: text for name, text in told.items() if text}


def _text(value: object) -> str:
    return redacted(str(value))


def _plain(value: Any) -> Any:
    """What JSON can say: names as text, and no number that it does not know."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
