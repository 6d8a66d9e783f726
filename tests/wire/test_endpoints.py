"""The table of calls, and the key of a logical operation."""

from __future__ import annotations

import pytest

from loops_sdk._wire import endpoints
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk._wire.idempotency import fingerprint, new_key

TABLE = [value for value in vars(endpoints).values() if isinstance(value, Endpoint)]


def test_names_and_request_lines_are_unique() -> None:
    assert len({endpoint.name for endpoint in TABLE}) == len(TABLE)
    assert len({(endpoint.method, endpoint.path) for endpoint in TABLE}) == len(TABLE)


def test_what_may_be_sent_twice() -> None:
    assert {endpoint.name for endpoint in TABLE if not endpoint.repeatable} == {
        "create_run",
        "create_trainer",
        "create_sampler",
    }
    assert all(endpoint.repeatable for endpoint in endpoints.OPERATIONS)
    assert all(endpoint.method == "POST" and endpoint.body for endpoint in endpoints.OPERATIONS)


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ("op-1", "op-1"),
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("a?b#c", "a%3Fb%23c"),
        ("ä", "%C3%A4"),
        ("a%2f", "a%252f"),
    ],
)
def test_parts_of_an_address_cannot_leave_their_place(part: str, path: str) -> None:
    assert endpoints.RETRIEVE.url("http://trainer/base/", operation_id=part) == f"http://trainer/base/operations/{path}"


def test_keys_are_fresh_uuids() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 32 and int(key, 16) for key in keys)


def test_a_fingerprint_is_of_path_and_body() -> None:
    assert fingerprint("/optim_step", b"{}") == fingerprint("/optim_step", b"{}")
    different = {fingerprint(path, body) for path in ("/optim_step", "/forward", "") for body in (b"", b"{}", b"{ }")}
    assert len(different) == 9
    assert all(len(one) == 16 for one in different)
