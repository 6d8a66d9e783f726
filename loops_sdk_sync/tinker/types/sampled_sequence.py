"""One sampled continuation."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from loops_sdk_sync.tinker.types.topk_logprobs import TopkLogprobs, topk_to_lists

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SampledSequence", "StopReason"]

#: Why a sequence ended: `max_tokens`, or a stop token or string, or the end of the turn.
StopReason: TypeAlias = Literal["length", "stop"]


@dataclass(frozen=True)
class SampledSequence:
    """One sampled continuation. Lists are made of the arrays when they are first asked for, and kept.

    Attributes:
        stop_reason: ``"stop"`` or ``"length"``.
        sequence_id: tells the sequence from all others of the session; provenance spans name it.
        tokens_np: the new tokens as an array (int32), with the stop token when there was one.
        logprobs_np: their log-probabilities as an array (float32); `None` when there are none.
        topk_logprobs_np: the most probable tokens at each position; `None` when they were not asked for.
    """

    stop_reason: StopReason
    sequence_id: str
    tokens_np: NDArray[Any] | None = field(default=None, repr=False)
    logprobs_np: NDArray[Any] | None = field(default=None, repr=False)
    topk_logprobs_np: TopkLogprobs | None = field(default=None, repr=False)
    _tokens_list: list[int] | None = field(default=None, repr=False)
    _logprobs_list: list[float] | None = field(default=None, repr=False)
    _topk_logprobs_list: list[list[tuple[int, float]] | None] | None = field(default=None, repr=False)

    @cached_property
    def tokens(self) -> list[int]:
        """The new tokens as a list."""
        if self._tokens_list is not None:
            return self._tokens_list
        tokens: list[int] = [] if self.tokens_np is None else self.tokens_np.tolist()
        return tokens

    @cached_property
    def logprobs(self) -> list[float] | None:
        """The log-probability of each token as a list; `None` when there are none."""
        if self._logprobs_list is not None or self.logprobs_np is None:
            return self._logprobs_list
        logprobs: list[float] = self.logprobs_np.tolist()
        return logprobs

    @cached_property
    def topk_logprobs(self) -> list[list[tuple[int, float]] | None] | None:
        """For each token the most probable ones as ``(token, logprob)`` pairs, `None` where there are none; `None` when
        they were not asked for.
        """
        if self._topk_logprobs_list is not None or self.topk_logprobs_np is None:
            return self._topk_logprobs_list
        return topk_to_lists(self.topk_logprobs_np)
