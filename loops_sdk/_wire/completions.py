"""The sampler's completion: from its reply to a `SampleResult`, in all the variants that vLLM versions and gateways
write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loops_sdk.errors import ProtocolError
from loops_sdk.types import SampledSequence, SampleResult
from loops_sdk.types._checks import shown

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
        raise ProtocolError(f"unexpected completion: {type(error).__name__}: {str(error)[:200]}") from None


def _sample_result(reply: Any, headers: Mapping[str, str], topk: int, sent: Sequence[int] | None) -> SampleResult:
    choices = sorted(reply["choices"], key=lambda choice: choice.get("index", 0))
    first = choices[0]
    entries = first.get("prompt_logprobs") or reply.get("prompt_logprobs")
    repeated = first.get("prompt_token_ids") or reply.get("prompt_token_ids")
    prompt = _prompt(None if repeated is None else _tokens(repeated), sent)
    return SampleResult(
        sequences=[_sequence(choice) for choice in choices],
        policy_version=policy_version(reply, headers),
        prompt_logprobs=None if entries is None else _own_logprobs(entries, prompt),
        topk_prompt_logprobs=_topk(entries, topk) if entries is not None and topk else None,
        prompt_token_ids=prompt,
    )


def _prompt(repeated: list[int] | None, sent: Sequence[int] | None) -> list[int] | None:
    """The prompt as the sampler read it: not longer and not shorter than it was sent."""
    if repeated is None:
        return None if sent is None else [int(token) for token in sent]
    if sent is not None and len(repeated) != len(sent):
        raise ProtocolError(f"unexpected completion: a prompt of {len(repeated)} tokens, {len(sent)} were sent")
    return repeated


def policy_version(reply: Any, headers: Mapping[str, str]) -> int | None:
    """The version that served, from header or body, the older one where they differ; `None` when neither says."""
    told = [value for value in (headers.get(POLICY_VERSION), reply.get("policy_version")) if value is not None]
    return min(map(_version, told), default=None)


def _version(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) >= 0:
        return int(value)
    raise ProtocolError(f"unexpected completion: expected a policy version, got {shown(value)}")


def _sequence(choice: Mapping[str, Any]) -> SampledSequence:
    logprobs = choice.get("logprobs") or {}
    tokens = choice.get("token_ids")
    if tokens is None:
        tokens = [_token_id(text) for text in logprobs["tokens"]]
    values = _numbers(logprobs.get("token_logprobs") or [])
    if values and len(values) != len(tokens):
        raise ProtocolError(f"unexpected completion: {len(tokens)} tokens with {len(values)} logprobs")
    return SampledSequence(_tokens(tokens), values, _reason(choice.get("finish_reason") or "unknown"))


def _token_id(text: str) -> int:
    number = text.removeprefix(_TOKEN_PREFIX)
    if number == text or not (number.isascii() and number.isdigit()):
        raise ProtocolError(f"unexpected completion: token {shown(text)} is not of the form {_TOKEN_PREFIX}<int>")
    return int(number)


def _tokens(values: Any) -> list[int]:
    """Token ids as they must be: a text of digits would pass for some, one by one."""
    # All types at once: one by one they would take a third of what a sample costs.
    if not isinstance(values, list) or not {int}.issuperset(map(type, values)) or min(values, default=0) < 0:
        raise ProtocolError(f"unexpected completion: expected token ids, got {shown(values)}")
    return values


def _reason(value: Any) -> str:
    if not isinstance(value, str):
        raise ProtocolError(f"unexpected completion: expected a finish_reason, got {shown(value)}")
    return value


def _numbers(values: Any) -> list[float]:
    if isinstance(values, list) and {float}.issuperset(map(type, values)):
        return values
    return [_number(value) for value in values]


def _number(value: Any) -> float:
    if isinstance(value, str | bool):
        raise ProtocolError(f"unexpected completion: expected a number, got {shown(value)}")
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
    return {_token_id(_TOKEN_PREFIX + token): _number(value["logprob"]) for token, value in ranked[:topk]}
