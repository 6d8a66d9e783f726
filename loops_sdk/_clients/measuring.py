"""The numbers in results, told to observers with their place on the axis of optimizer steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from loops_sdk._clients.trainer_state import TrainerState
from loops_sdk.instrumentation import Emit, OperationMeasured, tell
from loops_sdk.instrumentation.wandb_observer import WandbObserver
from loops_sdk.types import ForwardBackwardOutput


class Meter:
    """Counts the steps that were called, and measures each call from its beginning to its result."""

    def __init__(self, emit: Emit, run_id: str | None, state: TrainerState) -> None:
        self.emit = emit
        self._run_id = run_id
        self._state = state
        self._steps_called = 0
        self._recorder: WandbObserver | None = None

    def record(self, recorder: WandbObserver) -> None:
        """Have curves drawn of everything measured from now on, until `aclose`."""
        self._recorder = recorder
        self.emit = tell((self.emit, recorder))

    async def aclose(self) -> None:
        """Finish the curves."""
        if self._recorder is not None:
            await self._recorder.aclose()

    def of_pass(self, operation: str, tokens: int) -> Callable[[ForwardBackwardOutput], ForwardBackwardOutput]:
        """What to call with the result of a pass that is called now; it gives it back."""
        measure = self._begin(operation)

        def passed(output: ForwardBackwardOutput) -> ForwardBackwardOutput:
            measure(output.metrics, output.loss, tokens)
            return output

        return passed

    def of_step(self) -> Callable[[Mapping[str, float]], None]:
        """What to call with the metrics of an optimizer step that is called now."""
        measure = self._begin("optim_step")
        self._steps_called += 1
        return measure

    def _begin(self, operation: str) -> Callable[..., None]:
        called_at, steps = time.monotonic(), self._steps_called

        def measure(metrics: Mapping[str, float], loss: float | None = None, tokens: int | None = None) -> None:
            elapsed, version = time.monotonic() - called_at, self._state.version
            self.emit(OperationMeasured(operation, self._run_id, steps, elapsed, dict(metrics), version, loss, tokens))

        return measure
