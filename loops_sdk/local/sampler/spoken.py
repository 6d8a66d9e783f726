"""Sampling in words, for people who try a model: from a text or a conversation to a generation request, and from the
engine's generation to words again. Pure functions; whoever calls them has the engine's `encode`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from loops_sdk._wire.codec import dumps
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import Generation, GenerationRequest
from loops_sdk.types import SamplingParams

__all__ = ["Encode", "SpokenBody", "spoken_reply", "spoken_request"]

Encode: TypeAlias = Callable[[str | Sequence[Mapping[str, str]]], list[int]]

#: Encoding happens between two steps of everybody's generation.
_LONGEST = 200_000
_ROLES = ("system", "user", "assistant")


@attrs.frozen
class SpokenBody:
    """What is to be continued.

    Args:
        model: the base model, the live adapter's id, or the address of a checkpoint of either kind.
        prompt: a text, or a list of messages with ``role`` and ``content``.
        max_tokens: most new tokens, as far as the context holds them.
        temperature, seed: as in `SamplingParams`.
    """

    model: str
    prompt: object
    max_tokens: int = 128
    temperature: float = 1.0
    seed: int | None = None


def spoken_request(body: SpokenBody, encode: Encode, adapter: str | None, max_seq_len: int) -> GenerationRequest:
    """The engine's request.

    Raises:
        InvalidInputError: a field is out of bounds; the message names it.
    """
    tokens = encode(_prompt(body.prompt))
    if not 1 <= len(tokens) < max_seq_len:
        raise InvalidInputError(f"prompt: expected 1 to {max_seq_len - 1} tokens, got {len(tokens)}")
    most = min(body.max_tokens, max_seq_len - len(tokens))
    return GenerationRequest(
        tokens, SamplingParams(temperature=body.temperature, max_tokens=most, seed=body.seed), 1, adapter
    )


def _prompt(given: object) -> str | list[dict[str, str]]:
    if isinstance(given, str):
        _check_length(given)
        return given
    if not isinstance(given, list) or not given:
        raise InvalidInputError(f"prompt: expected a text or a list of messages, got {_kind(given)}")
    messages = [_message(index, message) for index, message in enumerate(given)]
    _check_length("".join(message["content"] for message in messages))
    return messages


def _message(index: int, given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or set(given) != {"role", "content"} or not isinstance(given["content"], str):
        raise InvalidInputError(f"prompt[{index}]: expected an object with role and content, got {_kind(given)}")
    if given["role"] not in _ROLES:
        raise InvalidInputError(f"prompt[{index}].role: expected one of {', '.join(_ROLES)}")
    return {"role": given["role"], "content": given["content"]}


def _check_length(text: str) -> None:
    if len(text) > _LONGEST:
        raise InvalidInputError(f"prompt: expected at most {_LONGEST} characters, got {len(text)}")
    if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
        raise InvalidInputError("prompt: expected Unicode text, got half of a surrogate pair")


def _kind(given: object) -> str:
    return "an empty list" if given == [] else type(given).__name__


def spoken_reply(request: GenerationRequest, generation: Generation, policy_version: int) -> bytes:
    """What the model said, as JSON."""
    return dumps(
        {
            "text": generation.texts[0],
            "finish_reason": generation.finish_reasons[0],
            "policy_version": policy_version,
            "prompt_tokens": len(request.prompt),
            "completion_tokens": len(generation.tokens[0]),
        }
    )
