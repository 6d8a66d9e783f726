"""From scores to tokens: temperature, top-k, top-p and one private random stream per row.

A row's token depends on its own scores, parameters and stream, never on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from loops_sdk.types import SamplingParams

__all__ = ["Choice", "Stream", "sample"]


class Stream:
    """The random numbers of continuation `index` of a request; `seed` `None` draws a fresh one."""

    def __init__(self, seed: int | None, index: int) -> None:
        self._generator = np.random.default_rng(None if seed is None else (seed, index))

    def draw(self) -> float:
        """A number in [0, 1)."""
        return float(self._generator.random())


@attrs.frozen
class Choice:
    """A sampled token and its log-probability under the raw scores; NaN if the scores are not finite."""

    token: int
    logprob: float


def sample(scores: Tensor, rows: Sequence[tuple[SamplingParams, Stream]]) -> list[Choice]:
    """One token per row.

    Args:
        scores: ``[rows, vocabulary]``, float32. Not changed.
        rows: parameters and stream of each row. Temperature 0 takes the most probable token and draws nothing.

    Top-k is applied before top-p, to the scores divided by the temperature; top-p keeps the smallest set of the most
    probable tokens whose probability, after top-k, reaches it.
    """
    tokens = scores.argmax(-1)
    plain = [i for i, (params, _) in enumerate(rows) if params.temperature > 0 and not _cuts(params)]
    cut = [i for i, (params, _) in enumerate(rows) if params.temperature > 0 and _cuts(params)]
    for chosen, draw in ((plain, _draw), (cut, _draw_cut)):
        if chosen:
            where = torch.tensor(chosen, device=scores.device)
            tokens[where] = draw(scores if len(chosen) == len(rows) else scores[where], [rows[i] for i in chosen])
    logprobs = scores.gather(-1, tokens[:, None]).squeeze(-1) - scores.logsumexp(-1)
    return [Choice(*pair) for pair in zip(tokens.tolist(), logprobs.tolist(), strict=True)]


def _cuts(params: SamplingParams) -> bool:
    return params.top_p < 1 or params.top_k > 0


def _probabilities(scores: Tensor, rows: Sequence[tuple[SamplingParams, Stream]]) -> Tensor:
    """Softmax at each row's temperature; shifted first, so that a tiny temperature cannot overflow."""
    temperatures = _column([params.temperature for params, _ in rows], scores)
    return ((scores - scores.amax(-1, keepdim=True)) / temperatures).softmax(-1)


def _draw(scores: Tensor, rows: Sequence[tuple[SamplingParams, Stream]]) -> Tensor:
    return _pick(_probabilities(scores, rows), rows)


def _draw_cut(scores: Tensor, rows: Sequence[tuple[SamplingParams, Stream]]) -> Tensor:
    probabilities, order = _probabilities(scores, rows).sort(dim=-1, descending=True, stable=True)
    most = [params.top_k if params.top_k > 0 else scores.shape[-1] for params, _ in rows]
    ranks = torch.arange(scores.shape[-1], device=scores.device)
    kept = probabilities.where(ranks < _column(most, scores), 0)
    before = kept.cumsum(-1, dtype=torch.float64) - kept
    reach = _column([params.top_p for params, _ in rows], scores) * kept.sum(-1, keepdim=True)
    kept = kept.where((before < reach) | (ranks == 0), 0)
    return order.gather(-1, _pick(kept, rows)[:, None]).squeeze(-1)


def _pick(weights: Tensor, rows: Sequence[tuple[SamplingParams, Stream]]) -> Tensor:
    """The index at which the running sum passes a uniform share of the total: never one of weight 0."""
    sums = weights.cumsum(-1, dtype=torch.float64)
    total = sums[:, -1:]
    drawn = torch.tensor([stream.draw() for _, stream in rows], dtype=torch.float64, device=weights.device)
    below = torch.nextafter(total, torch.zeros_like(total))
    found = torch.searchsorted(sums, torch.minimum(drawn[:, None] * total, below), right=True).squeeze(-1)
    return found.clamp_(max=weights.shape[-1] - 1)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
