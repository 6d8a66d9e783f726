"""How scripts of the original say what is tried again. What is done of it, the clients decide."""

from __future__ import annotations

from dataclasses import dataclass

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker._exceptions import APIConnectionError

__all__ = ["RetryConfig"]


@dataclass
class RetryConfig:
    """What is tried again, and how patiently.

    Args:
        max_connections: most requests at once; `None` means no limit.
        progress_timeout: seconds without any progress after which calls fail.
        retry_delay_base: seconds before the first retry; each further one waits twice as long.
        retry_delay_max: most seconds before a retry.
        jitter_factor: by which share of it, 0 to 1, a delay is varied at random.
        enable_retry_logic: whether anything is tried again at all.
        enable_stuck_detection: whether `progress_timeout` applies.
        retryable_exceptions: what is tried again, besides answers that ask for it.

    Raises:
        InvalidInputError: `max_connections` is not positive.
    """

    max_connections: int | None = 1000
    progress_timeout: float = 7200
    retry_delay_base: float = 0.5
    retry_delay_max: float = 10.0
    jitter_factor: float = 0.25
    enable_retry_logic: bool = True
    enable_stuck_detection: bool = True
    retryable_exceptions: tuple[type[Exception], ...] = (TimeoutError, APIConnectionError)

    def __post_init__(self) -> None:
        if self.max_connections is not None and self.max_connections <= 0:
            raise InvalidInputError(f"max_connections: expected a number >= 1 or None, got {self.max_connections}")

    def __hash__(self) -> int:
        """By value: clients are kept by it."""
        return hash(tuple(vars(self).values()))
