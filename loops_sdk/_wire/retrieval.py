"""What the answer to ``GET /operations/{id}`` means: finished, failed, still running, or a trouble that may pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from loops_sdk._wire.codec import message
from loops_sdk._wire.failures import error_from_response, remote_error
from loops_sdk._wire.retrying import is_transient
from loops_sdk.errors import LoopsError, ProtocolError, UnknownRequestError


@attrs.frozen
class Finished:
    """The operation succeeded; `result` is plain data."""

    result: Any


@attrs.frozen
class Failed:
    """The operation is over, or will never be known of: asking again cannot help."""

    error: LoopsError


@attrs.frozen
class Running:
    """Not finished yet: ask again at once."""


@attrs.frozen
class Trouble:
    """No answer about the operation itself: ask again after a pause."""

    error: LoopsError


Retrieval = Finished | Failed | Running | Trouble


def read_retrieval(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Retrieval:
    """Sort an answer. Only ``done`` and ``error`` end an operation; any other status text means it is still running."""
    if status == 408:
        return Running()
    if not 200 <= status < 300:
        return _refused(status, headers, body, now)
    try:
        reply = message(body)
    except ProtocolError as error:
        return Trouble(error)  # a truncated or garbled answer says nothing about the operation
    if not isinstance(reply, dict):
        return Failed(ProtocolError(f"unexpected reply: expected an object with a status, got {type(reply).__name__}"))
    if reply.get("status") == "done":
        return Finished(reply.get("result"))
    return Failed(remote_error(reply)) if reply.get("status") == "error" else Running()


def _refused(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Retrieval:
    error: LoopsError = error_from_response(status, headers, body, now=now)
    if status == 404:
        return Failed(
            UnknownRequestError(f"the trainer does not know this operation: {error.message}", **error.context())
        )
    return Trouble(error) if is_transient(error) else Failed(error)
