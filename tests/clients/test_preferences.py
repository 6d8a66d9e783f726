"""Reference log-probabilities: how a sampler and a trainer are asked, and which token each answer belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from loops_sdk import (
    Datum,
    EncodedTextChunk,
    ImageChunk,
    ModelInput,
    SamplingClient,
    TensorData,
    TrainingClient,
    attach_reference_logprobs_async,
    errors,
)

COMPLETIONS = "POST /v1/completions"
Make = Callable[..., SamplingClient]


@pytest.fixture(autouse=True)
def sampler(service: Any, reply: Callable[..., Any]) -> None:
    """A sampler whose log-probability of token t is -t / 10, so that every answer shows which token it is of."""

    async def complete(_request: Any) -> Any:
        prompt = service.asked[-1].body["prompt"]
        logprobs = [None, *({str(token): {"logprob": -token / 10, "rank": 1}} for token in prompt[1:])]
        choice = {"index": 0, "finish_reason": "length", "token_ids": [7], "logprobs": {"token_logprobs": [-0.5]}}
        return reply(200, {"choices": [{**choice, "prompt_logprobs": logprobs, "prompt_token_ids": prompt}]})

    service.on[COMPLETIONS] = complete


def of(data: list[Datum]) -> list[Any]:
    return [pytest.approx(datum.loss_fn_inputs["reference_logprobs"].tolist()) for datum in data]


async def test_a_sampler_is_asked_for_the_sequence_and_its_last_target(sampling: Make, service: Any) -> None:
    data = [
        Datum([1, 2, 3], {"target_tokens": [2, 3, 9], "label": [1, 1, 1]}),
        Datum([4, 5, 6], {"target_tokens": [-100, 6, -100]}),
        Datum([7, 8]),
        Datum([1, 2, 3], {"target_tokens": [2, 3, 4], "mask": [0, 1, 1]}),
        Datum([3], {"target_tokens": [4]}),
        Datum([3]),
    ]
    found = await attach_reference_logprobs_async(data, sampling())
    prompts = [[1, 2, 3, 9], [4, 5, 6], [7, 8], [1, 2, 3, 4], [3, 4], [3]]
    asked = [one.body["prompt"] for one in service.asked if one.line == COMPLETIONS]
    assert sorted(asked) == sorted(prompts)
    assert of(found) == [[-0.2, -0.3, -0.9], [0, -0.6, 0], [-0.8, 0], [0, -0.3, -0.4], [-0.4], [0]]
    for before, after in zip(data, found, strict=True):
        assert after.loss_fn_inputs["reference_logprobs"].dtype == "float32"
        assert "reference_logprobs" not in before.loss_fn_inputs
        assert after.model_input == before.model_input
        rest = {name: value for name, value in after.loss_fn_inputs.items() if name != "reference_logprobs"}
        assert rest == before.loss_fn_inputs


async def test_a_trainer_is_asked_with_one_forward(training: TrainingClient, service: Any, reply: Any) -> None:
    logprobs = [[-0.1, 0.0, -0.3], [-0.5, 0.0]]

    async def answer(_request: Any) -> Any:
        outputs = [{"logprobs": values} for values in logprobs]
        return reply(200, {"status": "done", "result": {"loss": 1.0, "loss_fn_outputs": outputs}})

    service.on["GET /operations/op-0"] = answer
    any_targets = Datum([1, 2, 3], {"target_tokens": [9, -100, 9], "advantages": [1.0, 1.0, 1.0]})
    found = await attach_reference_logprobs_async((any_targets, Datum([7, 8])), training)
    assert of(found) == logprobs
    assert service.lines("POST") == ["POST /forward"]
    sent = [datum["loss_fn_inputs"] for datum in service.last("POST /forward").body["data"]]
    assert [list(inputs) for inputs in sent] == [["target_tokens"], ["target_tokens"]]
    assert [inputs["target_tokens"]["data"] for inputs in sent] == [[9, -100, 9], [8, -100]]


async def test_what_is_there_already_is_replaced_in_the_copy(sampling: Make) -> None:
    old = Datum([1, 2], {"target_tokens": [2, 3], "reference_logprobs": [5.0, 5.0]})
    (new,) = await attach_reference_logprobs_async([old], sampling())
    assert of([new]) == [[-0.2, -0.3]]
    assert old.loss_fn_inputs["reference_logprobs"] == TensorData([5.0, 5.0])


async def test_a_sampler_is_not_asked_about_everything_at_once(sampling: Make, service: Any) -> None:
    under_way, most, release = 0, 0, asyncio.Event()
    complete = service.on[COMPLETIONS]

    async def count(request: Any) -> Any:
        nonlocal under_way, most
        answer = await complete(request)
        under_way += 1
        most = max(most, under_way)
        if under_way == 32:
            release.set()
        await release.wait()
        under_way -= 1
        return answer

    service.on[COMPLETIONS] = count
    data = [Datum([number, number + 1]) for number in range(80)]
    found = await attach_reference_logprobs_async(data, sampling())
    assert most == 32
    assert of(found) == [[-(number + 1) / 10, 0.0] for number in range(80)]


async def test_one_refusal_ends_the_whole(sampling: Make, service: Any, reply: Any) -> None:
    complete = service.on[COMPLETIONS]

    async def refuse(request: Any) -> Any:
        if service.asked[-1].body["prompt"] == [1, 2, 3]:
            return reply(400, {"error": {"message": "too long", "type": "BadRequestError", "code": 400}})
        return await complete(request)

    service.on[COMPLETIONS] = refuse
    client = sampling()
    with pytest.raises(errors.BadRequestError, match="too long"):
        await attach_reference_logprobs_async([Datum([1, 2]), Datum([1, 2, 3]), *[Datum([4, 5])] * 40], client)
    assert repr(client).endswith("0 under way>")


@pytest.mark.parametrize("logprobs", [[None, {"2": {"logprob": -1.0}}, None], [None]])
async def test_a_sampler_that_leaves_a_token_out(sampling: Make, service: Any, reply: Any, logprobs: Any) -> None:
    async def answer(_request: Any) -> Any:
        choice = {"index": 0, "finish_reason": "length", "token_ids": [7], "logprobs": {"token_logprobs": [-0.5]}}
        return reply(200, {"choices": [{**choice, "prompt_logprobs": logprobs}]})

    service.on[COMPLETIONS] = answer
    with pytest.raises(errors.ProtocolError, match="unexpected completion"):
        await attach_reference_logprobs_async([Datum([1, 2], {"target_tokens": [2, 3]})], sampling())


async def test_cancelled_it_leaves_no_question_behind(sampling: Make, service: Any) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def hold(_request: Any) -> None:
        asked.set()
        await release.wait()

    service.on[COMPLETIONS] = hold
    client = sampling()
    call = asyncio.create_task(attach_reference_logprobs_async([Datum([1, 2])] * 40, client))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert repr(client).endswith("0 under way>")
    release.set()


IMAGE = ModelInput((EncodedTextChunk([1]), ImageChunk("aGk=", 1)))
REFUSED: dict[str, tuple[Any, str]] = {
    "no list": (Datum([1]), r"^data: expected a list of Datum, got Datum; one of them is \[datum\]$"),
    "empty": ([], r"^data: expected at least one Datum"),
    "not shifted": (
        [Datum([1, 2]), Datum([1, 2, 3], {"target_tokens": [2, 7, 4]})],
        r"^data\[1\].loss_fn_inputs\['target_tokens'\]\[1\]: .* it must be 3 or -100, got 7; ask a TrainingClient",
    ),
    "the input itself": ([Datum([1, 2], {"target_tokens": [1, 2]})], r"it must be 2 or -100, got 1"),
    "two per position": (
        [Datum([1, 2], {"target_tokens": [[2, 3], [2, 3]]})],
        r"^data\[0\]: expected one target per token, got shape \[2, 2\]$",
    ),
    "no tokens": ([Datum([])], r"^data\[0\]: expected one target per token, got shape \[0\]$"),
    "image": (
        [Datum(IMAGE, {"target_tokens": [2, 3]})],
        r"^data\[0\].model_input: chunks\[1\]: an image has no token ids; ask a TrainingClient$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_a_sampler_cannot_score_is_refused_before_it_is_asked(
    sampling: Make, service: Any, name: str
) -> None:
    data, message = REFUSED[name]
    with pytest.raises(errors.InvalidInputError, match=message):
        await attach_reference_logprobs_async(data, sampling())
    assert service.asked == []


async def test_the_reference_is_a_client(service: Any) -> None:
    with pytest.raises(
        errors.InvalidInputError, match=r"^reference: expected SamplingClient or TrainingClient, got 'm'"
    ):
        await attach_reference_logprobs_async([Datum([1])], "m")  # type: ignore[arg-type]
