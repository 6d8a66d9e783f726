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
        body: the request without the name of a model.
        topk: how many alternatives per prompt position the result is to show.
        headers: what goes along with it.
    """

    body: CompletionBody
    topk: int
    headers: dict[str, str]

    def to(self, model: ModelCard) -> CompletionBody:
        """The request to one model. Without a limit of its own it may use all that the model's context still holds;
        when the model does not tell its context, the server's default holds.
        """
        most = self.body.max_tokens
        if most is None and model.max_model_len is not None:
            most = max(1, model.max_model_len - len(self.body.prompt))
        return attrs.evolve(self.body, model=model.id, max_tokens=most)


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
        raise InvalidInputError(f"sampling_params: expected SamplingParams, got {type(params).__name__}")
    wanted = topk_prompt_logprobs if include_prompt_logprobs or topk_prompt_logprobs else None
    return Question(_body(tokens, num_samples, params, wanted), topk_prompt_logprobs, _headers(affinity_key))


def _prompt(prompt: ModelInput | Sequence[int]) -> Any:
    """The prompt's token ids as one array."""
    try:
        given = prompt if isinstance(prompt, ModelInput) else ModelInput.from_ints(prompt)
        only = given.chunks[0] if len(given.chunks) == 1 else None
        text = only if isinstance(only, EncodedTextChunk) else EncodedTextChunk(given.to_ints())
    except InvalidInputError as error:
        raise InvalidInputError(f"prompt: {error.message}") from None
    if not text.length:
        raise InvalidInputError("prompt: expected at least one token, got none")
    return text.tokens


def _body(tokens: Any, num_samples: int, params: SamplingParams, prompt_logprobs: int | None) -> CompletionBody:
    texts = [item for item in params.stop if isinstance(item, str)]
    ids = [item for item in params.stop if isinstance(item, int)]
    return CompletionBody(
        model="",
        prompt=tokens,
        n=num_samples,
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        seed=params.seed,
        logprobs=0,
        prompt_logprobs=prompt_logprobs,
        stop=texts or None,
        stop_token_ids=ids or None,
        return_tokens_as_token_ids=True,
        return_token_ids=True,
    )


def _headers(affinity_key: str | None) -> dict[str, str]:
    if affinity_key is None:
        return {}
    check_text("affinity_key", affinity_key, most=255)
    if not (affinity_key.isascii() and affinity_key.isprintable()):
        raise InvalidInputError(f"affinity_key: expected printable ASCII, got {shown(affinity_key)}")
    return {_AFFINITY: affinity_key}
