"""The table of answers to ``GET /operations/{id}``, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict

from loops_sdk import errors
from loops_sdk._wire.codec import dumps
from loops_sdk._wire.retrieval import Failed, Finished, Retrieval, Running, Trouble, read_retrieval


def read(status: int, body: Any = b"", **headers: str) -> Retrieval:
    raw = body if isinstance(body, bytes) else dumps(body)
    return read_retrieval(status, CIMultiDict(headers), raw, now=0.0)


def test_done() -> None:
    assert read(200, {"status": "done", "result": {"loss": 1}}) == Finished({"loss": 1})
    assert read(200, {"status": "done"}) == Finished(None)


def test_error() -> None:
    found = read(200, {"status": "error", "error": "boom", "error_class": "ValueError"})
    assert isinstance(found, Failed)
    assert isinstance(found.error, errors.RemoteOpError)
    assert found.error.error_class == "ValueError"


@pytest.mark.parametrize("status", ["running", "pending", "queued", "no such word", "DONE", None, 5])
def test_any_other_status_is_still_running(status: Any) -> None:
    assert read(200, {"status": status}) == Running()


@pytest.mark.parametrize("body", [{}, {"result": 1}])
def test_no_status_is_still_running(body: Any) -> None:
    assert read(200, body) == Running()


def test_408_is_still_running_whatever_it_says() -> None:
    assert read(408, b"<html>timeout</html>") == Running()


def test_404_is_unknown() -> None:
    found = read(404, {"detail": "never heard of it"})
    assert isinstance(found, Failed)
    assert isinstance(found.error, errors.UnknownRequestError)
    assert found.error.status == 404
    assert "never heard of it" in found.error.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, errors.OverloadedError),
        (500, errors.ServerFailureError),
        (502, errors.ServerFailureError),
        (503, errors.ServerShutdownError),
        (504, errors.ServerFailureError),
    ],
)
def test_what_may_pass(status: int, kind: type[errors.LoopsError]) -> None:
    found = read(status, {"detail": "later"}, **{"retry-after": "3"})
    assert isinstance(found, Trouble)
    assert type(found.error) is kind
    assert found.error.retry_after == 3.0


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 410, 422, 501])
def test_what_does_not_pass(status: int) -> None:
    found = read(status, {"detail": "no"})
    assert isinstance(found, Failed)
    assert found.error.status == status


@pytest.mark.parametrize("body", [b"", b'{"status": "do', b"<html>"])
def test_a_garbled_answer_says_nothing_about_the_operation(body: bytes) -> None:
    assert isinstance(read(200, body), Trouble)


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"done"'])
def test_an_answer_of_another_kind_ends_it(body: bytes) -> None:
    found = read(200, body)
    assert isinstance(found, Failed)
    assert isinstance(found.error, errors.ProtocolError)
