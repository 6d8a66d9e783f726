"""Optimizers: which one a model is trained with, and the parameters of one step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, SupportsFloat, TypeAlias

import attrs

import loops_sdk
from loops_sdk_sync.tinker.types._model import StrictModel
from loops_sdk_sync.tinker.types._reading import refuse

__all__ = [
    "AdamOptimizerConfig",
    "AdamParams",
    "DimuonOptimizerConfig",
    "DimuonParams",
    "OptimParams",
    "OptimStepRequest",
    "OptimizerConfig",
]


class AdamOptimizerConfig(StrictModel):
    """AdamW, the optimizer of Loops.

    Args:
        type: ``"adamw"``.
    """

    type: Literal["adamw"] = "adamw"


class DimuonOptimizerConfig(StrictModel):
    """Dimuon. Loops does not have it: the clients refuse it.

    Args:
        type: ``"dimuon"``.
        version: version of these settings.
    """

    type: Literal["dimuon"] = "dimuon"
    version: Literal[1] = 1


OptimizerConfig: TypeAlias = AdamOptimizerConfig | DimuonOptimizerConfig


class AdamParams(StrictModel, loops_sdk.AdamParams):
    """Parameters of one AdamW step, which are also those of `loops_sdk`: either kind of client takes them.

    Args:
        learning_rate: step size, >= 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the denominator, >= 0.
        weight_decay: decoupled decay per step, times the learning rate, >= 0.
        grad_clip_norm: largest global gradient norm; 0 means no clipping.

    Raises:
        InvalidInputError: a value out of its bounds.
    """

    if TYPE_CHECKING:  # the fields are inherited, with their checks; this says only that they are given by name

        def __init__(
            self,
            *,
            learning_rate: SupportsFloat = 1e-4,
            beta1: SupportsFloat = 0.9,
            beta2: SupportsFloat = 0.95,
            eps: SupportsFloat = 1e-12,
            weight_decay: SupportsFloat = 0.0,
            grad_clip_norm: SupportsFloat = 0.0,
        ) -> None: ...


class DimuonParams(StrictModel):
    """Parameters of one Dimuon step. Loops does not have it: the clients refuse them.

    Args:
        type: ``"dimuon"``.
        learning_rate: step size, >= 0.
        grad_clip_norm: largest global gradient norm; no clipping unless it is > 0.
        beta1: decay of the momentum, in [0, 1).

    Raises:
        InvalidInputError: a value out of its bounds, or not finite.
    """

    type: Literal["dimuon"] = "dimuon"
    learning_rate: float = attrs.field()
    grad_clip_norm: float = 0.0
    beta1: float = 0.9

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for name in ("learning_rate", "grad_clip_norm", "beta1"):
            if not math.isfinite(getattr(self, name)):
                refuse(name, "a finite number", getattr(self, name))
        if self.learning_rate < 0:
            refuse("learning_rate", "a number >= 0", self.learning_rate)
        if not 0 <= self.beta1 < 1:
            refuse("beta1", "a number in [0, 1)", self.beta1)


OptimParams: TypeAlias = AdamParams | DimuonParams


class OptimStepRequest(StrictModel):
    """What a step is made of: a request of the original, never sent here. The clients take its parts as arguments.

    Args:
        optim_params: parameters of the step.
        model_id: id of the run.
        seq_id: number of the request in its run.
        type: ``"optim_step"``.
    """

    optim_params: OptimParams
    model_id: str
    seq_id: int | None = None
    type: Literal["optim_step"] = "optim_step"
