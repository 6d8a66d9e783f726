"""Completions as vLLM of several ages, gateways and our own sampler write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from multidict import CIMultiDict

from loops_sdk import ProtocolError, SampledSequence, SampleResult
from loops_sdk._wire.completions import sample_result

NEW: dict[str, Any] = {
    "index": 0,
    "finish_reason": "stop",
    "token_ids": [5, 6],
    "logprobs": {"tokens": ["token_id:5", "token_id:6"], "token_logprobs": [-0.5, -1.5]},
}
OLD: dict[str, Any] = {name: value for name, value in NEW.items() if name != "token_ids"}
PROMPT = [None, {"7": {"logprob": -2.0, "rank": 3}, "8": {"logprob": -0.25, "rank": 1}}]


def read(choice: dict[str, Any], topk: int = 0, prompt: Any = None, **body: Any) -> Any:
    headers = CIMultiDict(body.pop("headers", {}))
    return sample_result({"choices": [choice], **body}, headers, topk_prompt_logprobs=topk, prompt=prompt)


@pytest.mark.parametrize("choice", [NEW, OLD])
def test_tokens_in_either_form(choice: dict[str, Any]) -> None:
    assert read(choice).sequences == [SampledSequence([5, 6], [-0.5, -1.5], "stop")]


def test_all_that_a_sampler_may_say() -> None:
    found = read({**NEW, "prompt_logprobs": PROMPT, "prompt_token_ids": [1, 7]}, topk=1, policy_version=3)
    assert found == SampleResult(
        sequences=[SampledSequence(tokens=[5, 6], logprobs=[-0.5, -1.5], stop_reason="stop")],
        policy_version=3,
        prompt_logprobs=[None, -2.0],
        topk_prompt_logprobs=[None, {8: -0.25}],
        prompt_token_ids=[1, 7],
    )


def test_choices_are_put_in_order() -> None:
    choices = [{**NEW, "index": 1, "token_ids": [1, 1]}, {**NEW, "index": 0}]
    found = sample_result({"choices": choices}, CIMultiDict())
    assert [sequence.tokens for sequence in found.sequences] == [[5, 6], [1, 1]]


def test_what_may_be_missing() -> None:
    bare = read({"token_ids": [5], "logprobs": None, "finish_reason": None})
    assert bare.sequences == [SampledSequence([5], [], "unknown")]
    assert (bare.policy_version, bare.prompt_logprobs, bare.topk_prompt_logprobs, bare.prompt_token_ids) == (None,) * 4
    assert read({"token_ids": [], "finish_reason": "length"}).sequences == [SampledSequence([], [], "length")]


def test_a_logprob_that_is_null_is_nan() -> None:
    odd = {**NEW, "logprobs": {"token_logprobs": [None, -1]}}
    assert math.isnan(read(odd).sequences[0].logprobs[0])


@pytest.mark.parametrize(
    ("headers", "body", "version"),
    [
        ({"x-policy-version": "3"}, {}, 3),
        ({}, {"policy_version": 2}, 2),
        ({}, {}, None),
        ({"x-policy-version": "3"}, {"policy_version": 2}, 2),  # the older one: a pin must hold for what is told
        ({"x-policy-version": "2"}, {"policy_version": 3.0}, 2),
    ],
)
def test_the_version_that_served(headers: dict[str, str], body: dict[str, Any], version: int | None) -> None:
    assert read(NEW, headers=headers, **body).policy_version == version


@pytest.mark.parametrize("where", ["choice", "reply", "request"])
def test_prompt_logprobs_wherever_the_prompt_is_told(where: str) -> None:
    own = {"prompt_logprobs": PROMPT, **({"prompt_token_ids": [1, 7]} if where == "choice" else {})}
    body = {"prompt_token_ids": [1, 7]} if where == "reply" else {}
    found = read({**NEW, **own}, topk=1, prompt=np.array([1, 7]) if where == "request" else None, **body)
    assert found.prompt_logprobs == [None, -2.0]
    assert found.topk_prompt_logprobs == [None, {8: -0.25}]
    assert found.prompt_token_ids == [1, 7]


def test_prompt_logprobs_beside_the_choices() -> None:
    found = read(NEW, prompt_logprobs=PROMPT, prompt_token_ids=[1, 7])
    assert found.prompt_logprobs == [None, -2.0]
    assert found.topk_prompt_logprobs is None


UNEXPECTED: dict[str, Any] = {
    "no object": [],
    "nothing": None,
    "no choices": {},
    "empty": {"choices": []},
    "choices of another kind": {"choices": 5},
    "choice of another kind": {"choices": [5]},
    "no tokens": {"choices": [{"logprobs": {}}]},
    "tokens as text": {"choices": [{"logprobs": {"tokens": ["Hello"]}}]},
    "token id of another kind": {"choices": [{"logprobs": {"tokens": ["token_id:x"]}}]},
    "lengths": {"choices": [{**NEW, "token_ids": [5]}]},
    "logprob of another kind": {"choices": [{**NEW, "logprobs": {"token_logprobs": ["a", "b"]}}]},
    "tokens as digits": {"choices": [{**NEW, "token_ids": "56"}]},
    "tokens that are true": {"choices": [{**NEW, "token_ids": [True, 6]}]},
    "negative token": {"choices": [{**NEW, "token_ids": [5, -6]}]},
    "fractional token": {"choices": [{**NEW, "token_ids": [5, 6.5]}]},
    "token id with a line": {"choices": [{**OLD, "logprobs": {"tokens": ["token_id:1_0"]}}]},
    "token id below zero": {"choices": [{**OLD, "logprobs": {"tokens": ["token_id:-1"]}}]},
    "logprob as digits": {"choices": [{**NEW, "logprobs": {"token_logprobs": ["1", "2"]}}]},
    "finish reason of another kind": {"choices": [{**NEW, "finish_reason": {"why": 1}}]},
    "version below zero": {"choices": [NEW], "policy_version": -1},
    "version that is true": {"choices": [NEW], "policy_version": True},
    "fractional version": {"choices": [NEW], "policy_version": 2.5},
    "version without end": {"choices": [NEW], "policy_version": math.inf},
    "infinite token": {"choices": [{"token_ids": [math.inf]}]},
    "index of another kind": {"choices": [{**NEW, "index": "x"}, {**NEW, "index": 1}]},
    "version of another kind": {"choices": [NEW], "policy_version": "new"},
    "prompt logprobs without prompt": {"choices": [{**NEW, "prompt_logprobs": PROMPT}]},
    "prompt too short": {"choices": [{**NEW, "prompt_logprobs": PROMPT, "prompt_token_ids": [1]}]},
    "prompt of other tokens": {"choices": [{**NEW, "prompt_logprobs": PROMPT, "prompt_token_ids": [1, 9]}]},
    "prompt logprobs of another kind": {"choices": [{**NEW, "prompt_logprobs": [5], "prompt_token_ids": [1]}]},
}


@pytest.mark.parametrize("name", UNEXPECTED)
def test_what_no_sampler_should_send_is_a_protocol_error(name: str) -> None:
    with pytest.raises(ProtocolError, match=r"^unexpected completion: "):
        sample_result(UNEXPECTED[name], CIMultiDict())


@pytest.mark.parametrize("version", ["nan", "1_0", "-1", "\u0663", "", "9" * 5000])
def test_a_version_in_the_header_that_is_none(version: str) -> None:
    with pytest.raises(ProtocolError, match=r"^unexpected completion: "):
        read(NEW, headers={"x-policy-version": version})


@pytest.mark.parametrize("repeated", [[7], [7, 8, 9], [7, "8"], "78"])
def test_a_prompt_that_is_not_the_one_that_was_sent(repeated: Any) -> None:
    with pytest.raises(ProtocolError, match=r"^unexpected completion: "):
        read({**NEW, "prompt_token_ids": repeated}, prompt=[7, 8])


def test_an_alternative_that_is_no_token() -> None:
    entries = [None, {"7": {"logprob": -2.0}, "1_0": {"logprob": -1.0}}]
    with pytest.raises(ProtocolError, match=r"^unexpected completion: token 'token_id:1_0'"):
        read({**NEW, "prompt_logprobs": entries}, topk=2, prompt=[3, 7])
