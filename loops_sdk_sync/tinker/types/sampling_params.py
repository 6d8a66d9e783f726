"""How to sample."""

from __future__ import annotations

from collections.abc import Sequence

from loops_sdk_sync.tinker.types._model import OpenModel

__all__ = ["SamplingParams"]


class SamplingParams(OpenModel):
    """How to sample. Bounds are checked by the call that they are given to.

    Args:
        max_tokens: most new tokens per sequence; `None` means as many as the context still holds.
        seed: makes sampling repeatable; `None` draws a fresh one.
        stop: a string, strings, or token ids that end a sequence; `None` leaves it to the end of the turn. An empty
            list means that nothing ends it but `max_tokens`.
        temperature: 0 means greedy; 1 samples from the model's own distribution.
        top_k: keep this many most probable tokens; -1 keeps all.
        top_p: keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    """

    max_tokens: int | None = None
    seed: int | None = None
    stop: str | Sequence[str] | Sequence[int] | None = None
    temperature: float = 1
    top_k: int = -1
    top_p: float = 1
