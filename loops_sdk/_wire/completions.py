"""The sampler's completion: from its reply to a `SampleResult`, in all the variants that vLLM versions and gateways
write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loops_sdk.errors import ProtocolError
from loops_sdk.types import SampledSequence, SampleResult

MIN_POLICY_VERSION = "X-Min-Policy-Version"
POLICY_VERSION = "X-Policy-Version"
_TOKEN_PREFIX = "token_id:"


def sample_result(
    reply: Any,
    headers: Mapping[str, str],
    *,
    topk_prompt_logprobs: int = 0,
    prompt: Sequence[int] | None = None,
) -> SampleResult:
    """The result of one completion.

    Args:
        prompt: the prompt as it was sent, for samplers that do not repeat it.

    Raises:
        ProtocolError: no choices, tokens without ids, or other shapes that no sampler should send.
    """
    try:
        return _sample_result(reply, headers, topk_prompt_logprobs, prompt)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ProtocolError(f"unexpected completion: {type(error).__name__}: {error}") from None


def _sample_result(reply: Any, headers: Mapping[str, str], topk: int, sent: Sequence[int] | None) -> SampleResult:
    choices = sorted(reply["choices"], key=lambda choice: choice.get("index", 0))
    first = choices[0]
    entries = first.get("prompt_logprobs") or reply.get("prompt_logprobs")
    prompt = first.get("prompt_token_ids") or reply.get("prompt_token_ids") or sent
    return SampleResult(
        sequences=[_sequence(choice) for choice in choices],
        policy_version=policy_version(reply, headers),
        prompt_logprobs=None if entries is None else _own_logprobs(entries, prompt),
        topk_prompt_logprobs=_topk(entries, topk) if entries is not None and topk else None,
        prompt_token_ids=None if prompt is None else [int(token) for token in prompt],
    )


def policy_version(reply: Any, headers: Mapping[str, str]) -> int | None:
    """The version that served: header first, then body, else `None`."""
    value = headers.get(POLICY_VERSION, reply.get("policy_version"))
    return None if value is None else int(value)


def _sequence(choice: Mapping[str, Any]) -> SampledSequence:
    logprobs = choice.get("logprobs") or {}
    tokens = choice.get("token_ids")
    if tokens is None:
        tokens = [_token_id(text) for text in logprobs["tokens"]]
    values = [_number(value) for value in logprobs.get("token_logprobs") or ()]
    if values and len(values) != len(tokens):
        raise ProtocolError(f"unexpected completion: {len(tokens)} tokens with {len(values)} logprobs")
    return SampledSequence(list(map(int, tokens)), values, str(choice.get("finish_reason") or "unknown"))


def _token_id(text: str) -> int:
    if not text.startswith(_TOKEN_PREFIX):
        raise ProtocolError(f"unexpected completion: token {text!r} is not of the form {_TOKEN_PREFIX}<int>")
    return int(text[len(_TOKEN_PREFIX) :])


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _own_logprobs(entries: list[Any], prompt: Sequence[int] | None) -> list[float | None]:
    """Each prompt token's own value. Entry i maps token ids to values and always holds the prompt's own token."""
    if prompt is None:
        raise ProtocolError("unexpected completion: prompt_logprobs without prompt_token_ids")
    return [
        None if entry is None else _number(entry[str(token)]["logprob"])
        for entry, token in zip(entries, prompt, strict=True)
    ]


def _topk(entries: list[Any], topk: int) -> list[dict[int, float] | None]:
    return [None if entry is None else _most_probable(entry, topk) for entry in entries]


def _most_probable(entry: Mapping[str, Any], topk: int) -> dict[int, float]:
    ranked = sorted(entry.items(), key=lambda item: -_number(item[1]["logprob"]))
    return {int(token): _number(value["logprob"]) for token, value in ranked[:topk]}
