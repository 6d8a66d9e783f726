"""What one call of `sample` asks for: its arguments, checked before anything is sent, and the request they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from loops_sdk._wire.bodies import CompletionBody, ModelCard
from loops_sdk.errors import InvalidInputError
from loops_sdk.types import EncodedTextChunk, ModelInput, SamplingParams
from loops_sdk.types._checks import check_int, check_text, shown

_AFFINITY = "X-Affinity-Key"


@attrs.frozen
class Question:
    """A completion to be asked for, of whatever model it will be.

    Attributes:
        prompt: token ids, as a list or an array.
        prompt_logprobs: how many alternatives per prompt position to ask for; `None` asks for nothing about the prompt.
        topk: how many of them the result is to show.
        headers: what goes along with it.
    """

    prompt: Any  # as in the body that is made of it
    num_samples: int
    params: SamplingParams
    prompt_logprobs: int | None
    topk: int
    headers: dict[str, str]

    def to(self, model: ModelCard) -> CompletionBody:
        """The request to one model. Without a limit of its own it may use all that the model's context still holds;
        when the model does not tell its context, the server's default holds.
        """
        params, most = self.params, self.params.max_tokens
        if most is None and model.max_model_len is not None:
            most = max(1, model.max_model_len - len(self.prompt))
        return CompletionBody(
            model=model.id,
            prompt=self.prompt,
            n=self.num_samples,
            max_tokens=most,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            seed=params.seed,
            logprobs=0,
            prompt_logprobs=self.prompt_logprobs,
            stop=[item for item in params.stop if isinstance(item, str)] or None,
            stop_token_ids=[item for item in params.stop if isinstance(item, int)] or None,
            return_tokens_as_token_ids=True,
            return_token_ids=True,
        )


def question(
    prompt: ModelInput | Sequence[int],
    num_samples: int,
    sampling_params: SamplingParams | None,
    include_prompt_logprobs: bool,
    topk_prompt_logprobs: int,
    affinity_key: str | None,
) -> Question:
    """The question that the arguments of `SamplingClient.sample_async` make.

    Raises:
        InvalidInputError: an argument is wrong; the message names it.
    """
    tokens = _prompt(prompt)
    check_int("num_samples", num_samples, low=1)
    check_int("topk_prompt_logprobs", topk_prompt_logprobs, low=0)
    params = sampling_params if sampling_params is not None else SamplingParams()
    if not isinstance(params, SamplingParams):
        raise InvalidInputError(f"sampling_params: expected SamplingParams(...), got {type(params).__name__}")
    wanted = topk_prompt_logprobs if include_prompt_logprobs or topk_prompt_logprobs else None
    return Question(tokens, num_samples, params, wanted, topk_prompt_logprobs, _headers(affinity_key))


def _prompt(prompt: ModelInput | Sequence[int]) -> Any:
    """The prompt's token ids: a list as it is, anything else as one array."""
    if isinstance(prompt, list) and prompt and _are_ids(prompt):
        return list(prompt)
    try:
        text = _text_of(prompt) if isinstance(prompt, ModelInput) else EncodedTextChunk(prompt)
    except InvalidInputError as error:
        raise InvalidInputError(f"prompt: {error.message.removeprefix('tokens: ')}") from None
    if not text.length:
        raise InvalidInputError("prompt: expected at least one token, got none")
    return text.tokens


def _are_ids(values: list[Any]) -> bool:
    """Whether there is nothing to convert and nothing to refuse; numpy would cost more than encoding the request."""
    return {int}.issuperset(map(type, values)) and min(values) >= 0 and max(values) < 2**63


def _text_of(prompt: ModelInput) -> EncodedTextChunk:
    only = prompt.chunks[0] if len(prompt.chunks) == 1 else None
    return only if isinstance(only, EncodedTextChunk) else EncodedTextChunk(prompt.to_ints())


def _headers(affinity_key: str | None) -> dict[str, str]:
    if affinity_key is None:
        return {}
    check_text("affinity_key", affinity_key, most=255)
    if not (affinity_key.isascii() and affinity_key.isprintable()):
        raise InvalidInputError(f"affinity_key: expected printable ASCII, got {shown(affinity_key)}")
    return {_AFFINITY: affinity_key}
