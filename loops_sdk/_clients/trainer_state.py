"""What the results of operations say of a trainer's state: policy version, rank, what was published last."""

from __future__ import annotations

import math
from itertools import count
from typing import Generic, TypeVar

import attrs

from loops_sdk.types import LoadWeightsResponse, OptimStepResponse, SaveWeightsResponse

T = TypeVar("T")


@attrs.define(eq=False)
class _Latest(Generic[T]):
    """A later call's word stands, for results overtake each other."""

    value: T
    call: int = -1

    def hear(self, call: int, value: T) -> None:
        if call > self.call:
            self.call, self.value = call, value


class TrainerState:
    """The trainer as last heard of. Every result is told with the number that its call was given."""

    def __init__(self, lora_rank: int) -> None:
        self._calls = count()
        self._version = _Latest[int | None](None)
        self._rank = _Latest(lora_rank)
        self._published = _Latest[SaveWeightsResponse | None](None)

    @property
    def version(self) -> int | None:
        """Number of optimizer steps; `None` when that is not known."""
        return self._version.value

    @property
    def lora_rank(self) -> int:
        """Rank of the adapter."""
        return self._rank.value

    @property
    def published(self) -> SaveWeightsResponse | None:
        """The last save that the paired sampler follows."""
        return self._published.value

    def call(self) -> int:
        """A number for a call that is made now."""
        return next(self._calls)

    def asked(self, version: int) -> None:
        """The trainer was asked for its version and answered."""
        self._version.value = version

    def stepped(self, call: int, response: OptimStepResponse) -> None:
        """An optimizer step was taken."""
        step = response.metrics.get("step", math.nan)
        if math.isfinite(step):
            self._version.hear(call, int(step))

    def loaded(self, call: int, response: LoadWeightsResponse) -> None:
        """A checkpoint was loaded."""
        self._version.hear(call, response.policy_version)

    def initialised(self, call: int, lora_rank: int) -> None:
        """The trainer started over."""
        self._version.hear(call, 0)
        self._rank.hear(call, lora_rank)

    def saved(self, call: int, response: SaveWeightsResponse) -> None:
        """Weights were published."""
        self._published.hear(call, response)
