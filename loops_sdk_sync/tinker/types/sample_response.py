"""What `sample` gives back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loops_sdk_sync.tinker.types.sampled_sequence import SampledSequence
from loops_sdk_sync.tinker.types.tensor_data import TensorData
from loops_sdk_sync.tinker.types.topk_logprobs import TopkLogprobs, topk_to_lists

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PromptAltTokens", "SampleResponse"]


@dataclass(frozen=True)
class PromptAltTokens:
    """Other tokens that the model might have put at each position of the prompt but the first.

    Attributes:
        tokens: ids, shape ``[positions - 1, k]``.
        logprobs: their log-probabilities, of the same shape.
    """

    tokens: TensorData
    logprobs: TensorData


@dataclass(frozen=True)
class SampleResponse:
    """What `sample` gives back. Lists are made of the arrays when they are first asked for, and kept.

    Attributes:
        sequences: the continuations.
        prompt_logprobs_np: log-probability of each token of the prompt as an array (float32), NaN where there is none;
            `None` when they were not asked for.
        topk_prompt_logprobs_np: the most probable tokens at each position of the prompt; `None` when not asked for.
        target_prompt_logprobs: log-probabilities of given tokens at the positions of the prompt; Loops has none.
        prompt_cache_hit_tokens: tokens of the prompt that were read from a cache; 0, Loops does not say.
        prompt_alt_tokens: other tokens for the prompt; Loops has none.
    """

    sequences: Sequence[SampledSequence]
    prompt_logprobs_np: NDArray[Any] | None = field(default=None, repr=False)
    topk_prompt_logprobs_np: TopkLogprobs | None = field(default=None, repr=False)
    target_prompt_logprobs: TensorData | None = None
    prompt_cache_hit_tokens: int = 0
    prompt_alt_tokens: PromptAltTokens | None = None
    _prompt_logprobs_list: list[float | None] | None = field(default=None, repr=False)
    _topk_prompt_logprobs_list: list[list[tuple[int, float]] | None] | None = field(default=None, repr=False)

    @cached_property
    def prompt_logprobs(self) -> list[float | None] | None:
        """Log-probability of each token of the prompt as a list, `None` where there is none, as for the first; `None`
        when they were not asked for.
        """
        if self._prompt_logprobs_list is not None or self.prompt_logprobs_np is None:
            return self._prompt_logprobs_list
        return [None if math.isnan(one) else one for one in self.prompt_logprobs_np.tolist()]

    @cached_property
    def topk_prompt_logprobs(self) -> list[list[tuple[int, float]] | None] | None:
        """For each position of the prompt the most probable tokens as ``(token, logprob)`` pairs, `None` where there
        are none; `None` when they were not asked for.
        """
        if self._topk_prompt_logprobs_list is not None or self.topk_prompt_logprobs_np is None:
            return self._topk_prompt_logprobs_list
        return topk_to_lists(self.topk_prompt_logprobs_np)
