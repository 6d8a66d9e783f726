"""The head against plain formulas: target log-probabilities, their gradient, adapter, scaling and soft cap."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from loops_sdk.local.engine.torch_engine.heads import CHUNK, Head, LowRank, chunks, target_logprobs


@pytest.fixture
def scores() -> Tensor:
    return torch.randn(7, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_target_logprobs_and_gradient(scores: Tensor) -> None:
    targets = torch.tensor([0, 3, 10, 3, 5, 1, 2])
    assert torch.autograd.gradcheck(lambda x: target_logprobs(x, targets), (scores,))
    plain = scores.log_softmax(-1)[torch.arange(7), targets]
    torch.testing.assert_close(target_logprobs(scores, targets), plain)


@pytest.mark.parametrize(("multiplier", "soft_cap"), [(1.0, None), (0.25, None), (1.0, 2.0), (0.5, 3.0)])
@pytest.mark.parametrize("with_adapter", [False, True])
def test_logits(multiplier: float, soft_cap: float | None, with_adapter: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (torch.randn(*size, generator=generator) for size in ((5, 8), (13, 8), (13,)))
    lora = LowRank(torch.randn(2, 8, generator=generator), torch.randn(13, 2, generator=generator), 16.0)
    plain = hidden @ weight.T + bias
    if with_adapter:
        plain = plain + 16.0 * hidden @ lora.a.T @ lora.b.T
    plain = plain * multiplier
    if soft_cap is not None:
        plain = soft_cap * torch.tanh(plain / soft_cap)
    head = Head("lm_head", weight, bias, multiplier, soft_cap)
    torch.testing.assert_close(head.logits(hidden, lora if with_adapter else None), plain)


def test_bfloat16_weights_give_float32_scores() -> None:
    head = Head("lm_head", torch.ones(3, 2, dtype=torch.bfloat16), None)
    assert head.logits(torch.ones(1, 2, dtype=torch.bfloat16), None).dtype == torch.float32


def test_chunks_cover_all_positions_once() -> None:
    positions = torch.arange(2 * CHUNK + 3)
    assert [len(part) for part in chunks(positions)] == [CHUNK, CHUNK, 3]
    assert list(chunks(positions[:0])) == []
