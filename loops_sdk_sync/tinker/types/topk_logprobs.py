"""The most probable tokens at each position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TopkLogprobs"]

#: What a cell holds that no token fills: token 0 with this log-probability.
MASK_LOGPROB = -99999.0


@dataclass(frozen=True, slots=True)
class TopkLogprobs:
    """The `k` most probable tokens at each position, as two matrices of shape ``(positions, k)``.

    Args:
        token_ids: the tokens (int32), most probable first; 0 where there are fewer than `k`.
        logprobs: their log-probabilities (float32); -99999.0 where there are fewer than `k`.
    """

    token_ids: NDArray[Any]
    logprobs: NDArray[Any]


def topk_to_lists(topk: TopkLogprobs) -> list[list[tuple[int, float]] | None]:
    """For each position its ``(token, logprob)`` pairs, `None` where there are none at all."""
    rows = zip(topk.token_ids.tolist(), topk.logprobs.tolist(), strict=True)
    pairs = (list(zip(tokens, logprobs, strict=True)) for tokens, logprobs in rows)
    return [_filled(row) or None for row in pairs] if topk.token_ids.size else []


def _filled(row: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The row without the empty cells at its end."""
    end = len(row)
    while end and row[end - 1] == (0, MASK_LOGPROB):
        end -= 1
    return row[:end]
