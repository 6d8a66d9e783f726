"""Decisions to try again: waits are bounded and never zero, budgets are kept, what cannot pass is not tried again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk import errors
from loops_sdk._wire.retrying import Backoff, Budget, GiveUp, Wait, decide, is_transient

draws = st.floats(0, 1, exclude_max=True)
TRANSIENT = [
    errors.ConnectionFailedError("x", code="unreachable"),
    errors.ConnectionFailedError("x", code="reset"),
    errors.RequestTimeoutError("x"),
    errors.StatusError("x", status=408),
    errors.OverloadedError("x", status=429),
    errors.ServerFailureError("x", status=500),
    errors.ServerFailureError("x", status=502),
    errors.ServerShutdownError("x", status=503),
    errors.StatusError("version 3 is not loaded", status=409),
    errors.StatusError("version 3 is not loaded", status=425),
]
FINAL = [
    errors.ConnectionFailedError("x", code="dns"),
    errors.ConnectionFailedError("x", code="tls"),
    errors.BadRequestError("x", status=400),
    errors.AuthenticationError("x", status=401),
    errors.NotFoundError("x", status=404),
    errors.UnknownRequestError("x", status=404),
    errors.StatusError("x", status=409),
    errors.StatusError("x", status=302),
    errors.ServerFailureError("x", status=501),
    errors.RemoteOpError("x"),
    errors.ProtocolError("x"),
    errors.ClientClosedError("x"),
    errors.InvalidInputError("x"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_may_pass(error: errors.LoopsError) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_does_not_pass(error: errors.LoopsError) -> None:
    assert not is_transient(error)
    budget = Budget(100, 1e9)
    assert decide(1, error, now=0, budget=budget, backoff=Backoff(), draw=lambda: 0.5) == GiveUp("final")


@given(
    error=st.sampled_from(TRANSIENT),
    draw=st.lists(draws, min_size=50, max_size=50),
    attempts=st.integers(1, 50),
    total=st.floats(0.01, 3600),
    retry_after=st.none() | st.floats(0, 1e6),
)
def test_the_budget_is_kept_and_no_wait_is_zero(
    error: errors.LoopsError, draw: list[float], attempts: int, total: float, retry_after: float | None
) -> None:
    error = type(error)(error.message, status=error.status, code=error.code, retry_after=retry_after)
    now, budget, luck = 100.0, Budget(attempts, 100.0 + total), iter(draw)
    for attempt in itertools.count(1):
        verdict = decide(attempt, error, now=now, budget=budget, backoff=Backoff(), draw=luck.__next__)
        if isinstance(verdict, GiveUp):
            break
        assert verdict.seconds > 0
        assert verdict.seconds >= (retry_after or 0.0)
        assert verdict.seconds <= max(20.0, retry_after or 0.0)
        now += verdict.seconds
        assert now < budget.deadline
    assert attempt <= attempts
    assert verdict.why == ("attempts" if attempt == attempts else "deadline")


@given(failures=st.integers(1, 10**6), draw=draws, first=st.floats(0.01, 5), cap=st.floats(5, 60))
def test_a_pause_is_a_random_part_of_a_growing_ceiling(failures: int, draw: float, first: float, cap: float) -> None:
    backoff = Backoff(first, cap)
    ceiling = min(cap, first * 2.0 ** min(failures - 1, 1000))
    assert 0.1 * ceiling * 0.999 <= backoff.delay(failures, draw) <= ceiling


def test_a_wait_that_would_end_after_the_deadline_is_not_begun() -> None:
    error = errors.OverloadedError("x", status=429, retry_after=10.0)
    assert decide(1, error, now=0, budget=Budget(9, 10.0), backoff=Backoff(), draw=lambda: 0.5) == GiveUp("deadline")
    assert decide(1, error, now=0, budget=Budget(9, 10.1), backoff=Backoff(), draw=lambda: 0.5) == Wait(10.0)
