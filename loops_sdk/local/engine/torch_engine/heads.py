"""From hidden states to log-probabilities: the vocabulary layer with its adapter, scaling and soft cap, in float32.

It never sees a whole batch: callers hand in as many positions as they can afford.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from loops_sdk.local.engine.torch_engine.linears import head_path

__all__ = ["CHUNK", "Head", "LowRank", "chunks", "target_logprobs"]

#: Positions scored at once: large enough for full speed, small enough that a vocabulary of 150,000 takes 150 MB.
CHUNK = 256

#: Config fields by which architectures scale the logits (Cohere and Falcon-H1 multiply, Granite divides).
_MULTIPLIERS = ("logit_scale", "lm_head_multiplier")
_DIVISORS = ("logits_scaling",)
_SOFT_CAPS = ("final_logit_softcapping",)


@attrs.frozen(eq=False)
class LowRank:
    """One LoRA pair: adds ``scaling * (x A^T) B^T`` to the output of a linear layer.

    Attributes:
        a: ``[rank, inputs]``, float32.
        b: ``[outputs, rank]``, float32.
        scaling: alpha over rank.
    """

    a: Tensor
    b: Tensor
    scaling: float

    def add_to(self, output: Tensor, inputs: Tensor) -> Tensor:
        """`output` plus this pair's share, float32; writes into `output` where it is float32 already."""
        flat = inputs.reshape(-1, inputs.shape[-1]).float()
        total = output.float().view(-1, output.shape[-1])
        return total.addmm_((flat @ self.a.t()).mul_(self.scaling), self.b.t()).view(output.shape)


@attrs.frozen(eq=False)
class Head:
    """The layer that scores the vocabulary.

    Attributes:
        path: its place in the model.
        weight: ``[vocabulary, hidden]`` in the model's type; may be the embedding's own.
        bias: ``[vocabulary]`` or `None`.
        multiplier: factor of the logits.
        soft_cap: bound c of ``c * tanh(logits / c)``, or `None`.
    """

    path: str
    weight: Tensor
    bias: Tensor | None
    multiplier: float = 1.0
    soft_cap: float | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """The head of `model`, scaled as its configuration says. Whether that is the whole truth must be probed."""
        path = head_path(model)
        module: Any = model.get_submodule(path)
        config = model.config.get_text_config()
        weight, bias = module.weight, getattr(module, "bias", None)
        if not isinstance(module, nn.Linear):
            weight = weight.t()
        multiplier = _product(config, _MULTIPLIERS) / _product(config, _DIVISORS)
        return cls(path, weight.detach(), None if bias is None else bias.detach(), multiplier, _soft_cap(config))

    def logits(self, hidden: Tensor, lora: LowRank | None) -> Tensor:
        """Scores ``[positions, vocabulary]`` in float32 of hidden states ``[positions, hidden]``."""
        scores = functional.linear(hidden, self.weight, self.bias).float()
        if lora is not None:
            scores = lora.add_to(scores, hidden)
        if self.multiplier != 1.0:
            scores = scores * self.multiplier
        return scores if self.soft_cap is None else torch.tanh(scores / self.soft_cap) * self.soft_cap


def _product(config: PreTrainedConfig, names: tuple[str, ...]) -> float:
    product = 1.0
    for name in names:
        value = getattr(config, name, None)
        product *= 1.0 if value is None else float(value)
    return product


def _soft_cap(config: PreTrainedConfig) -> float | None:
    caps = [getattr(config, name, None) for name in _SOFT_CAPS]
    return next((float(cap) for cap in caps if cap), None)


class _TargetLogprobs(torch.autograd.Function):
    """log_softmax at one column per row, with a backward pass that needs a single array of the size of the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: Tensor) -> Tensor:
        total = scores.logsumexp(-1)
        ctx.save_for_backward(scores, targets, total)
        return scores.gather(-1, targets[:, None]).squeeze(-1) - total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        scores, targets, total = ctx.saved_tensors
        grad: Tensor = grads[0][:, None]
        result = (scores - total[:, None]).exp_().mul_(-grad)
        return result.scatter_add_(-1, targets[:, None], grad), None


def target_logprobs(scores: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of ``targets[i]`` under ``scores[i]``; differentiable by the scores."""
    result: Tensor = _TargetLogprobs.apply(scores, targets)  # type: ignore[no-untyped-call]
    return result


def chunks(positions: Tensor) -> Iterator[Tensor]:
    """`positions` in pieces of `CHUNK`; nothing for no positions."""
    return iter(positions.split(CHUNK) if positions.numel() else ())  # type: ignore[no-untyped-call]
