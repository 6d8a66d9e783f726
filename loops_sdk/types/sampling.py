"""What sampling calls take and give back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types._checks import as_real, as_whole, check_int, number, shown, whole
from loops_sdk.types._holding import few

__all__ = ["SampleResult", "SampledSequence", "SamplingParams"]


def _as_stop(value: Any) -> tuple[str, ...] | tuple[int, ...]:
    if value is None:
        return ()
    items: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    texts = tuple(item for item in items if isinstance(item, str) and item)
    tokens = tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool) and item >= 0)
    if len(texts) == len(items):
        return texts
    if len(tokens) == len(items):
        return tokens
    raise InvalidInputError(f"stop: expected non-empty strings, or token ids >= 0, not a mix; got {shown(value)}")


def _check_top_k(_instance: object, _attribute: object, value: Any) -> None:
    check_int("top_k", value, low=-1)
    if value == 0:
        raise InvalidInputError("top_k: expected a value >= 1, or -1 to keep all, got 0")


@attrs.frozen
class SamplingParams:
    """How to sample.

    Args:
        temperature: 0 means greedy; 1 samples from the model's own distribution.
        top_p: keep the smallest set of tokens whose probability reaches this, in (0, 1]; 1 keeps all.
        top_k: keep this many most probable tokens; -1 keeps all.
        max_tokens: most new tokens per sequence; `None` means as many as the context still holds.
        seed: makes sampling repeatable; `None` draws a fresh one.
        stop: strings, or token ids, that end a sequence. The stop token is part of the tokens that come back.
    """

    temperature: float = attrs.field(default=1.0, converter=as_real, validator=number(low=0))
    top_p: float = attrs.field(default=1.0, converter=as_real, validator=number(above=0, high=1))
    top_k: int = attrs.field(default=-1, converter=as_whole, validator=_check_top_k)
    max_tokens: int | None = attrs.field(
        default=None, converter=as_whole, validator=attrs.validators.optional(whole(low=1))
    )
    seed: int | None = attrs.field(
        default=None, converter=as_whole, validator=attrs.validators.optional(whole(low=0, high=2**63 - 1))
    )
    stop: tuple[str, ...] | tuple[int, ...] = attrs.field(default=(), converter=_as_stop, repr=few)


@attrs.frozen
class SampledSequence:
    """One sampled continuation.

    Attributes:
        tokens: the new token ids, without the prompt, with the stop token when there was one.
        logprobs: for each token its log-probability under the sampling model at temperature 1, without top-p or top-k.
        stop_reason: ``"stop"`` (end of turn, stop token or stop string) or ``"length"``.
    """

    tokens: list[int] = attrs.field(repr=few)
    logprobs: list[float] = attrs.field(repr=few)
    stop_reason: str


@attrs.frozen
class SampleResult:
    """What `sample` gives back.

    Attributes:
        sequences: `num_samples` continuations.
        policy_version: number of optimizer steps in the weights that sampled; `None` when the sampler does not say.
        prompt_logprobs: for each prompt token its log-probability given those before it, entry 0 `None`; only when
            asked for.
        topk_prompt_logprobs: for each prompt position the most probable tokens as ``{token id: logprob}``, entry 0
            `None`; only when asked for.
        prompt_token_ids: the prompt as the sampler read it.
    """

    sequences: list[SampledSequence] = attrs.field(repr=few)
    policy_version: int | None = None
    prompt_logprobs: list[float | None] | None = attrs.field(default=None, repr=few)
    topk_prompt_logprobs: list[dict[int, float] | None] | None = attrs.field(default=None, repr=few)
    prompt_token_ids: list[int] | None = attrs.field(default=None, repr=few)
