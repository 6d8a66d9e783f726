"""The numbers in results, told to observers with their place on the axis of optimizer steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from loops_sdk._clients.comparing import Comparison
from loops_sdk._clients.passes import tokens_in
from loops_sdk._clients.trainer_state import TrainerState
from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation import Emit, MetricsLogged, OperationMeasured, tell
from loops_sdk.instrumentation.metrics import RESERVED
from loops_sdk.instrumentation.wandb_observer import WandbObserver
from loops_sdk.types import Datum, ForwardBackwardOutput
from loops_sdk.types._checks import as_number, check_int, check_text, shown

#: Called with what a result tells, as the fields of `OperationMeasured`.
_Measure: TypeAlias = Callable[..., None]


class Meter:
    """Counts the steps that were called, and measures each call from its beginning to its result.

    Args:
        draws_curves: whether somebody wants to have the policies compared.
    """

    def __init__(self, emit: Emit, run_id: str | None, state: TrainerState, *, draws_curves: bool = False) -> None:
        self.emit = emit
        self._run_id = run_id
        self._state = state
        self._draws_curves = draws_curves
        self._steps_called = 0
        self._recorder: WandbObserver | None = None

    def record(self, recorder: WandbObserver) -> None:
        """Have curves drawn of everything measured from now on, until `aclose`."""
        self._recorder = recorder
        self._draws_curves = True
        self.emit = tell((self.emit, recorder))

    async def aclose(self) -> None:
        """Finish the curves."""
        if self._recorder is not None:
            await self._recorder.aclose()

    def of_pass(
        self, operation: str, data: Sequence[Datum], loss_fn: str | None = None
    ) -> Callable[[ForwardBackwardOutput], ForwardBackwardOutput]:
        """What to call with the result of a pass over `data` that is called now; it gives it back.

        Args:
            loss_fn: `None` for a loss of the user's own, of which nobody knows what it is a sum of.
        """
        measure, tokens = self._begin(operation), tokens_in(data)
        comparison = Comparison(data, loss_fn) if self._draws_curves and loss_fn is not None else None

        def passed(output: ForwardBackwardOutput) -> ForwardBackwardOutput:
            told = None if loss_fn is None else output.metrics.get("loss_tokens:sum")
            compared = (None, None) if comparison is None else comparison.of(output)
            positions = compared[0] if told is None or not math.isfinite(told) else int(told)
            measure(output.metrics, self._state.version, output.loss, tokens, positions, compared[1])
            return output

        return passed

    def of_step(self) -> Callable[[Mapping[str, float]], None]:
        """What to call with the metrics of an optimizer step that is called now."""
        measure = self._begin("optim_step")
        self._steps_called += 1

        def stepped(metrics: Mapping[str, float]) -> None:
            step = metrics.get("step", math.nan)  # the trainer may have gone on since, and results overtake each other
            measure(metrics, int(step) if math.isfinite(step) else self._state.version)

        return stepped

    def log(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Tell numbers of the user's own.

        Raises:
            InvalidInputError: they are none, or a name is taken.
        """
        if not isinstance(metrics, Mapping):
            raise InvalidInputError(f"metrics: expected numbers by name, got {shown(metrics)}")
        for name in metrics:
            check_text("metrics: a name", name, most=255)
            if name in RESERVED:
                text = f"metrics[{name!r}]: this name says which step a row is of; leave it out, or log another name"
                raise InvalidInputError(text)
        if step is not None:
            check_int("step", step, low=0)
        numbers = {name: as_number(f"metrics[{name!r}]", value) for name, value in metrics.items()}
        self.emit(MetricsLogged("log_metrics", self._run_id, self._steps_called, numbers, step))

    def _begin(self, operation: str) -> _Measure:
        called_at, steps = time.monotonic(), self._steps_called

        def measure(metrics: Mapping[str, float], version: int | None, *numbers: Any) -> None:
            elapsed = time.monotonic() - called_at
            self.emit(OperationMeasured(operation, self._run_id, steps, elapsed, dict(metrics), version, *numbers))

        return measure
