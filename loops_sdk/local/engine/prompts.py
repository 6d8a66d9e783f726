"""What no sampler can continue, refused by name. Knows the sizes of a model, but no model and no torch."""

from __future__ import annotations

from collections.abc import Collection

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.datums import foreign
from loops_sdk.local.engine.protocol import GenerationRequest

__all__ = ["check"]


def check(request: GenerationRequest, *, max_seq_len: int, vocab_size: int, adapters: Collection[str]) -> None:
    """Refuse what cannot be sampled.

    Args:
        max_seq_len: longest prompt plus continuation, in tokens.
        vocab_size: number of token ids that the model reads.
        adapters: names of those that are loaded.

    Raises:
        InvalidInputError: naming the argument.
    """
    _check_prompt(request, max_seq_len, vocab_size)
    if request.num_samples < 1:
        raise InvalidInputError(f"num_samples: expected a whole number >= 1, got {request.num_samples!r}")
    if request.prompt_logprobs is not None and request.prompt_logprobs < 0:
        raise InvalidInputError(f"prompt_logprobs: expected a whole number >= 0, got {request.prompt_logprobs!r}")
    if request.adapter is not None and request.adapter not in adapters:
        raise InvalidInputError(f"adapter: {request.adapter!r} is not loaded (loaded: {sorted(adapters)})")


def _check_prompt(request: GenerationRequest, max_seq_len: int, vocab_size: int) -> None:
    size = len(request.prompt)
    if not 1 <= size < max_seq_len:
        way = f"; its end is prompt[-{max_seq_len - 1}:]" if size else ""
        raise InvalidInputError(f"prompt: expected 1 to {max_seq_len - 1} tokens, got {size}{way}")
    for index, token in enumerate(request.prompt):
        if not 0 <= token < vocab_size:
            raise InvalidInputError(f"prompt[{index}]: {foreign(token, vocab_size)}")
