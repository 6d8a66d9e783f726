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
    """Something that happened.

    Attributes:
        operation: name of the call during which it did, for example ``"forward_backward"``.
    """

    operation: str


@attrs.frozen
class KeepAliveFailed(Event):
    """An idle trainer did not answer when it was asked for its health, so it may be scaled to zero. Told once, until it
    has answered again; training goes on if it can.

    Attributes:
        url: address of the trainer.
        error: what was wrong.
    """

    url: str
    error: str


@attrs.frozen
class OperationSubmitted(Event):
    """The trainer accepted an operation. The ids are what resuming needs.

    Attributes:
        operation_id: the trainer's id of it.
        idempotency_key: the key under which it was submitted.
        url: the address that it was sent to.
        elapsed: seconds from the call to the acceptance.
    """

    operation_id: str
    idempotency_key: str
    url: str
    elapsed: float


@attrs.frozen
class OperationFinished(Event):
    """The result of an operation arrived.

    Attributes:
        operation_id: the trainer's id of it.
        elapsed: seconds from its acceptance to the result.
        error: what went wrong, as text; `None` when it went well.
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
    """A request failed and is sent again.

    Attributes:
        url: its address.
        attempt: number of the attempt that failed, counted from 1.
        wait: seconds until the next.
        error: why it failed, as text.
    """

    url: str
    attempt: int
    wait: float
    error: str


@attrs.frozen
class SampleFinished(Event):
    """A sample arrived.

    Attributes:
        elapsed: seconds from the call to the result.
        tokens: number of new tokens in all its sequences.
        policy_version: number of optimizer steps in the weights that sampled; `None` when the sampler does not say.
        under_way: how many other samples of the same client are still to come, those that wait for a connection among
            them.
    """

    elapsed: float
    tokens: int
    policy_version: int | None = None
    under_way: int = 0
