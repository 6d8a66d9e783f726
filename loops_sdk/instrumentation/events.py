"""The events. Fields are plain strings and numbers; no event ever holds a key, a token or a weight."""

from __future__ import annotations

import attrs

__all__ = ["Event", "OperationFinished", "OperationSubmitted", "RequestRetried", "SampleFinished"]


@attrs.frozen
class Event:
    """Something that happened during the call `operation`."""

    operation: str


@attrs.frozen
class OperationSubmitted(Event):
    """The trainer accepted an operation, `elapsed` seconds after the call. The ids are what resuming needs."""

    operation_id: str
    idempotency_key: str
    url: str
    elapsed: float


@attrs.frozen
class OperationFinished(Event):
    """The result of an operation arrived, `elapsed` seconds after it was accepted. `error` is `None` when it went
    well.
    """

    operation_id: str
    elapsed: float
    error: str | None = None


@attrs.frozen
class RequestRetried(Event):
    """Attempt number `attempt` failed; the next follows after `wait` seconds."""

    url: str
    attempt: int
    wait: float
    error: str


@attrs.frozen
class SampleFinished(Event):
    """A sample arrived after `elapsed` seconds with `tokens` new tokens in all its sequences."""

    elapsed: float
    tokens: int
    policy_version: int | None = None
