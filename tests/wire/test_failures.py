"""How servers say no: every body in use, `Retry-After` in both forms, and which class a status becomes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from loops_sdk import errors
from loops_sdk._wire.failures import error_from_response, is_not_ready, remote_error, retry_after, status_of

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def said(status: int, body: Any, **headers: str) -> errors.StatusError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return error_from_response(status, CIMultiDict(headers), raw, now=NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.StatusError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, errors.StatusError),
        (409, errors.StatusError),
        (413, errors.BadRequestError),
        (415, errors.BadRequestError),
        (422, errors.BadRequestError),
        (429, errors.OverloadedError),
        (500, errors.ServerFailureError),
        (502, errors.ServerFailureError),
        (503, errors.ServerShutdownError),
        (504, errors.ServerFailureError),
        (599, errors.ServerFailureError),
        (302, errors.StatusError),
        (999, errors.ServerFailureError),
    ],
)
def test_a_status_and_its_class(status: int, kind: type[errors.StatusError]) -> None:
    error = said(status, {"detail": "no"})
    assert type(error) is kind
    assert error.status == status


FORMS: dict[str, tuple[Any, str, str | None]] = {
    "FastAPI": ({"detail": "bad loss"}, "bad loss", None),
    "FastAPI list": (
        {
            "detail": [
                {"loc": ["body", "data", 0], "msg": "too long"},
                {"loc": ["body"], "msg": "odd"},
                "plain",
                {"x": 1},
            ]
        },
        "body.data.0: too long; body: odd; plain; : {'x': 1}",
        None,
    ),
    "OpenAI": ({"error": {"message": "no model", "type": "NotFoundError", "code": 404}}, "no model", "404"),
    "OpenAI without code": (
        {"error": {"message": "no model", "type": "NotFoundError", "code": None}},
        "no model",
        "NotFoundError",
    ),
    "gateway": (
        {"error": "upstream timed out", "error_code": "timeout", "detail": None},
        "upstream timed out",
        "timeout",
    ),
    "gateway with detail": ({"error": "x", "error_code": "timeout", "detail": "replica 3"}, "replica 3", "timeout"),
    "control plane": (
        {"code": "VALIDATION_ERROR", "message": "no such project"},
        "no such project",
        "VALIDATION_ERROR",
    ),
    "error as code": ({"error": "not_found", "message": "no such run"}, "no such run", "not_found"),
    "error alone": ({"error": "not_found"}, "not_found", None),
    "text": (b"upstream connect error", "upstream connect error", None),
    "a list": ([1, 2], "[1, 2]", None),
    "nothing": (b"", "the server answered 418 without saying why", None),
    "nothing in it": ({}, "the server answered 418 without saying why", None),
    "null": ({"detail": None, "error": None}, "the server answered 418 without saying why", None),
    "html": (
        b"<html><body>Bad Gateway</body></html>",
        "the server answered 418 with a web page: is this the address of a Loops server?",
        None,
    ),
    "not text": (b"\xff\xfe", "\ufffd\ufffd", None),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_body(name: str) -> None:
    body, message, code = FORMS[name]
    error = said(418, body, **{"x-request-id": "req-7"})
    assert (error.message, error.code, error.request_id) == (message, code, "req-7")


@pytest.mark.parametrize("body", [b"x" * 10**6, {"detail": "x" * 10**6}, {"error": {"message": "x" * 10**6}}])
def test_a_page_long_answer_does_not_become_a_page_long_error(body: Any) -> None:
    assert len(str(said(500, body))) < 2200


def test_what_to_do_about_a_key() -> None:
    assert "set BASETEN_API_KEY or pass api_key=" in said(401, {"detail": "who?"}).message
    assert "training-management permission" in said(403, {"detail": "no"}).message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Sun, 99 Nov 1994 08:49:47 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, now=NOW) == seconds
    if value is not None:
        assert said(429, {}, **{"retry-after": value}).retry_after == seconds


@pytest.mark.parametrize("status", [409, 412, 425, 503])
def test_weights_that_are_not_there_yet(status: int) -> None:
    assert is_not_ready(said(status, {"error": {"message": "policy Version 3 is not loaded"}}))
    assert not is_not_ready(said(status, {"error": {"message": "shutting down"}}))
    assert not is_not_ready(said(500, {"error": {"message": "version mismatch"}}))


@pytest.mark.parametrize(
    ("reply", "message", "kind"),
    [
        ({"error": "no gradient", "error_class": "RuntimeError"}, "no gradient", "RuntimeError"),
        ({"error": {"message": "no gradient", "error_class": "RuntimeError"}}, "no gradient", "RuntimeError"),
        ({"error": {"message": "no gradient", "type": "RuntimeError"}}, "no gradient", "RuntimeError"),
        ({"error": {"message": "m", "type": "Inner"}, "error_class": "Outer"}, "m", "Outer"),
        ({"error": "no gradient"}, "no gradient", None),
        ({}, "the operation failed on the trainer, which gave no reason", None),
        ({"error": {}}, "the operation failed on the trainer, which gave no reason", None),
        ({"error": 5, "error_class": 7}, "5", "7"),
    ],
)
def test_a_failed_operation_in_all_forms(reply: dict[str, Any], message: str, kind: str | None) -> None:
    error = remote_error(reply)
    assert (error.message, error.error_class) == (message, kind)


def test_the_servers_direction() -> None:
    assert status_of(errors.NotFoundError("x", status=404)) == 404
    assert status_of(errors.InvalidInputError("x")) == 422
    assert status_of(errors.ClientClosedError("x")) == 503
    assert status_of(errors.LoopsError("x")) == 500


@pytest.mark.parametrize("loc", [5, None, "body", {"a": 1}, True])
def test_a_place_of_another_kind(loc: Any) -> None:
    assert said(422, {"detail": [{"loc": loc, "msg": "no"}]}).message == f"{loc}: no"


def test_what_an_error_says_can_be_printed_whatever_came() -> None:
    error = said(500, b"\xff\xfe", **{"x-request-id": "r\udcff" + "x" * 9000})
    assert str(error).encode()
    assert str(error.request_id).startswith("r?xxx")
    assert len(str(error)) < 5000


def test_a_failure_of_an_operation_is_cut_where_it_gets_long() -> None:
    error = remote_error({"error": {"message": ["x" * 10**6], "type": "y" * 10**6}})
    assert len(str(error)) < 5000
