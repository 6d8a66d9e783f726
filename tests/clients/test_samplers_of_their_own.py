"""`ServiceClient.create_sampling_client`: what is sent, lost answers, readiness, and whose connections are used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loops_sdk import ServiceClient, errors

ADAPTER = "bt://loops:r1/sampler_weights/step-1"
CREATE, LIST = "POST /v1/loops/samplers", "GET /v1/loops/samplers"


async def create(client: ServiceClient, **options: Any) -> Any:
    return await client.create_sampling_client_async("acme/model", **options)


async def test_what_is_sent_and_what_comes_back(client: ServiceClient, service: Any) -> None:
    sampling = await create(client, max_seq_len=512, replicas=2)
    assert service.last(CREATE).body == {
        "session_id": "s1",
        "base_model": "acme/model",
        "max_seq_length": 512,
        "num_replicas": 2,
    }
    assert sampling.base_model == "acme/model"
    assert sampling.min_policy_version is None
    assert (await sampling.sample_async([1, 2])).sequences[0].tokens == [7, 8]
    await create(client)
    assert service.last(CREATE).body == {"session_id": "s1", "base_model": "acme/model"}


async def test_it_follows_whatever_weights_are_current(client: ServiceClient, service: Any) -> None:
    sampling = await create(client)
    for version in (2, 5, 4):
        service.publish(version)
        assert (await sampling.sample_async([1, 2])).policy_version == version
    assert "X-Min-Policy-Version" not in service.last("POST /v1/completions").headers


async def test_a_path_is_not_supported_and_the_way_to_it_is_told(client: ServiceClient, service: Any) -> None:
    for unsupported in (errors.UnsupportedError, NotImplementedError):
        with pytest.raises(unsupported, match=r"^model_path: .*use TrainingClient.create_sampling_client"):
            await client.create_sampling_client_async("acme/model", "bt://loops:r1/sampler_weights/a")
    assert service.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_model": 5}, r"^base_model: expected a non-empty string"),
        ({"timeout": 0}, r"^timeout: expected a value > 0, got 0"),
        ({"ready_timeout": "1h"}, r"^ready_timeout: expected a finite number"),
        ({"max_seq_len": 0}, r"^max_seq_len: expected a value >= 1"),
        ({"replicas": True}, r"^replicas: expected a whole number, got True"),
    ],
)
async def test_arguments_are_checked_before_anything_is_sent(
    client: ServiceClient, service: Any, arguments: Any, message: str
) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        await client.create_sampling_client_async(**{"base_model": "acme/model", **arguments})
    assert service.asked == []


# ---------------------------------------------------------------- of a checkpoint


async def test_a_sampler_of_one_checkpoint(client: ServiceClient, service: Any) -> None:
    limits = {"timeout": 9.0, "ready_timeout": 9.0, "max_seq_len": 64, "replicas": 2}
    made = await client.create_sampling_client_from_checkpoint_async(model_path=ADAPTER, **limits)
    wanted = {"session_id": "s1", "model_path": ADAPTER, "max_seq_length": 64, "num_replicas": 2}
    assert service.last(CREATE).body == wanted
    assert made.base_model == "acme/model"
    assert (await made.sample_async([1, 2])).sequences[0].tokens == [7, 8]


async def test_a_checkpoint_that_is_not_there_makes_nothing(client: ServiceClient, service: Any) -> None:
    with pytest.raises(errors.NotFoundError, match="sampler_weights/other"):
        await client.create_sampling_client_from_checkpoint_async("bt://loops:r1/sampler_weights/other")
    assert service.lines(CREATE) == []


@pytest.mark.parametrize("path", ["bt://loops:r1/weights/step-1", "step-1", None])
async def test_what_no_sampler_loads_is_refused_before_anything_is_sent(
    client: ServiceClient, service: Any, path: Any
) -> None:
    with pytest.raises(errors.InvalidInputError, match=r"^model_path: expected "):
        await client.create_sampling_client_from_checkpoint_async(path)
    assert service.asked == []


async def test_its_lost_answer_is_looked_up_by_the_base_model(client: ServiceClient, service: Any, reply: Any) -> None:
    async def lose(_request: Any) -> Any:
        service.make_alone()
        service.make_alone(base_model="acme/other")
        return reply(504)

    service.on[CREATE] = lose
    made = await client.create_sampling_client_from_checkpoint_async(ADAPTER)
    assert (made.sampler_id, service.lines(CREATE)) == ("alone1", [CREATE])


# ---------------------------------------------------------------- lost answers


@pytest.mark.parametrize("how", ["reset", 502, 504, "garbled"])
async def test_a_lost_answer_is_looked_up_and_the_create_not_repeated(
    client: ServiceClient, service: Any, reply: Any, how: Any
) -> None:
    """Beside it are: an older one, one of another model, and the paired one of a run, all newer in the list."""

    async def lose(request: Any) -> Any:
        service.make_alone(created_at="2026-01-02T00:00:00Z")
        service.make_alone(created_at="2026-01-03T00:00:00Z", base_model="acme/other")
        service.make_alone(created_at="2026-01-01T12:00:00Z")  # listed first, but older: another program's
        service.sampler_made = True
        if how == "reset":
            request.transport.abort()
        return reply(200, {"sampler": {"id": "alone2"}}) if how == "garbled" else reply(504 if how == "reset" else how)

    await client.create_lora_training_client_async("acme/model")
    service.make_alone(created_at="2026-01-04T00:00:00Z")  # was there before
    service.sampler_ids = {"created_at": "2026-01-09T00:00:00Z"}  # the paired one is the newest of all
    service.on[CREATE] = lose
    await create(client)
    assert service.lines(CREATE) == [CREATE]
    assert service.lines("GET /v1/loops/samplers/") == ["GET /v1/loops/samplers/alone2"]


async def test_two_creates_never_take_the_same_sampler(client: ServiceClient, service: Any, reply: Any) -> None:
    async def lose(_request: Any) -> Any:
        service.make_alone()
        return reply(502)

    service.on[CREATE] = lose
    await asyncio.gather(create(client), create(client), create(client))
    assert sorted(service.lines("GET /v1/loops/samplers/")) == [
        f"GET /v1/loops/samplers/alone{number}" for number in (1, 2, 3)
    ]


async def test_a_create_that_made_nothing_fails_with_its_own_error(
    client: ServiceClient, service: Any, reply: Any
) -> None:
    async def lose(_request: Any) -> Any:
        return reply(504, {"error": "gateway timed out"})

    service.on[CREATE] = lose
    with pytest.raises(errors.ServerFailureError, match="gateway timed out") as caught:
        await create(client)
    assert caught.value.session_id == "s1"
    assert service.lines(CREATE) == [CREATE]


async def test_a_refused_create_is_told_at_once(client: ServiceClient, service: Any, reply: Any) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(400, {"message": "no such model"})

    service.on[CREATE] = refuse
    with pytest.raises(errors.BadRequestError, match="no such model"):
        await create(client)
    assert service.lines(LIST) == [LIST]


# ---------------------------------------------------------------- readiness and the end


async def test_a_wait_that_runs_out_tells_session_and_sampler(client: ServiceClient, service: Any) -> None:
    service.sampler_status = ["LOADING_MODEL"]
    message = r"the sampler alone1 was not ready within 0.1 s; it was LOADING_MODEL"
    with pytest.raises(errors.RequestTimeoutError, match=message) as caught:
        await create(client, ready_timeout=0.1)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", None)


async def test_a_sleeping_one_is_woken_once_and_a_dead_one_raises(client: ServiceClient, service: Any) -> None:
    service.sampler_ids = {"model_id": "m1", "deployment_id": "d1"}
    service.deployment_status = ["SCALED_TO_ZERO", "SCALED_TO_ZERO", "WAKING_UP", "ACTIVE"]
    await create(client)
    assert len(service.lines("/wake")) == 1
    service.deployment_status = ["BUILD_FAILED"]
    with pytest.raises(errors.DeploymentFailedError, match="the sampler alone2 is BUILD_FAILED") as caught:
        await create(client)
    assert caught.value.session_id == "s1"


@pytest.mark.parametrize("line", [LIST, CREATE, "GET /v1/loops/samplers/alone1"])
async def test_cancelling_in_the_middle_leaves_the_client_usable(
    client: ServiceClient, service: Any, line: str
) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any) -> None:
        arrived.set()
        await release.wait()

    service.on[line] = hang
    call = asyncio.create_task(create(client))
    async with asyncio.timeout(5):
        await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    release.set()
    del service.on[line]
    assert await create(client)


async def test_they_end_with_their_service(client: ServiceClient, service: Any) -> None:
    sampling = await create(client)
    await client.aclose()
    with pytest.raises(errors.ClientClosedError):
        await sampling.sample_async([1])
    with pytest.raises(errors.ClientClosedError):
        await create(client)
