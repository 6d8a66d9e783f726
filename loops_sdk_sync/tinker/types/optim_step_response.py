"""What `optim_step` gives back."""

from __future__ import annotations

from loops_sdk_sync.tinker.types._model import OpenModel

__all__ = ["OptimStepResponse"]


class OptimStepResponse(OpenModel):
    """The result of a step.

    Attributes:
        metrics: numbers by name.
    """

    metrics: dict[str, float] | None = None
