"""AdamW whose parameters come with each step (decoupled weight decay, arXiv 1711.05101). Knows tensors, no model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs
import torch
from torch import Tensor

from loops_sdk.types import AdamParams

__all__ = ["Moments", "adamw_step", "global_norm"]


@attrs.define(eq=False)
class Moments:
    """Running means of the gradient and of its square, a pair per parameter, and the number of steps in them."""

    first: list[Tensor]
    second: list[Tensor]
    step: int = 0

    @classmethod
    def fresh(cls, parameters: Iterable[Tensor]) -> Moments:
        """Zeros for every parameter."""
        like = list(parameters)
        return cls([torch.zeros_like(p, requires_grad=False) for p in like], [torch.zeros_like(p) for p in like])


def global_norm(gradients: Sequence[Tensor]) -> float:
    """Euclidean norm of all gradients together, accumulated in float64 so that no sum of squares overflows."""
    squares = [float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 for gradient in gradients]
    return math.sqrt(sum(squares))


@torch.no_grad()
def adamw_step(parameters: Sequence[Tensor], gradients: Sequence[Tensor], moments: Moments, params: AdamParams) -> None:
    """Move `parameters` by one step and update `moments`, all in place. Clipping is the caller's.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``p = p - lr * weight_decay * p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)``.
    """
    moments.step += 1
    first_bias = 1 - params.beta1**moments.step
    second_bias = (1 - params.beta2**moments.step) ** 0.5
    for parameter, gradient, first, second in zip(parameters, gradients, moments.first, moments.second, strict=True):
        first.lerp_(gradient, 1 - params.beta1)
        second.mul_(params.beta2).addcmul_(gradient, gradient, value=1 - params.beta2)
        parameter.mul_(1 - params.learning_rate * params.weight_decay)
        scale = (second.sqrt() / second_bias).add_(params.eps)
        scale.masked_fill_(scale == 0, 1)  # eps 0 and no gradient so far: the first moment is 0 as well
        parameter.addcdiv_(first, scale, value=-params.learning_rate / first_bias)
