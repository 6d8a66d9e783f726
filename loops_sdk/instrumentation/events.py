"""The events. Fields are plain strings and numbers; no event ever holds a key, a token or a weight."""

from __future__ import annotations

import attrs

__all__ = [
    "Event",
    "KeepAliveFailed",
    "MetricsLogged",
    "OperationFinished",
    "OperationMeasured",
    "OperationSubmitted",
    "RequestRetried",
    "SampleFailed",
    "SampleFinished",
    "SubmissionFailed",
    "WaitAdvanced",
    "WaitFinished",
    "WaitStarted",
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
class MetricsLogged(Event):
    """Numbers of the user's own, told by `TrainingClient.log_metrics` when it is called, in the thread that calls it.

    Attributes:
        run_id: the run of the client, if it has one.
        steps: how many times `optim_step` had been called on the client: the numbers belong to the step after those,
            as in `OperationMeasured`, unless `step` says otherwise.
        metrics: the numbers by name.
        step: the step that they belong to, as a policy version, where the user named it.
    """

    run_id: str | None
    steps: int
    metrics: dict[str, float]
    step: int | None = None


@attrs.frozen
class OperationSubmitted(Event):
    """The trainer accepted an operation. The ids are what resuming needs.

    Attributes:
        operation_id: the trainer's id of it.
        idempotency_key: the key under which it was submitted.
        url: the address that it was sent to.
        elapsed: seconds from the call to the acceptance.
        run_id: the run of the client, if it has one.
    """

    operation_id: str
    idempotency_key: str
    url: str
    elapsed: float
    run_id: str | None = None


@attrs.frozen
class SubmissionFailed(Event):
    """The trainer did not accept an operation, or the call was withdrawn before it was sent. Nothing of it follows.

    Attributes:
        idempotency_key: the key under which it was to be submitted.
        url: the address that it was for.
        elapsed: seconds from the call to the failure.
        error: what went wrong, as text.
        error_type: name of the exception's class; ``"CancelledError"`` for a call that was withdrawn.
        run_id: the run of the client, if it has one.
    """

    idempotency_key: str
    url: str
    elapsed: float
    error: str
    error_type: str
    run_id: str | None = None


@attrs.frozen
class OperationFinished(Event):
    """The result of an operation arrived, or will not be asked for any longer.

    Attributes:
        operation_id: the trainer's id of it.
        elapsed: seconds from its acceptance to the result.
        error: what went wrong, as text; `None` when it went well.
        error_type: name of the exception's class; `None` when it went well.
        run_id: the run of the client, if it has one.
    """

    operation_id: str
    elapsed: float
    error: str | None = None
    error_type: str | None = None
    run_id: str | None = None


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
        loss_tokens: number of positions that carry loss, where that is known; `None` for `optim_step`, and for a loss
            of the user's own, which need not be a sum over positions.
        kl_sampler_trainer: for a policy loss, an estimate of KL(q || p) in nats per token, q being the policy that
            sampled and p the trainer's: the mean of log q - log p over the positions with loss (the estimator k1 of
            http://joschu.net/blog/kl-approx.html). Worked out only when an observer has the attribute
            ``draws_curves = True``, as `MetricsObserver` has; else `None`.
    """

    run_id: str | None
    steps: int
    elapsed: float
    metrics: dict[str, float]
    policy_version: int | None
    loss: float | None = None
    tokens: int | None = None
    loss_tokens: int | None = None
    kl_sampler_trainer: float | None = None


@attrs.frozen
class RequestRetried(Event):
    """A request failed and is sent again.

    Attributes:
        url: its address.
        attempt: number of the attempt that failed, counted from 1.
        wait: seconds until the next.
        error: why it failed, as text.
        operation_id: the trainer's id of the operation whose result was asked for; `None` for other requests.
        run_id: the run of the client, if it has one.
    """

    url: str
    attempt: int
    wait: float
    error: str
    operation_id: str | None = None
    run_id: str | None = None


@attrs.frozen
class SampleFinished(Event):
    """A sample arrived; `operation` is ``"compute_logprobs"`` where only the prompt was asked about.

    Attributes:
        elapsed: seconds from the call to the result.
        tokens: number of new tokens in all its sequences.
        policy_version: number of optimizer steps in the weights that sampled; `None` when the sampler does not say.
        under_way: how many other samples of the same client are still to come, those that wait for a connection among
            them.
        run_id: the run whose weights the client samples from, when it was made by a training client.
    """

    elapsed: float
    tokens: int
    policy_version: int | None = None
    under_way: int = 0
    run_id: str | None = None


@attrs.frozen
class SampleFailed(Event):
    """A sample did not arrive, or its caller stopped waiting for it.

    Attributes:
        elapsed: seconds from the call to the failure.
        error: what went wrong, as text.
        error_type: name of the exception's class; ``"CancelledError"`` for one that nobody waits for any more.
        under_way: how many other samples of the same client are still to come.
        run_id: as in `SampleFinished`.
    """

    elapsed: float
    error: str
    error_type: str
    under_way: int = 0
    run_id: str | None = None


@attrs.frozen
class WaitStarted(Event):
    """A client waits for something that is neither an operation of the trainer nor a sample: that a trainer or a
    sampler is made or comes up, that weights are published, that files arrive.

    Attributes:
        wait: number of the wait, which no other of this process has.
        subject: what is waited for, for people: ``"trainer of run k4q95w5"``.
        run_id: the run that it is about, if that is known.
    """

    wait: int
    subject: str
    run_id: str | None = None


@attrs.frozen
class WaitAdvanced(Event):
    """What is waited for has come further. Told when its state changes, and a few times per second of what is counted.

    Attributes:
        wait: number of the wait.
        state: how far it has come, in the words of who knows: ``"LOADING_MODEL"``; `None` when that is not told.
        done, total: bytes that are there and bytes that there will be; `None` where nothing is counted.
        run_id: as in `WaitStarted`.
    """

    wait: int
    state: str | None = None
    done: int | None = None
    total: int | None = None
    run_id: str | None = None


@attrs.frozen
class WaitFinished(Event):
    """A wait is over.

    Attributes:
        wait: number of the wait.
        elapsed: seconds that it took.
        error: why it was in vain, as text; `None` when it was not.
        error_type: name of the exception's class; ``"CancelledError"`` when the caller stopped waiting; `None` when all
            went well.
        run_id: as in `WaitStarted`.
    """

    wait: int
    elapsed: float
    error: str | None = None
    error_type: str | None = None
    run_id: str | None = None
