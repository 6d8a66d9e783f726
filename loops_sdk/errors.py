"""Every exception this package raises, in one tree under `LoopsError`.

Fields are plain strings and numbers, so every error pickles, logs and crosses a process boundary unchanged. This module
decides what an error says; which status or transport failure becomes which class is decided elsewhere.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConnectionFailedError",
    "DeploymentFailedError",
    "InvalidInputError",
    "LoopsError",
    "NotFoundError",
    "OperationTimeoutError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "RemoteOpError",
    "RequestTimeoutError",
    "ServerFailureError",
    "ServerShutdownError",
    "StatusError",
    "UnknownRequestError",
    "UnretrievedErrorWarning",
    "UnshiftedTargetsWarning",
    "UnsupportedError",
    "WeightsNotReadyError",
]


#: What is said of a call to a client that was closed before.
CLOSED = "the client is closed: its `with` block has ended, or it was told to close; make a new one"
#: Characters of a message, and of a field where it is shown: servers may say and name things at any length.
_MOST_TEXT, _MOST_FIELD = 8000, 1000


def _cut(message: str) -> str:
    """A message that is not too long, once and for all: what was cut is not cut again when it crosses a process."""
    if len(message) <= _MOST_TEXT + 50:
        return message
    return f"{message[:_MOST_TEXT]}... ({len(message)} characters)"


def _rebuild(cls: type[LoopsError], message: str, fields: dict[str, Any]) -> LoopsError:
    error = cls.__new__(cls)
    LoopsError.__init__(error, message, **fields)
    return error


class LoopsError(Exception):
    """The root of every error of this package.

    Attributes (all keyword arguments, all `None` when they do not apply):
        message: what went wrong and what the caller can do next, without the context below.
        operation: name of the call, for example ``"forward_backward"``.
        operation_id: the trainer's id of the operation; with it the result can still be asked for.
        idempotency_key: the key under which the operation was submitted; resubmitting with it is safe.
        url: address of the request, never with a key in it.
        status: HTTP status, when a server answered.
        code: the server's own error code, when it gave one.
        request_id: the server's id of the request, when it gave one.
        session_id, run_id: what was provisioned when the error happened.
        attempts: how many requests were sent.
        elapsed: seconds from the start of the call to the error.
        retry_after: seconds the server asked to wait, when it did.
    """

    #: Names of the fields that are shown with the message, in that order.
    FIELDS: ClassVar[tuple[str, ...]] = (
        "operation",
        "operation_id",
        "idempotency_key",
        "url",
        "status",
        "code",
        "request_id",
        "session_id",
        "run_id",
        "attempts",
        "elapsed",
        "retry_after",
    )

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        operation_id: str | None = None,
        idempotency_key: str | None = None,
        url: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        attempts: int | None = None,
        elapsed: float | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = _cut(message)
        super().__init__(self.message)
        self.operation = operation
        self.operation_id = operation_id
        self.idempotency_key = idempotency_key
        self.url = url
        self.status = status
        self.code = code
        self.request_id = request_id
        self.session_id = session_id
        self.run_id = run_id
        self.attempts = attempts
        self.elapsed = elapsed
        self.retry_after = retry_after

    def context(self) -> dict[str, Any]:
        """The fields that apply to this error, by name."""
        return {name: value for name in self.FIELDS if (value := getattr(self, name)) is not None}

    def add_context(self, **fields: Any) -> None:
        """Fill in fields that are still unknown; what an inner layer has already said stays.

        Args:
            fields: those of the constructor.
        """
        for name, value in fields.items():
            if getattr(self, name) is None:
                setattr(self, name, value)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{name}={value:.1f}s" if name in ("elapsed", "retry_after") else f"{name}={str(value)[:_MOST_FIELD]}"
            for name, value in self.context().items()
        )
        return f"{self.message} [{shown}]" if shown else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self._fields())

    def _fields(self) -> dict[str, Any]:
        return self.context()


class InvalidInputError(LoopsError, ValueError):
    """An argument is wrong. Raised before anything is sent; the message names the argument, what was given, what is
    wanted.
    """


class UnsupportedError(LoopsError, NotImplementedError):
    """Something that this service, deployment or client does not have. The message says what to use instead."""


class ClientClosedError(LoopsError, RuntimeError):
    """The client was closed, before or during this call."""


class ConnectionFailedError(LoopsError, ConnectionError):
    """No answer could be had from the server: name resolution, TLS, refused, reset. The message names URL and cause."""


class ProtocolError(LoopsError):
    """The server answered with something that the protocol does not allow, for example a body that is not JSON."""


class RequestTimeoutError(LoopsError, TimeoutError):
    """One request or one wait ran out of its time. The operation itself, if any, goes on; its future can be asked
    again.
    """


class OperationTimeoutError(RequestTimeoutError):
    """A trainer operation did not finish within its deadline. Ask its future again, or resume it with
    `operation_id`.
    """


class WeightsNotReadyError(LoopsError, RuntimeError):
    """No sampler replica reported the wanted policy version in time, or one answered with older weights than were
    asked for.
    """


class DeploymentFailedError(LoopsError, RuntimeError):
    """A trainer or sampler is in a state from which it does not come up, for example ``BUILD_FAILED``."""


class StatusError(LoopsError):
    """The server answered with an error status; `status`, `code` and `request_id` hold what it said."""


class BadRequestError(StatusError, ValueError):
    """400, 413, 415 or 422: the server refused the input. The message is the server's."""


class AuthenticationError(StatusError):
    """401: the key is missing, unknown or expired."""


class PermissionDeniedError(StatusError):
    """403: the key is valid but may not do this."""


class NotFoundError(StatusError):
    """404: there is no such run, checkpoint or route."""


class UnknownRequestError(NotFoundError):
    """404 for an operation id: the trainer restarted or has dropped the result. Resubmitting with the same key is
    safe.
    """


class OverloadedError(StatusError):
    """429: too many requests; `retry_after` says when to come back."""


class ServerFailureError(StatusError):
    """5xx: the server failed. Retried by the client where repeating is safe; this is what is left after the last
    try.
    """


class ServerShutdownError(ServerFailureError):
    """503: the server is shutting down or not ready, also after bounded retries."""


class RemoteOpError(LoopsError, RuntimeError):
    """The operation was accepted and then failed on the trainer.

    Attributes:
        error_class: the name of the class of the error on the trainer, when it told it.
        fields: those of `LoopsError`.
    """

    def __init__(self, message: str, error_class: str | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.error_class = error_class

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.error_class}: {text}" if self.error_class else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_remote, (type(self), self.message, self.error_class, self._fields())


def _rebuild_remote(
    cls: type[RemoteOpError], message: str, error_class: str | None, fields: dict[str, Any]
) -> RemoteOpError:
    return cls(message, error_class, **fields)


class UnretrievedErrorWarning(RuntimeWarning):
    """An operation failed and nobody ever asked its future for the result."""


class UnshiftedTargetsWarning(UserWarning):
    """The `target_tokens` of a datum are its input: each position learns to repeat what it reads, not what follows.

    Who means that switches it off: ``warnings.simplefilter("ignore", UnshiftedTargetsWarning)``.
    """
