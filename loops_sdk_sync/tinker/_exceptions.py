"""The errors of the namespace, and which error of `loops_sdk` becomes which of them.

There is no HTTP library behind them: `request` and `response` are small values with what is known of the exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

import loops_sdk
from loops_sdk import LoopsError
from loops_sdk_sync.tinker.types.request_error_category import RequestErrorCategory

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BillingError",
    "ConflictError",
    "InternalServerError",
    "NotFoundError",
    "NotOfferedError",
    "PermissionDeniedError",
    "RateLimitError",
    "Request",
    "RequestFailedError",
    "Response",
    "TinkerError",
    "UnprocessableEntityError",
    "from_loops",
]


@attrs.frozen
class Request:
    """What is known of a request.

    Attributes:
        url: its address; `None` when nothing was sent.
    """

    url: str | None = None


@attrs.frozen
class Response:
    """What is known of an answer.

    Attributes:
        status_code: its HTTP status; `None` when that is not known.
        request: what it answered.
        headers: of its headers ``x-request-id`` and ``retry-after`` (in seconds), as far as they were there.
    """

    status_code: int | None = None
    request: Request = attrs.field(factory=Request)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


class TinkerError(Exception):
    """The root of the errors that a server or the network is the cause of."""


class APIError(TinkerError):
    """A call of the API failed.

    Attributes:
        message: what went wrong, where, after how many attempts, and what the caller can do next.
        request: what was asked, a `Request`.
        body: what the server said, as a dict with ``message`` and, if it gave one, ``code``; `None` when it said
            nothing.
    """

    def __init__(self, message: str, request: Any, *, body: object | None) -> None:
        super().__init__(message)
        self.message = message
        self.request = request
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        """By attributes: the constructors of the tree take their arguments in different order."""
        return _remade, (type(self), self.message, dict(vars(self)))


def _remade(cls: type[APIError], message: str, attributes: dict[str, Any]) -> APIError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    vars(error).update(attributes)
    return error


class APIStatusError(APIError):
    """A server answered with an error status.

    Attributes:
        response: the answer, a `Response`.
        status_code: its status.
    """

    status_code: int

    def __init__(self, message: str, response: Any, body: object | None) -> None:
        super().__init__(message, response.request, body=body)
        self.response = response
        self.status_code = response.status_code


class APIResponseValidationError(APIError):
    """A server answered with something that the protocol does not allow.

    Attributes:
        response: the answer, a `Response`.
        status_code: its status.
    """

    def __init__(self, response: Any, body: object | None, message: str | None = None) -> None:
        super().__init__(message or "the server's answer is not what the protocol allows", response.request, body=body)
        self.response = response
        self.status_code: int | None = response.status_code


class APIConnectionError(APIError):
    """No answer could be had from the server."""

    def __init__(self, request: Any, message: str = "Connection error.") -> None:
        super().__init__(message, request, body=None)


class APITimeoutError(APIConnectionError, TimeoutError):
    """A request, or the wait for a result, ran out of its time. The operation itself, if any, goes on."""

    def __init__(self, request: Any) -> None:
        super().__init__(request, "Request timed out.")


class BadRequestError(APIStatusError):
    """400: the server refused the input."""

    status_code: int = 400


class AuthenticationError(APIStatusError):
    """401: the key is missing, unknown or expired."""

    status_code: int = 401


class BillingError(APIStatusError):
    """402: the account cannot pay."""

    status_code: int = 402


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""

    status_code: int = 403


class NotFoundError(APIStatusError):
    """404: there is no such run, checkpoint or operation."""

    status_code: int = 404


class ConflictError(APIStatusError):
    """409: it contradicts what is there already."""

    status_code: int = 409


class UnprocessableEntityError(APIStatusError):
    """422: the request is well-formed and means nothing."""

    status_code: int = 422


class RateLimitError(APIStatusError):
    """429: too many requests; ``response.headers["retry-after"]`` says when to come back, if the server did."""

    status_code: int = 429


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class RequestFailedError(TinkerError):
    """An operation was accepted and then failed.

    Attributes:
        message: why, and which operation.
        request_id: the trainer's id of the operation; empty when it gave none.
        category: whose fault it is.
    """

    def __init__(self, message: str, request_id: str, category: RequestErrorCategory) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.category = category

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.request_id, self.category)


class NotOfferedError(TinkerError, loops_sdk.UnsupportedError):
    """Loops has no counterpart of what was asked for; the message names it and says what to do instead."""

    def __reduce__(self) -> tuple[Any, ...]:
        return loops_sdk.UnsupportedError.__reduce__(self)


_BY_STATUS: Mapping[int, type[APIStatusError]] = {
    kind.status_code: kind
    for kind in (
        BadRequestError,
        AuthenticationError,
        BillingError,
        PermissionDeniedError,
        NotFoundError,
        ConflictError,
        UnprocessableEntityError,
        RateLimitError,
    )
}

#: Classes of errors on a trainer that say that the input was wrong.
_FAULTS_OF_INPUT = {"BadRequestError", "IndexError", "InvalidInputError", "KeyError", "TypeError", "ValueError"}


def from_loops(error: LoopsError) -> Exception:
    """The error of this namespace that an error of `loops_sdk` is here; raise it ``from`` that.

    What is the caller's own doing stays as it is: `InvalidInputError` (a ValueError) and `ClientClosedError` (a
    RuntimeError).

    Args:
        error: what went wrong; its whole text becomes the message.
    """
    match error:
        case loops_sdk.InvalidInputError() | loops_sdk.ClientClosedError() | NotOfferedError():
            return error
        case loops_sdk.UnsupportedError():
            return NotOfferedError(error.message, **error.context())
        case loops_sdk.RemoteOpError():
            return RequestFailedError(str(error), error.operation_id or "", _category(error.error_class))
        case loops_sdk.RequestTimeoutError():
            return _timed_out(error)
        case loops_sdk.ConnectionFailedError():
            return APIConnectionError(Request(error.url), str(error))
        case loops_sdk.ProtocolError():
            return APIResponseValidationError(_response(error), _body(error), str(error))
        case loops_sdk.StatusError():
            return _status_class(error.status)(str(error), _response(error), _body(error))
        case _:
            return APIError(str(error), Request(error.url), body=None)


def _status_class(status: int | None) -> type[APIStatusError]:
    if status is not None and status >= 500:
        return InternalServerError
    return _BY_STATUS.get(status or 0, APIStatusError)


def _timed_out(error: LoopsError) -> APITimeoutError:
    timed_out = APITimeoutError(Request(error.url))
    timed_out.message = str(error)
    timed_out.args = (timed_out.message,)
    return timed_out


def _response(error: LoopsError) -> Response:
    known = {"x-request-id": error.request_id, "retry-after": error.retry_after}
    headers = {name: str(value) for name, value in known.items() if value is not None}
    return Response(error.status, Request(error.url), headers)


def _body(error: LoopsError) -> dict[str, str]:
    return {"message": error.message, **({} if error.code is None else {"code": error.code})}


def _category(error_class: str | None) -> RequestErrorCategory:
    if error_class is None:
        return RequestErrorCategory.Unknown
    return RequestErrorCategory.User if error_class in _FAULTS_OF_INPUT else RequestErrorCategory.Server
