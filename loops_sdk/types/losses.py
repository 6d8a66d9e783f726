"""The functions that a loss of one's own is given as. What they must return is checked where they are called.

torch is named for type checkers only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat

from loops_sdk.types.inputs import Datum

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["CustomArrayLoss", "CustomLoss"]


class CustomLoss(Protocol):
    """A loss as a torch function of log-probabilities: ``loss_fn(data, logprobs) -> (loss, metrics)``.

    `data` are the examples of the call with all their inputs. `logprobs` holds one float32 tensor per datum, a leaf
    with ``requires_grad``, one value per target and 0.0 where the target is ignored. `loss` is a scalar tensor that
    depends on them; `metrics` are numbers by name.
    """

    def __call__(
        self, data: list[Datum], logprobs: list[torch.Tensor], /
    ) -> tuple[torch.Tensor, Mapping[str, SupportsFloat]]: ...


class CustomArrayLoss(Protocol):
    """A loss with gradients of its own, without torch: ``loss_fn(data, logprobs) -> (loss, gradients, metrics)``.

    As `CustomLoss`, with read-only float32 numpy arrays. `gradients` holds one array per datum, d loss / d logprobs, of
    the same shape; what it says at ignored positions plays no part.
    """

    def __call__(
        self, data: list[Datum], logprobs: list[NDArray[np.float32]], /
    ) -> tuple[SupportsFloat, Sequence[NDArray[Any]], Mapping[str, SupportsFloat]]: ...
