"""Errors under the names that scripts catch, made from those of `loops_sdk`, with all that these say."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import loops_sdk
from loops_sdk_sync.tinker import _exceptions as tinker
from loops_sdk_sync.tinker._exceptions import Request, Response, from_loops
from loops_sdk_sync.tinker.types import RequestErrorCategory

KNOWN: dict[str, Any] = {"operation": "forward_backward", "url": "https://a/b", "attempts": 3, "elapsed": 1.5}

BECOMES: list[tuple[loops_sdk.LoopsError, type[Exception]]] = [
    (loops_sdk.BadRequestError("no", status=400, **KNOWN), tinker.BadRequestError),
    (loops_sdk.BadRequestError("no", status=413, **KNOWN), tinker.APIStatusError),
    (loops_sdk.BadRequestError("no", status=422, **KNOWN), tinker.UnprocessableEntityError),
    (loops_sdk.AuthenticationError("no", status=401, **KNOWN), tinker.AuthenticationError),
    (loops_sdk.StatusError("no", status=402, **KNOWN), tinker.BillingError),
    (loops_sdk.PermissionDeniedError("no", status=403, **KNOWN), tinker.PermissionDeniedError),
    (loops_sdk.NotFoundError("no", status=404, **KNOWN), tinker.NotFoundError),
    (loops_sdk.UnknownRequestError("no", status=404, **KNOWN), tinker.NotFoundError),
    (loops_sdk.StatusError("no", status=409, **KNOWN), tinker.ConflictError),
    (loops_sdk.OverloadedError("no", status=429, **KNOWN), tinker.RateLimitError),
    (loops_sdk.ServerFailureError("no", status=500, **KNOWN), tinker.InternalServerError),
    (loops_sdk.ServerShutdownError("no", status=503, **KNOWN), tinker.InternalServerError),
    (loops_sdk.StatusError("no", status=418, **KNOWN), tinker.APIStatusError),
    (loops_sdk.ConnectionFailedError("no", **KNOWN), tinker.APIConnectionError),
    (loops_sdk.RequestTimeoutError("no", **KNOWN), tinker.APITimeoutError),
    (loops_sdk.OperationTimeoutError("no", **KNOWN), tinker.APITimeoutError),
    (loops_sdk.ProtocolError("no", **KNOWN), tinker.APIResponseValidationError),
    (loops_sdk.RemoteOpError("no", "ValueError", operation_id="op", **KNOWN), tinker.RequestFailedError),
    (loops_sdk.WeightsNotReadyError("no", **KNOWN), tinker.APIError),
    (loops_sdk.UnsupportedError("no", **KNOWN), tinker.NotOfferedError),
    (loops_sdk.DeploymentFailedError("no", **KNOWN), tinker.APIError),
]


@pytest.mark.parametrize(("error", "kind"), BECOMES, ids=lambda value: getattr(value, "__name__", type(value).__name__))
def test_every_error_has_its_class_and_keeps_its_text(error: loops_sdk.LoopsError, kind: type[Exception]) -> None:
    made: Any = from_loops(error)
    assert type(made) is kind
    assert isinstance(made, tinker.TinkerError)
    assert str(made) == str(error)
    assert made.message == (error.message if kind is tinker.NotOfferedError else str(error))
    assert "url=https://a/b" in str(made)
    if isinstance(made, tinker.APIError):
        assert made.request == Request("https://a/b")


@pytest.mark.parametrize(("error", "kind"), BECOMES, ids=lambda value: getattr(value, "__name__", type(value).__name__))
def test_every_error_pickles(error: loops_sdk.LoopsError, kind: type[Exception]) -> None:
    made: Any = from_loops(error)
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert type(twin) is kind
        assert str(twin) == str(made)
        assert vars(twin) == vars(made)


@pytest.mark.parametrize("kind", [loops_sdk.InvalidInputError, loops_sdk.ClientClosedError, tinker.NotOfferedError])
def test_what_is_the_callers_own_stays_as_it_is(kind: type[loops_sdk.LoopsError]) -> None:
    error = kind("no")
    assert from_loops(error) is error


def test_every_error_of_the_client_is_spoken_of_here() -> None:
    kinds = {type(error) for error, _ in BECOMES}
    stay = {loops_sdk.InvalidInputError, loops_sdk.ClientClosedError, loops_sdk.LoopsError}
    exported = {value for value in vars(loops_sdk).values() if isinstance(value, type)}
    assert {one for one in exported if issubclass(one, loops_sdk.LoopsError)} == kinds | stay


def test_a_status_error_holds_what_the_server_said() -> None:
    error = loops_sdk.OverloadedError("slow down", status=429, code="busy", request_id="r", retry_after=2.0, url="u")
    made = from_loops(error)
    assert isinstance(made, tinker.RateLimitError)
    assert made.status_code == 429
    assert made.body == {"message": "slow down", "code": "busy"}
    assert made.response == Response(429, Request("u"), {"x-request-id": "r", "retry-after": "2.0"})


def test_a_timeout_is_a_timeout_and_a_lost_connection() -> None:
    made = from_loops(loops_sdk.OperationTimeoutError("late"))
    assert isinstance(made, TimeoutError)
    assert isinstance(made, tinker.APIConnectionError)
    assert str(made) == "late"


@pytest.mark.parametrize(
    ("error_class", "category"),
    [
        ("ValueError", RequestErrorCategory.User),
        ("OutOfMemoryError", RequestErrorCategory.Server),
        (None, RequestErrorCategory.Unknown),
    ],
)
def test_a_failed_operation_says_whose_fault_it_is(error_class: str | None, category: RequestErrorCategory) -> None:
    made = from_loops(loops_sdk.RemoteOpError("no", error_class, operation_id="op-1"))
    assert isinstance(made, tinker.RequestFailedError)
    assert (made.request_id, made.category) == ("op-1", category)


def test_scripts_may_make_them() -> None:
    response = Response(404, Request("u"))
    assert tinker.NotFoundError("no", response=response, body=None).request == Request("u")
    assert tinker.APIStatusError("no", response, {"a": 1}).body == {"a": 1}
    assert str(tinker.APIConnectionError(request=Request("u"))) == "Connection error."
    assert str(tinker.APITimeoutError(Request("u"))) == "Request timed out."
    assert tinker.NotFoundError.status_code == 404
