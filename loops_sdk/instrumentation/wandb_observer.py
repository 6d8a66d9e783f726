"""`WandbObserver`: the curves of one training client as one run of Weights & Biases.

It decides what is drawn and under which name. wandb is imported, called and waited for on the background thread only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loops_sdk.instrumentation.background import Background
from loops_sdk.instrumentation.events import Event, OperationMeasured
from loops_sdk.types import WandbConfig

if TYPE_CHECKING:
    from wandb import Run

__all__ = ["WandbObserver"]

#: The x-axis of everything. wandb's own step cannot go back, which training does when it loads a checkpoint.
_AXIS = "optimizer_step"
#: Steps whose late passes are still added to what was drawn.
_MOST_OPEN = 64


class WandbObserver:
    """An observer that draws the events of one client in a run of its own.

    One row per optimizer step: ``optimizer_step`` and ``policy_version`` (both count the step in), ``loss`` (the sum
    over the passes of the step), ``tokens``, ``tokens_per_second`` (from one step's result to the next),
    ``learning_rate``, ``forward_backward/<metric>`` (sums where the name ends in ``:sum``, else that of the last pass)
    and ``optim_step/<metric>``. Each `forward` is a row with ``forward/loss`` and ``forward/<metric>``, at the step
    that it saw the weights of.

    Args:
        config: project and name.
        about: what to write into the run's own configuration, for example ``base_model``.
    """

    def __init__(self, config: WandbConfig, **about: Any) -> None:
        self._background = Background("Weights & Biases", _Curves(config, about))

    def __call__(self, event: Event) -> None:
        if isinstance(event, OperationMeasured):
            self._background.put(event)

    def close(self) -> None:
        """Finish the run, and wait for that within a bound. What comes later is ignored."""
        self._background.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await self._background.aclose()


class _Step:
    """What is known of one step: the sum of its passes, and the row of its result once that has arrived."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.tokens = 0
        self.metrics: dict[str, float] = {}
        self.result: dict[str, float] | None = None
        self.seconds = 0.0

    def add(self, event: OperationMeasured) -> None:
        self.loss += event.loss or 0.0
        self.tokens += event.tokens or 0
        for name, value in event.metrics.items():
            before = self.metrics.get(name, 0.0) if name.endswith(":sum") else 0.0
            self.metrics[name] = before + value

    def row(self) -> dict[str, float]:
        speed = {"tokens_per_second": self.tokens / self.seconds} if self.seconds > 0 else {}
        passes = {"loss": self.loss, "tokens": self.tokens, **speed, **_under("forward_backward", self.metrics)}
        return {**(passes if self.tokens else {}), **(self.result or {})}


class _Curves:
    """Puts events together to rows. Events of one step may come in any order: a late pass draws its row again."""

    def __init__(self, config: WandbConfig, about: Mapping[str, Any]) -> None:
        self._config = config
        self._about = dict(about)
        self._run: Run | None = None
        self._steps: dict[int, _Step] = {}
        self._last_at: float | None = None

    def open(self) -> None:
        import wandb

        project, name = self._config.project, self._config.name
        self._run = wandb.init(project=project, name=name, config=self._about, reinit="create_new")
        self._run.define_metric("*", step_metric=_AXIS)

    def write(self, event: Event, at: float) -> None:
        if not isinstance(event, OperationMeasured):
            return
        if self._last_at is None:
            self._last_at = at - event.elapsed
        if event.operation == "forward":
            row = {_AXIS: event.policy_version or 0, "forward/loss": event.loss, **_under("forward", event.metrics)}
            self._draw(row)
            return
        step = self._steps.setdefault(event.steps, _Step())
        if event.operation == "forward_backward":
            step.add(event)
        else:
            self._finish(step, event, at)
        if step.result is not None:
            self._draw(step.row())

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _finish(self, step: _Step, event: OperationMeasured, at: float) -> None:
        version = event.steps + 1 if event.policy_version is None else event.policy_version
        rate = event.metrics["learning_rate"]
        step.result = {_AXIS: version, "policy_version": version, "learning_rate": rate}
        step.result |= _under("optim_step", event.metrics)
        step.seconds, self._last_at = at - (self._last_at or at), at
        for old in [number for number in self._steps if number <= event.steps - _MOST_OPEN]:
            del self._steps[old]

    def _draw(self, row: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.log(dict(row))


def _under(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in metrics.items()}
