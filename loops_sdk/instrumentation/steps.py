"""From events to steps of training: passes added up, numbers of the user, samples between steps, and the step's result.

It decides what belongs to which step, in whatever order events come, and what is not known. What is drawn of it, and
where, is its users' business.
"""

from __future__ import annotations

import math

import attrs

from loops_sdk.instrumentation.events import Event, MetricsLogged, OperationMeasured, SampleFinished

__all__ = ["Samples", "Step", "Steps"]

#: Steps whose late passes are still added to what was drawn.
_MOST_OPEN = 64


@attrs.define
class Samples:
    """The samples that arrived between two results of `optim_step`."""

    tokens: int = 0
    count: int = 0
    versions: list[int] = attrs.field(factory=list)  #: of the policies that sampled, where samplers told them

    def add(self, event: SampleFinished) -> None:
        """One more."""
        self.tokens += event.tokens
        self.count += 1
        if event.policy_version is not None:
            self.versions.append(event.policy_version)


@attrs.define
class Step:
    """What is known of one step of training; everything after `version` once its result has arrived."""

    loss: float = 0.0
    tokens: int = 0
    loss_tokens: int | None = 0
    metrics: dict[str, float] = attrs.field(factory=dict)  #: of the passes: sums where the name ends in ``:sum``
    logged: dict[str, float] = attrs.field(factory=dict)  #: by the user, who has the last word
    logged_at: float = 0.0
    version: int | None = None
    told: bool = False  #: whether the trainer told the version, or it was counted here
    result: dict[str, float] = attrs.field(factory=dict)
    over_at: float = math.inf
    seconds: float = 0.0  #: from the result of the step before
    samples: Samples = attrs.field(factory=Samples)
    _divergence: float | None = None
    _compared: int = 0

    def add(self, event: OperationMeasured) -> None:
        """One more pass."""
        self.loss += event.loss or 0.0
        self.tokens += event.tokens or 0
        known = self.loss_tokens is not None and event.loss_tokens is not None
        self.loss_tokens = (self.loss_tokens or 0) + (event.loss_tokens or 0) if known else None
        for name, value in event.metrics.items():
            before = self.metrics.get(name, 0.0) if name.endswith(":sum") else 0.0
            self.metrics[name] = before + value
        if event.kl_sampler_trainer is not None and event.loss_tokens:
            self._divergence = (self._divergence or 0.0) + event.kl_sampler_trainer * event.loss_tokens
            self._compared += event.loss_tokens

    @property
    def mean_loss(self) -> float:
        """The loss per position that carries any, where that is known; else the sum."""
        return self.loss / self.loss_tokens if self.loss_tokens else self.loss

    @property
    def kl_sampler_trainer(self) -> float | None:
        """As `OperationMeasured` tells it, over all passes that were compared."""
        return None if self._divergence is None else self._divergence / self._compared

    @property
    def staleness(self) -> float | None:
        """By how many steps the policies that sampled were behind the trainer, on average, when this step began."""
        if self.version is None or not (self.told and self.samples.versions):
            return None
        return self.version - 1 - sum(self.samples.versions) / len(self.samples.versions)


class Steps:
    """The steps of one run."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._samples = Samples()
        self._last_at: float | None = None
        self._next = 0  #: number of the step after the last one that has come
        self._version = 0

    def take(self, event: Event, at: float) -> Step | None:
        """Hear of an event, and say which step is to be drawn, perhaps again; `None` when none is."""
        if isinstance(event, SampleFinished):
            self._began(at - event.elapsed)
            if event.operation == "sample":
                self._samples.add(event)
            return None
        if isinstance(event, OperationMeasured):
            self._began(at - event.elapsed)
            return None if event.operation == "forward" else self._measured(event, at)
        if isinstance(event, MetricsLogged) and event.step is None:
            step = self._at(event.steps, at)
            step.logged, step.logged_at = step.logged | event.metrics, at
        return None

    def left(self) -> tuple[int, Step] | None:
        """A step that has not come, if the user has logged something for it, and the number that it would have."""
        step = self._steps.get(self._next)
        if step is None or step.version is not None or not step.logged:
            return None
        return self._version + 1, step

    def _began(self, at: float) -> None:
        self._last_at = at if self._last_at is None else self._last_at

    def _measured(self, event: OperationMeasured, at: float) -> Step | None:
        step = self._at(event.steps, at - event.elapsed)
        if event.operation == "optim_step":
            self._finish(step, event, at)
        else:
            step.add(event)
        return None if step.version is None else step

    def _at(self, steps: int, called_at: float) -> Step:
        """The step that a call made then is part of. One that was over by then is that of an earlier client."""
        step = self._steps.get(steps)
        if step is None or called_at > step.over_at:
            self._next = min(self._next, steps)
            step = self._steps[steps] = Step()
        return step

    def _finish(self, step: Step, event: OperationMeasured, at: float) -> None:
        step.told = event.policy_version is not None
        step.version = event.steps + 1 if event.policy_version is None else event.policy_version
        step.result, step.over_at = dict(event.metrics), at
        step.seconds, self._last_at = at - (self._last_at or at), at
        step.samples, self._samples = self._samples, Samples()
        self._next, self._version = event.steps + 1, step.version
        for old in [number for number in self._steps if number <= event.steps - _MOST_OPEN]:
            del self._steps[old]
