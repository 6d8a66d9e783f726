"""What is tried again, as scripts of the original say it."""

from __future__ import annotations

import pytest

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker._exceptions import APIConnectionError
from loops_sdk_sync.tinker.lib.retry_handler import RetryConfig


def test_it_can_be_compared_and_looked_up() -> None:
    assert RetryConfig() == RetryConfig()
    assert {RetryConfig(), RetryConfig(), RetryConfig(progress_timeout=1)} == {
        RetryConfig(),
        RetryConfig(progress_timeout=1),
    }


def test_lost_connections_are_tried_again() -> None:
    assert RetryConfig().retryable_exceptions == (TimeoutError, APIConnectionError)


@pytest.mark.parametrize("many", [0, -1])
def test_connections_are_some_or_without_limit(many: int) -> None:
    assert RetryConfig(max_connections=None).max_connections is None
    with pytest.raises(InvalidInputError, match=f"max_connections: expected a number >= 1 or None, got {many}"):
        RetryConfig(max_connections=many)
