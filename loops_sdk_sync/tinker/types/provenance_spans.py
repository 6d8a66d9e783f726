"""Where the tokens of a training example came from, as runs of consecutive positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from loops_sdk import InvalidInputError

__all__ = ["PromptProvenanceSpan", "ProvenanceSpans", "SampledProvenanceSpan"]


@dataclass(frozen=True, kw_only=True)
class _Span:
    sequence_id: str
    offset: int = 0
    length: int

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not self.sequence_id:
            raise InvalidInputError(f"{kind}: sequence_id is empty, expected that of a sampled sequence")
        for name in ("offset", "length"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"{kind}: {name} is {getattr(self, name)}, expected a number >= 0")


class PromptProvenanceSpan(_Span):
    """A run of tokens that were read as a prompt.

    Args:
        sequence_id: `SampledSequence.sequence_id` of a sequence that was sampled from this prompt.
        offset: where the run begins in the prompt.
        length: number of tokens in it.

    Raises:
        InvalidInputError: an empty `sequence_id`, or a negative number.
    """


class SampledProvenanceSpan(_Span):
    """A run of tokens that one sequence sampled.

    Args:
        sequence_id: `SampledSequence.sequence_id` of that sequence.
        offset: where the run begins in its tokens.
        length: number of tokens in it.

    Raises:
        InvalidInputError: an empty `sequence_id`, or a negative number.
    """


#: Runs that cover the positions of an input one after the other, each position once.
ProvenanceSpans: TypeAlias = list[PromptProvenanceSpan | SampledProvenanceSpan]
