"""Status and body to error class, and back: the one place that knows how the servers say no."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from loops_sdk._wire.codec import loads
from loops_sdk.errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    InvalidInputError,
    LoopsError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RemoteOpError,
    ServerFailureError,
    ServerShutdownError,
    StatusError,
)

_CLASSES: Mapping[int, type[StatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: BadRequestError,
    415: BadRequestError,
    422: BadRequestError,
    429: OverloadedError,
    503: ServerShutdownError,
}

_ADVICE: Mapping[int, str] = {
    401: "check the API key: set BASETEN_API_KEY or pass api_key=; `loops serve` prints that of its deployment",
    403: "this key may not do that: it needs the training-management permission",
}

_MOST_TEXT = 2000


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> StatusError:
    """The error that a status outside 200-299 stands for.

    Args:
        headers: with case-insensitive look-up.
        now: seconds since the epoch, for a ``Retry-After`` that is a date.
    """
    message, code = _said(body)
    kind = _CLASSES.get(status) or (ServerFailureError if status >= 500 else StatusError)
    text = message or f"the server answered {status} without saying why"
    if text.startswith("<"):
        text = f"the server answered {status} with a web page: is this the address of a Loops server?"
    if status in _ADVICE:
        text = f"{text} ({_ADVICE[status]})"
    return kind(
        text,
        status=status,
        code=code,
        request_id=request_id(headers),
        retry_after=retry_after(headers.get("Retry-After"), now=now),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's id of the request, as far as it can be shown; `None` when there is none."""
    return _text(headers.get("X-Request-Id"))


def is_not_ready(error: StatusError) -> bool:
    """Whether a sampler says that it does not have the wanted policy version yet."""
    return error.status in (409, 412, 425, 503) and "version" in error.message.lower()


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, 10.2.3); `None` when absent or unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError, OSError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def remote_error(reply: Mapping[str, Any]) -> RemoteOpError:
    """The failure of an operation, from ``{"status": "error", "error": text or object, "error_class": ...}``."""
    error = reply.get("error")
    inner: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    kind = reply.get("error_class") or inner.get("error_class") or inner.get("type")
    message = _text(inner.get("message") or None) or "the operation failed on the trainer, which gave no reason"
    return RemoteOpError(message, _text(kind))


def _said(body: bytes) -> tuple[str | None, str | None]:
    """Message and code from any of the error bodies in use."""
    try:
        data = loads(body)
    except ProtocolError:
        text = body.decode("utf-8", "replace").strip()
        return text[:_MOST_TEXT] or None, None
    if not isinstance(data, dict):
        return _text(data), None
    error = data.get("error")
    if isinstance(error, dict):  # OpenAI: {"error": {"message", "type", "code"}}
        return _text(error.get("message")), _text(error.get("code") or error.get("type"))
    code = data.get("error_code") or data.get("code") or (error if data.get("message") else None)
    return _text(data.get("message") or _detail(data.get("detail")) or error), _text(code)


def _detail(detail: Any) -> Any:
    """FastAPI's list of ``{"loc": [...], "msg": ...}`` as one line; a plain text stays as it is."""
    if not isinstance(detail, list):
        return detail
    return "; ".join(
        f"{'.'.join(map(str, loc)) if isinstance(loc := item.get('loc', []), list) else loc}: {item.get('msg', item)}"
        if isinstance(item, dict)
        else str(item)
        for item in detail
    )


def _text(value: Any) -> str | None:
    """What a server said, cut where it gets long, and such that it can be printed: a header may hold any bytes."""
    return None if value is None else str(value)[:_MOST_TEXT].encode("utf-8", "replace").decode()


# ---------------------------------------------------------------- the servers' direction


def status_of(error: LoopsError) -> int:
    """The status with which a server answers for `error`."""
    if isinstance(error, StatusError) and error.status is not None:
        return error.status
    if isinstance(error, InvalidInputError):
        return 422
    return 503 if isinstance(error, ClientClosedError) else 500
