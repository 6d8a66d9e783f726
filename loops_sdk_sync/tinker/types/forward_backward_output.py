"""What `forward` and `forward_backward` take and give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loops_sdk_sync.tinker.types.datum import Datum
from loops_sdk_sync.tinker.types.loss_fn_type import LossFnOutput, LossFnType

__all__ = ["ForwardBackwardInput", "ForwardBackwardOutput"]


@dataclass(frozen=True)
class ForwardBackwardInput:
    """What a pass is made of. The clients take the parts as arguments; this is for those who keep them together.

    Args:
        data: the examples.
        loss_fn: the loss.
        loss_fn_config: its settings.
    """

    data: list[Datum]
    loss_fn: LossFnType
    loss_fn_config: Mapping[str, float | str] | None = None


@dataclass(frozen=True)
class ForwardBackwardOutput:
    """The result of a pass.

    Attributes:
        loss_fn_output_type: the server's name for the shape of `loss_fn_outputs`.
        loss_fn_outputs: for each datum, in the order of the input, what the loss says of it, by name.
        metrics: numbers by ``name:reduction``. The reduction says how those of the parts of a batch come together:
            ``loss:sum`` adds up, for example.
    """

    loss_fn_output_type: str
    loss_fn_outputs: list[LossFnOutput]
    metrics: dict[str, float] = field(default_factory=dict)
