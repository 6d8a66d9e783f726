"""From a completion's body to a generation request, and from the engine's generation to the reply. Pure functions."""

from __future__ import annotations

import time
import uuid
from typing import Any

import attrs

from loops_sdk._wire.bodies import CompletionBody
from loops_sdk._wire.codec import dumps
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import Generation, GenerationRequest
from loops_sdk.types import EncodedTextChunk, SamplingParams

__all__ = ["encode_reply", "generation_request"]

_MOST_CHOICES = 1024
_MOST_ALTERNATIVES = 1024


def generation_request(body: CompletionBody, max_seq_len: int) -> GenerationRequest:
    """The engine's request, without the adapter.

    Raises:
        InvalidInputError: a field is out of bounds; the message names it.
    """
    prompt = _prompt(body.prompt)
    _check_range("n", body.n, 1, _MOST_CHOICES)
    _check_range("prompt_logprobs", body.prompt_logprobs, 0, _MOST_ALTERNATIVES)
    if body.logprobs not in (None, 0):
        raise InvalidInputError(
            f"logprobs: expected 0 (the sampled tokens' own; alternatives are not reported), got {body.logprobs}"
        )
    params = SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        max_tokens=_max_tokens(body.max_tokens, len(prompt), max_seq_len),
        seed=body.seed,
        stop=_stop(body),
    )
    return GenerationRequest(prompt, params, body.n, None, body.prompt_logprobs)


def _prompt(value: Any) -> list[int]:
    if not isinstance(value, list) or not value:
        shown = "an empty list" if isinstance(value, list) else type(value).__name__
        raise InvalidInputError(f"prompt: expected one list of token ids, got {shown}")
    try:
        tokens: list[int] = EncodedTextChunk(value).tokens.tolist()
    except InvalidInputError as error:
        raise InvalidInputError(f"prompt: {error.message}") from None
    return tokens


def _check_range(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidInputError(f"{name}: expected a whole number from {low} to {high}, got {value}")


def _max_tokens(asked: int | None, prompt: int, max_seq_len: int) -> int:
    """As many as were asked for, or as the context still holds."""
    if prompt >= max_seq_len:
        text = f"prompt: expected 1 to {max_seq_len - 1} tokens, got {prompt}; its end is prompt[-{max_seq_len - 1}:]"
        raise InvalidInputError(text)
    return max_seq_len - prompt if asked is None else min(asked, max_seq_len - prompt)


def _stop(body: CompletionBody) -> Any:
    if body.stop and body.stop_token_ids:
        raise InvalidInputError("stop, stop_token_ids: give one of them, not both")
    return body.stop or body.stop_token_ids


def encode_reply(body: CompletionBody, prompt: list[int], generation: Generation, policy_version: int) -> bytes:
    """The reply as JSON. The first choice carries the prompt's ids and logprobs, because all choices share them."""
    completion = sum(len(tokens) for tokens in generation.tokens)
    choices = [_choice(body, generation, index) for index in range(len(generation.tokens))]
    if body.return_token_ids or generation.prompt_logprobs is not None:
        choices[0]["prompt_token_ids"] = prompt
    choices[0]["prompt_logprobs"] = _prompt_logprobs(generation)
    return dumps(
        {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": body.model,
            "choices": choices,
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": completion,
                "total_tokens": len(prompt) + completion,
            },
            "policy_version": policy_version,
        }
    )


def _choice(body: CompletionBody, generation: Generation, index: int) -> dict[str, Any]:
    tokens = generation.tokens[index]
    choice = {
        "index": index,
        "text": generation.texts[index],
        "finish_reason": generation.finish_reasons[index],
        "logprobs": _logprobs(body, tokens, generation.logprobs[index]),
    }
    return {**choice, "token_ids": tokens} if body.return_token_ids else choice


def _logprobs(body: CompletionBody, tokens: list[int], logprobs: list[float]) -> dict[str, Any] | None:
    """Tokens by id, because this server does not decode single tokens; `return_tokens_as_token_ids` brings them even
    when no logprobs were asked for."""
    if body.logprobs is None and not body.return_tokens_as_token_ids:
        return None
    return {"tokens": [f"token_id:{token}" for token in tokens], "token_logprobs": logprobs}


def _prompt_logprobs(generation: Generation) -> list[dict[str, Any] | None] | None:
    if generation.prompt_logprobs is None:
        return None
    return [
        None if entry is None else {str(token): attrs.asdict(_Entry(*value)) for token, value in entry.items()}
        for entry in generation.prompt_logprobs
    ]


@attrs.frozen
class _Entry:
    logprob: float
    rank: int
