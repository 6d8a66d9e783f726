"""`WandbObserver`: the curves of one training client as one run of Weights & Biases.

It decides what is drawn and under which name. wandb is imported, called and waited for on the background thread only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loops_sdk.instrumentation.background import Background
from loops_sdk.instrumentation.events import Event, MetricsLogged, OperationMeasured
from loops_sdk.instrumentation.steps import Step, Steps
from loops_sdk.types import WandbConfig

if TYPE_CHECKING:
    from wandb import Run

__all__ = ["WandbObserver"]

#: The x-axis of everything. wandb's own step cannot go back, which training does when it loads a checkpoint.
_AXIS = "optimizer_step"


class WandbObserver:
    """An observer that draws the events of one client in a run of its own.

    One row per optimizer step: ``optimizer_step`` and ``policy_version`` (both count the step in), ``loss`` (the sum
    over the passes of the step), ``tokens``, ``tokens_per_second`` (from one step's result to the next),
    ``learning_rate``, ``kl_sampler_trainer`` (see `OperationMeasured`), ``forward_backward/<metric>`` (sums where the
    name ends in ``:sum``, else that of the last pass), ``optim_step/<metric>``, and the numbers of
    `TrainingClient.log_metrics` under their own names. Each `forward` is a row with ``forward/loss`` and
    ``forward/<metric>``, at the step that it saw the weights of.

    Args:
        config: project and name.
        about: what to write into the run's own configuration, for example ``base_model``.
    """

    def __init__(self, config: WandbConfig, **about: Any) -> None:
        self._background = Background("Weights & Biases", _Curves(config, about))

    def __call__(self, event: Event) -> None:
        if isinstance(event, OperationMeasured | MetricsLogged):
            self._background.put(event)

    def close(self) -> None:
        """Finish the run, and wait for that within a bound. What comes later is ignored."""
        self._background.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await self._background.aclose()


class _Curves:
    """Puts events together to rows. Events of one step may come in any order: a late pass draws its row again."""

    def __init__(self, config: WandbConfig, about: Mapping[str, Any]) -> None:
        self._config = config
        self._about = dict(about)
        self._run: Run | None = None
        self._steps = Steps()

    def open(self) -> None:
        import wandb

        project, name = self._config.project, self._config.name
        self._run = wandb.init(project=project, name=name, config=self._about, reinit="create_new")
        self._run.define_metric("*", step_metric=_AXIS)

    def write(self, event: Event, at: float) -> None:
        step = self._steps.take(event, at)
        if step is not None:
            self._draw(_row(step))
        elif isinstance(event, OperationMeasured) and event.operation == "forward":
            seen = event.policy_version or 0
            self._draw({_AXIS: seen, "forward/loss": event.loss, **_under("forward", event.metrics)})
        elif isinstance(event, MetricsLogged) and event.step is not None:
            self._draw({_AXIS: event.step, **event.metrics})

    def close(self) -> None:
        if self._run is not None:
            if (left := self._steps.left()) is not None:
                number, step = left
                self._draw({_AXIS: number, **step.logged})
            self._run.finish()

    def _draw(self, row: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.log(dict(row))


def _row(step: Step) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if step.tokens:
        row = {"loss": step.loss, "tokens": step.tokens, **_under("forward_backward", step.metrics)}
    if step.tokens and step.seconds > 0:
        row["tokens_per_second"] = step.tokens / step.seconds
    if step.kl_sampler_trainer is not None:
        row["kl_sampler_trainer"] = step.kl_sampler_trainer
    row |= {_AXIS: step.version, "policy_version": step.version, "learning_rate": step.result["learning_rate"]}
    return row | _under("optim_step", step.result) | step.logged


def _under(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in metrics.items()}
