"""What comes of an operation: the reply about it, whether it was done or failed.

A success is told as JSON, or in the binary form where the request came in that; a failure always as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from loops_sdk._wire.codec import dumps, plain
from loops_sdk._wire.packing import is_packed, pack, unpack
from loops_sdk.errors import LoopsError
from loops_sdk.instrumentation.redacting import logger

__all__ = ["Outcome", "failure", "in_json", "is_failure", "outcome_of", "success"]

_log = logger(__name__)


#: How the reply about a failure begins, so that a large result need not be read to know that it is none.
_FAILED = b'{"status":"error",'


@attrs.frozen
class Outcome:
    """A reply, and what the operation failed with; `error` is `None` when it succeeded."""

    reply: bytes
    error: str | None = None


def outcome_of(name: str, work: Callable[[], bytes]) -> Outcome:
    """Do the work of the operation `name`, which gives the reply. It never raises: an exception is an outcome, too."""
    try:
        return Outcome(work())
    except Exception as error:
        _log.warning("%s failed: %s: %s", name, type(error).__name__, error, exc_info=_unexpected(error))
        return failure(type(error).__name__, error.message if isinstance(error, LoopsError) else str(error))


def success(result: Any, *, packed: bool = False) -> bytes:
    """The reply about an operation that was done, with its result, a value of the API."""
    reply = {"status": "done", "result": plain(result)}
    return pack(reply) if packed else dumps(reply)


def in_json(reply: bytes) -> bytes:
    """The same reply for who reads nothing but JSON."""
    return dumps(unpack(reply)) if is_packed(reply) else reply


def failure(kind: str, message: str) -> Outcome:
    """The outcome of an operation that failed with an error of this class name."""
    reply = _FAILED + dumps({"error": {"message": message or kind}, "error_class": kind})[1:]
    return Outcome(reply, f"{kind}: {message}")


def is_failure(reply: bytes) -> bool:
    """Whether a reply says that the operation failed."""
    return reply.startswith(_FAILED)


def _unexpected(error: Exception) -> bool:
    """Whether the traceback helps: not when an engine refuses in its own words."""
    return not isinstance(error, LoopsError | RuntimeError)
