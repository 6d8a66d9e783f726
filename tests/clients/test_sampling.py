"""`SamplingClient`: which model is named, which weights are new enough, and what a sampler may not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from loops_sdk import (
    EncodedTextChunk,
    ImageChunk,
    LocalDeployment,
    ModelInput,
    SampledSequence,
    SamplingClient,
    SamplingParams,
    errors,
)
from loops_sdk.instrumentation import RequestRetried, SampleFinished

COMPLETIONS = "POST /v1/completions"
MODELS = "GET /v1/models"
Make = Callable[..., SamplingClient]


# ---------------------------------------------------------------- one request


async def test_what_is_sent_and_what_comes_back(sampling: Make, service: Any) -> None:
    client = sampling()
    params = SamplingParams(temperature=0.5, top_p=0.9, top_k=5, max_tokens=4, seed=3, stop=["END"])
    result = await client.sample_async(ModelInput.from_ints([1, 2]), 2, params, affinity_key="user-7")
    assert result.sequences == [SampledSequence([7, 8], [-0.5, -1.0], "length")] * 2
    assert (result.policy_version, result.prompt_logprobs, result.prompt_token_ids) == (0, None, [1, 2])
    asked = service.last(COMPLETIONS)
    assert asked.body == {
        "model": "/models/base",
        "prompt": [1, 2],
        "n": 2,
        "max_tokens": 4,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 3,
        "logprobs": 0,
        "stop": ["END"],
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
    }
    assert asked.headers["X-Affinity-Key"] == "user-7"
    assert "X-Min-Policy-Version" not in asked.headers


async def test_token_ids_as_stop(sampling: Make, service: Any) -> None:
    await sampling().sample_async([1], sampling_params=SamplingParams(stop=[5, 6]))
    body = service.last(COMPLETIONS).body
    assert (body["stop_token_ids"], "stop" in body) == ([5, 6], False)


@pytest.mark.parametrize(
    "prompt",
    [
        [1, 2, 3],
        (1, 2, 3),
        np.array([1, 2, 3], dtype=np.int32),
        torch.tensor([1, 2, 3]),
        ModelInput((EncodedTextChunk([1]), EncodedTextChunk([2, 3]))),
    ],
)
async def test_prompts_in_all_forms(sampling: Make, service: Any, prompt: Any) -> None:
    await sampling().sample_async(prompt)
    assert service.last(COMPLETIONS).body["prompt"] == [1, 2, 3]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "text": (
        {"prompt": "Hello"},
        r"^prompt: expected token ids, got text 'Hello'; tokenizer\.encode",
    ),
    "nothing": ({"prompt": []}, r"^prompt: expected at least one token, got none$"),
    "empty": ({"prompt": ModelInput.empty()}, r"^prompt: expected at least one token, got none$"),
    "negative": ({"prompt": [1, -2]}, r"^prompt: token ids are >= 0, got -2$"),
    "image in between": (
        {"prompt": ModelInput((EncodedTextChunk([1]), ImageChunk("aGk=", 1), EncodedTextChunk([2])))},
        r"^prompt: chunks\[1\]: an image has no token ids$",
    ),
    "image": ({"prompt": ModelInput((ImageChunk("aGk=", 1),))}, r"^prompt: chunks\[0\]: an image has no token ids$"),
    "num_samples": ({"num_samples": 0}, r"^num_samples: expected a value >= 1, got 0$"),
    "topk": ({"topk_prompt_logprobs": -1}, r"^topk_prompt_logprobs: expected a value >= 0, got -1$"),
    "params": ({"sampling_params": {"seed": 1}}, r"^sampling_params: expected SamplingParams\(...\), got dict$"),
    "affinity": ({"affinity_key": "a\r\nX-Evil: 1"}, r"^affinity_key: expected printable ASCII, got 'a"),
    "affinity kind": ({"affinity_key": 5}, r"^affinity_key: expected a non-empty string"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_arguments_are_checked_before_anything_is_sent(sampling: Make, service: Any, name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(errors.InvalidInputError, match=message):
        await sampling().sample_async(**{"prompt": [1], **options})
    assert service.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_model": ""}, r"^base_model: "),
        ({"deployment": "http://x"}, r"^deployment: expected LocalDeployment\(base_url\) or .*got 'http://x'$"),
        ({"checkpoint_path": "step-1"}, r"^checkpoint_path: expected bt://loops:"),
        ({"min_policy_version": -1}, r"^min_policy_version: expected a value >= 0, got -1$"),
        ({"timeout": 0}, r"^timeout: expected a value > 0, got 0$"),
        ({"ready_timeout": 0}, r"^ready_timeout: expected a value > 0, got 0$"),
        ({"sampler_id": ""}, r"^sampler_id: expected a non-empty string"),
        ({"session_id": 7}, r"^session_id: expected a non-empty string"),
        ({"api_key": lambda: 7}, r"^api_key: expected a string, or a function that gives one; .* int$"),
    ],
)
def test_wrong_arguments_of_the_client(sampling: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        sampling(**options)


async def test_no_limit_uses_what_the_context_holds(sampling: Make, service: Any) -> None:
    client = sampling()
    await client.sample_async([1] * 10)
    assert service.last(COMPLETIONS).body["max_tokens"] == 54
    await client.sample_async([1] * 200)  # the sampler says what is wrong with that
    assert service.last(COMPLETIONS).body["max_tokens"] == 1
    service.models = [{"id": "base"}]
    await sampling().sample_async([1])
    assert "max_tokens" not in service.last(COMPLETIONS).body


@pytest.mark.parametrize(("include", "topk", "sent"), [(False, 0, None), (True, 0, 0), (True, 2, 2), (False, 2, 2)])
async def test_prompt_logprobs(sampling: Make, service: Any, include: bool, topk: int, sent: int | None) -> None:
    result = await sampling().sample_async([1, 2], include_prompt_logprobs=include, topk_prompt_logprobs=topk)
    assert service.last(COMPLETIONS).body.get("prompt_logprobs") == sent
    assert result.prompt_logprobs == (None if sent is None else [None, -1.5])
    assert result.topk_prompt_logprobs == ([None, {2: -1.5}] if topk else None)


async def test_compute_logprobs(sampling: Make, service: Any) -> None:
    client = sampling()
    assert await client.compute_logprobs_async([1, 2, 3]) == [None, -1.5, -1.5]
    assert await client.compute_logprobs_async(ModelInput.from_ints([1])) == [None]
    body = service.last(COMPLETIONS).body
    assert (body["max_tokens"], body["prompt_logprobs"], body["temperature"]) == (1, 0, 0.0)


async def test_a_sampler_without_prompt_logprobs_is_an_error(sampling: Make, service: Any, reply: Any) -> None:
    async def bare(_request: Any) -> Any:
        return reply(200, {"choices": [{"token_ids": [1], "finish_reason": "length"}]})

    service.on[COMPLETIONS] = bare
    with pytest.raises(errors.ProtocolError, match="no prompt_logprobs, which were asked for"):
        await sampling().compute_logprobs_async([1, 2])


async def test_an_unexpected_completion_names_the_call(sampling: Make, service: Any, reply: Any) -> None:
    async def odd(_request: Any) -> Any:
        return reply(200, {"choices": [{"text": "Hello"}]})

    service.on[COMPLETIONS] = odd
    with pytest.raises(errors.ProtocolError, match="unexpected completion") as caught:
        await sampling().sample_async([1])
    assert (caught.value.operation, caught.value.url) == ("sample", f"{service.sampler}/v1/completions")


async def test_too_few_choices_are_an_error(sampling: Make, service: Any, reply: Any) -> None:
    async def one(_request: Any) -> Any:
        return reply(200, {"choices": [{"token_ids": [1], "finish_reason": "stop"}]})

    service.on[COMPLETIONS] = one
    with pytest.raises(errors.ProtocolError, match="1 choices, 3 were asked for"):
        await sampling().sample_async([1], 3)


# ---------------------------------------------------------------- which model


async def test_the_base_is_read_and_never_assumed(sampling: Make, service: Any) -> None:
    client = sampling(base_model="acme/model")
    await asyncio.gather(*(client.sample_async([1]) for _ in range(5)))
    assert {one.body["model"] for one in service.asked if one.line == COMPLETIONS} == {"/models/base"}
    looked = len(service.lines(MODELS))
    await client.sample_async([1])
    assert len(service.lines(MODELS)) == looked  # remembered, for a moment


async def test_a_following_client_notices_the_first_adapter(
    sampling: Make, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loops_sdk._clients.models._FRESH", 0.0)
    client = sampling()
    await client.sample_async([1])
    service.publish(3)
    result = await client.sample_async([1])
    assert (service.last(COMPLETIONS).body["model"], result.policy_version) == ("adapter", 3)
    looked = len(service.lines(MODELS))
    await client.sample_async([1])
    assert len(service.lines(MODELS)) == looked  # with an adapter there is nothing more to look for


async def test_an_adapter_that_was_replaced_is_looked_up_once_more(sampling: Make, service: Any, reply: Any) -> None:
    service.publish(1)
    client = sampling()
    await client.sample_async([1])
    service.models[1] = {**service.models[1], "id": "adapter-v2"}

    async def replaced(_request: Any) -> Any:
        gone = service.asked[-1].body["model"] != "adapter-v2"
        return reply(404, {"error": {"message": "no such model", "code": 404}}) if gone else None

    service.on[COMPLETIONS] = replaced
    await client.sample_async([1])
    assert service.last(COMPLETIONS).body["model"] == "adapter-v2"
    service.models[1] = {**service.models[1], "id": "adapter-v3"}
    tried = len(service.lines(COMPLETIONS))
    with pytest.raises(errors.NotFoundError, match="no such model"):
        await sampling().sample_async([1])
    assert len(service.lines(COMPLETIONS)) == tried + 2


async def test_a_checkpoint_is_named_by_its_path(sampling: Make, service: Any) -> None:
    path = "bt://loops:r1/sampler_weights/step-1"
    service.publish(2)
    service.models.append({"id": path, "parent": "/models/base"})
    await sampling(checkpoint_path=path).sample_async([1])
    assert service.last(COMPLETIONS).body["model"] == path
    await sampling().sample_async([1])  # while a following client follows the live adapter
    assert service.last(COMPLETIONS).body["model"] == "adapter"
    with pytest.raises(
        errors.WeightsNotReadyError, match=r"does not show bt://loops:r1/sampler_weights/other; it shows"
    ):
        await sampling(checkpoint_path="bt://loops:r1/sampler_weights/other").sample_async([1])


async def test_a_sampler_without_base_is_an_error(sampling: Make, service: Any) -> None:
    service.models = []
    with pytest.raises(errors.ProtocolError, match="the sampler shows no base model"):
        await sampling().sample_async([1])


# ---------------------------------------------------------------- which weights


async def test_a_pinned_client_says_so_on_every_call(sampling: Make, service: Any) -> None:
    service.publish(3)
    client = sampling(min_policy_version=3)
    assert client.min_policy_version == 3
    for _ in range(2):
        await client.sample_async([1])
    asked = [one for one in service.asked if one.line == COMPLETIONS]
    assert [one.headers["X-Min-Policy-Version"] for one in asked] == ["3", "3"]
    assert repr(client).endswith(", version >= 3, 0 under way>")


async def test_a_pin_at_version_0_takes_any_weights(sampling: Make, service: Any) -> None:
    client = sampling(min_policy_version=0)
    assert (await client.sample_async([1])).policy_version == 0
    assert (service.last(COMPLETIONS).body["model"], len(service.lines(MODELS))) == ("/models/base", 1)
    assert service.last(COMPLETIONS).headers["X-Min-Policy-Version"] == "0"
    service.publish(2)
    client._connection.models.forget()
    assert (await client.sample_async([1])).policy_version == 2


async def test_a_pin_holds_for_every_kind_of_call_and_every_attempt(sampling: Make, service: Any, reply: Any) -> None:
    async def trouble(_request: Any) -> Any:
        return reply(500) if len(service.lines(COMPLETIONS)) % 2 else None

    service.publish(3)
    service.on[COMPLETIONS] = trouble
    client = sampling(min_policy_version=3)
    await client.compute_logprobs_async([1, 2])
    await client.sample_async([1], 2, include_prompt_logprobs=True, affinity_key="a")
    asked = [one for one in service.asked if one.line == COMPLETIONS]
    assert [one.headers["X-Min-Policy-Version"] for one in asked] == ["3"] * 4


async def test_older_weights_are_an_error_and_no_sample(sampling: Make, service: Any) -> None:
    service.publish(2)
    with pytest.raises(errors.WeightsNotReadyError, match="policy version 2, but this client is pinned to 3") as caught:
        await sampling(min_policy_version=3).sample_async([1])
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.operation, caught.value.url) == ("sample", f"{service.sampler}/v1/completions")
    service.serves = None  # a sampler that does not say is taken at its word
    assert (await sampling(min_policy_version=3).sample_async([1])).policy_version is None


async def test_the_base_is_no_stand_in_for_an_adapter(sampling: Make, service: Any) -> None:
    def publish_later() -> None:
        service.publish(1)

    client = sampling(min_policy_version=1)
    asyncio.get_running_loop().call_later(0.1, publish_later)
    await client.sample_async([1])
    assert {one.body["model"] for one in service.asked if one.line == COMPLETIONS} == {"adapter"}


async def test_an_adapter_that_never_comes(sampling: Make, service: Any) -> None:
    with pytest.raises(errors.WeightsNotReadyError, match="no sampler replica reported policy version 1"):
        await sampling(min_policy_version=1, timeout=0.2).sample_async([1])
    assert service.lines(COMPLETIONS) == []
    await sampling(min_policy_version=0).sample_async([1])  # version 0 is the base model


@pytest.mark.parametrize("status", [409, 412, 425, 503])
async def test_not_ready_yet_is_waited_for(sampling: Make, service: Any, reply: Any, status: int) -> None:
    async def early(_request: Any) -> Any:
        if len(service.lines(COMPLETIONS)) > 2:
            return None
        return reply(status, {"error": {"message": "policy version 3 is not loaded yet"}}, **{"Retry-After": "0"})

    service.publish(3)
    service.on[COMPLETIONS] = early
    assert (await sampling(min_policy_version=3).sample_async([1])).policy_version == 3


@pytest.mark.parametrize("status", [409, 503])
async def test_never_ready_is_told_as_what_it_is(sampling: Make, service: Any, reply: Any, status: int) -> None:
    async def never(_request: Any) -> Any:
        return reply(status, {"error": {"message": "policy version 3 is not loaded yet"}})

    service.publish(3)
    service.on[COMPLETIONS] = never
    with pytest.raises(errors.WeightsNotReadyError, match="version 3 is not loaded") as caught:
        await sampling(min_policy_version=3).sample_async([1])
    assert (caught.value.status, caught.value.attempts, caught.value.operation) == (status, 6, "sample")


# ---------------------------------------------------------------- troubles


async def test_attempts_are_bounded_and_visible(sampling: Make, service: Any, reply: Any) -> None:
    async def trouble(_request: Any) -> Any:
        return reply(500, {"error": {"message": "out of memory"}})

    service.on[COMPLETIONS] = trouble
    client = sampling()
    heard: list[Any] = []
    client._connection.network.caller.emit = heard.append
    with pytest.raises(errors.ServerFailureError, match="out of memory") as caught:
        await client.sample_async([1])
    assert caught.value.attempts == len(service.lines(COMPLETIONS)) == 6
    assert [event.attempt for event in heard if isinstance(event, RequestRetried)] == [1, 2, 3, 4, 5]


async def test_a_sampler_that_hangs_is_left_in_time(sampling: Make, service: Any) -> None:
    release = asyncio.Event()

    async def hang(_request: Any) -> Any:
        await release.wait()

    service.on[COMPLETIONS] = hang
    async with asyncio.timeout(5):
        with pytest.raises(errors.RequestTimeoutError):
            await sampling(timeout=0.2).sample_async([1])
    release.set()


@pytest.mark.parametrize("status", [400, 401, 422])
async def test_a_refusal_is_told_at_once(sampling: Make, service: Any, reply: Any, status: int) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(status, {"error": {"message": "prompt too long", "type": "BadRequestError"}})

    service.on[COMPLETIONS] = refuse
    with pytest.raises(errors.StatusError, match="prompt too long"):
        await sampling().sample_async([1])
    assert service.lines(COMPLETIONS) == [COMPLETIONS]


async def test_many_samples_at_once_and_the_count_of_them(sampling: Make, service: Any) -> None:
    release, all_there = asyncio.Event(), asyncio.Event()

    async def hold(_request: Any) -> Any:
        if len(service.lines(COMPLETIONS)) == 50:
            all_there.set()
        await release.wait()

    service.on[COMPLETIONS] = hold
    client = sampling()
    calls = [asyncio.create_task(client.sample_async([1])) for _ in range(50)]
    await all_there.wait()
    assert repr(client).endswith("current weights, 50 under way>")
    calls[0].cancel()
    release.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert len([one for one in done if not isinstance(one, BaseException)]) == 49
    assert repr(client).endswith("0 under way>")


async def test_a_full_pool_queues(sampling: Make, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_LOOPS_MAX_CONNECTIONS", "4")
    under_way = most = 0

    async def count(_request: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    service.on[COMPLETIONS] = count
    client = sampling()
    await asyncio.gather(*(client.sample_async([1]) for _ in range(200)))
    assert 1 <= most <= 4


async def test_events_count_tokens(sampling: Make) -> None:
    client = sampling()
    heard: list[Any] = []
    client._connection.network.caller.emit = heard.append
    await client.sample_async([1], 3)
    (event,) = heard
    assert isinstance(event, SampleFinished)
    assert (event.tokens, event.policy_version) == (6, 0)


async def test_use_after_close(sampling: Make, service: Any) -> None:
    async with sampling() as client:
        await client.sample_async([1])
    with pytest.raises(errors.ClientClosedError):
        await client.sample_async([1])
    with pytest.raises(errors.ClientClosedError):
        await client.compute_logprobs_async([1])
    await client.aclose()


async def test_close_ends_what_is_under_way(sampling: Make, service: Any) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any) -> Any:
        arrived.set()
        await release.wait()

    service.on[COMPLETIONS] = hang
    client = sampling()
    call = asyncio.create_task(client.sample_async([1]))
    await arrived.wait()
    await client.aclose()
    with pytest.raises(errors.ClientClosedError):
        await call
    release.set()


async def test_the_tokenizer_of_an_unknown_model(sampling: Make, tmp_path: Any) -> None:
    with pytest.raises(errors.InvalidInputError, match=r"base_model: no tokenizer for '.*nothing-here'"):
        await sampling(base_model=str(tmp_path / "nothing-here")).get_tokenizer_async()


def test_facts_without_network(sampling: Make) -> None:
    client = sampling(base_model="acme/model", deployment=LocalDeployment("http://127.0.0.1:9"))
    assert client.base_model == "acme/model"
    assert client.min_policy_version is client.sampler_id is client.session_id is None
    assert repr(client) == "<SamplingClient acme/model at http://127.0.0.1:9, current weights, 0 under way>"
