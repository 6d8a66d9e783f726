"""When to try again: pure decisions from attempt, error, time and budget."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from loops_sdk._wire.failures import is_not_ready
from loops_sdk.errors import (
    ConnectionFailedError,
    LoopsError,
    OverloadedError,
    RequestTimeoutError,
    ServerFailureError,
    StatusError,
)

#: Codes of connection failures that trying again does not mend: a name that does not resolve, a certificate that is
#: wrong.
FINAL_CODES = frozenset({"dns", "tls"})


@attrs.frozen
class Budget:
    """How long to keep trying: at most `attempts` requests, none started after `deadline` (on the caller's clock)."""

    attempts: int
    deadline: float


@attrs.frozen
class Backoff:
    """Exponential back-off with full jitter: a random wait up to ``first * 2**n`` seconds, capped, never quite zero."""

    first: float = 0.5
    cap: float = 20.0

    def delay(self, failures: int, draw: float) -> float:
        """Seconds to wait after `failures` failures in a row; `draw` is uniform in [0, 1)."""
        ceiling: float = min(self.cap, self.first * 2 ** min(failures - 1, 30))
        return ceiling * (0.1 + 0.9 * draw)


@attrs.frozen
class Wait:
    """Try again after this many seconds."""

    seconds: float


@attrs.frozen
class GiveUp:
    """Raise the error. `why` is ``"final"``, ``"attempts"`` or ``"deadline"``."""

    why: str


def is_transient(error: LoopsError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ConnectionFailedError):
        return error.code not in FINAL_CODES
    if isinstance(error, StatusError) and (error.status == 408 or is_not_ready(error)):
        return True
    return isinstance(error, RequestTimeoutError | OverloadedError | ServerFailureError) and error.status != 501


def decide(
    attempt: int, error: LoopsError, *, now: float, budget: Budget, backoff: Backoff, draw: Callable[[], float]
) -> Wait | GiveUp:
    """What to do after attempt number `attempt` (the first is 1) ended in `error`."""
    if not is_transient(error):
        return GiveUp("final")
    if attempt >= budget.attempts:
        return GiveUp("attempts")
    seconds = max(backoff.delay(attempt, draw()), error.retry_after or 0.0)
    return Wait(seconds) if now + seconds < budget.deadline else GiveUp("deadline")
