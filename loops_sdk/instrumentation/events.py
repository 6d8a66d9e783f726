"""The events. Fields are plain strings and numbers; no event ever holds a key, a token or a weight."""

from __future__ import annotations

import attrs

__all__ = [
    "Event",
    "KeepAliveFailed",
    "OperationFinished",
    "OperationMeasured",
    "OperationSubmitted",
    "RequestRetried",
    "SampleFinished",
]


@attrs.frozen
class Event:
    """Something that happened during the call `operation`."""

    operation: str


@attrs.frozen
class KeepAliveFailed(Event):
    """An idle trainer did not answer when it was asked for its health, so it may be scaled to zero. Told once, until it
    has answered again; training goes on if it can.
    """

    url: str
    error: str


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
class OperationMeasured(Event):
    """The numbers in the result of `forward`, `forward_backward` or `optim_step`, told when it arrives: what curves
    are drawn from.

    Results may overtake one another. `steps` says where one belongs: all passes of one value, and the `optim_step` of
    the same value, make one step of training.

    Attributes:
        run_id: the run of the client, if it has one.
        steps: how many times `optim_step` had been called on the client before this call.
        elapsed: seconds from the call to the result.
        metrics: as the trainer gave them; those of `optim_step` always with its ``learning_rate``.
        policy_version: number of optimizer steps as last heard from the trainer; after an `optim_step`, that step
            included. `None` before anything was heard.
        loss: the sum over all positions; `None` for `optim_step`.
        tokens: number of positions in the batch; `None` for `optim_step`.
    """

    run_id: str | None
    steps: int
    elapsed: float
    metrics: dict[str, float]
    policy_version: int | None
    loss: float | None = None
    tokens: int | None = None


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
