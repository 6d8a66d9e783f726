"""`ServiceClient.local`: servers that run already, what they are asked, and what they cannot honour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loops_sdk import AdamParams, ServiceClient, TrainingClient, errors
from loops_sdk.instrumentation import Event, OperationMeasured

TOLD = {"base_model": "acme/model", "lora_rank": 8, "max_seq_len": 512, "run_id": "r7"}
WEIGHTS = "bt://loops:r0/weights/step-1"


@pytest.fixture
async def local(service: Any) -> AsyncIterator[ServiceClient]:
    service.status = dict(TOLD)
    async with ServiceClient.local(trainer_url=service.trainer, sampler_url=service.sampler) as made:
        yield made


async def attach(local: ServiceClient, **options: Any) -> TrainingClient:
    return await local.create_lora_training_client_async("acme/model", **{"rank": 8, **options})


async def test_it_attaches_and_makes_nothing(local: ServiceClient, service: Any) -> None:
    assert repr(local) == f"<ServiceClient local trainer={service.trainer} sampler={service.sampler} attached>"
    assert service.asked == []
    training = await attach(local)
    assert service.lines() == ["GET /health", "GET /status"]
    info = training.get_info()
    assert (info.base_model, info.lora_rank, info.max_seq_len, training.run_id) == ("acme/model", 8, 512, "r7")
    await (await training.save_state_async("a"))
    assert service.last("POST /save_state").body == {"name": "a", "trainer_server_id": "r7", "run_id": "r7"}
    publishing = await training.save_weights_and_get_sampling_client_async("b")
    pinned = await publishing
    assert f" at {service.sampler}, version >= 0" in repr(pinned)
    assert (await pinned.sample_async([1, 2])).sequences


async def test_observers_hear_of_its_operations(service: Any) -> None:
    heard: list[Event] = []
    service.status = dict(TOLD)
    async with ServiceClient.local(trainer_url=service.trainer, observers=[heard.append]) as local:
        await (await (await attach(local)).optim_step_async(AdamParams()))
    assert [event.operation for event in heard if event.operation != "trainer_ready"] == ["optim_step"] * 3
    assert any(isinstance(event, OperationMeasured) and event.run_id == "r7" for event in heard)


async def test_a_trainer_that_tells_nothing_is_taken_at_the_callers_word(
    local: ServiceClient, service: Any, reply: Any
) -> None:
    async def unknown(_request: Any) -> Any:
        return reply(404)

    service.status = {"base_model": None, "lora_rank": "8", "run_id": 5, "max_seq_len": True}
    for _ in range(2):
        training = await attach(local, rank=4, max_seq_len=10_000)
        info = training.get_info()
        assert (info.lora_rank, info.max_seq_len, training.run_id) == (4, 10_000, None)
        service.on["GET /status"] = unknown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 16}, r"^rank: asked for 16, but the trainer at {url} has 8; .*change it with init_trainer_server"),
        (
            {"base_model": "b"},
            r"^base_model: asked for 'b', but the trainer at {url} has 'acme/model'; start a trainer",
        ),
        ({"max_seq_len": 513}, r"^max_seq_len: asked for 513, but the trainer at {url} has 512"),
    ],
)
async def test_what_the_trainer_does_not_have_is_refused(
    local: ServiceClient, service: Any, arguments: Any, message: str
) -> None:
    with pytest.raises(errors.InvalidInputError, match=message.format(url=service.trainer)):
        await local.create_lora_training_client_async(**{"base_model": "acme/model", "rank": 8, **arguments})
    assert service.lines("POST") == []
    assert (await attach(local, max_seq_len=512)).get_info().max_seq_len == 512


@pytest.mark.parametrize("arguments", [{"seed": 1}, {"replicas": 1}, {"name": "a"}])
async def test_what_cannot_be_honoured_is_refused_by_name_before_anything_is_sent(
    local: ServiceClient, service: Any, arguments: Any
) -> None:
    name = next(iter(arguments))
    with pytest.raises(errors.InvalidInputError, match=f"^{name}: a server that runs already cannot honour it, got"):
        await attach(local, **arguments)
    assert service.asked == []


async def test_without_a_sampler_nothing_that_needs_one_is_made(service: Any) -> None:
    async with ServiceClient.local(trainer_url=service.trainer) as local:
        with pytest.raises(errors.InvalidInputError, match=r"^with_sampler: this client was made without a sampler_ur"):
            await attach(local, with_sampler=True)
        with pytest.raises(errors.InvalidInputError, match=r"^sampler_url: this client was made without one"):
            await local.create_sampling_client_async("acme/model")
        assert service.asked == []
        training = await attach(local)
        with pytest.raises(errors.InvalidInputError, match=r"^sampler_url: this client knows no paired sampler"):
            await training.create_sampling_client_async("bt://loops:r7/sampler_weights/a")


async def test_a_warm_start_in_the_environment_is_for_control_planes(
    local: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOPS_WARM_START_SAMPLER", "LOOPS_TEAM", "LOOPS_REUSE_FROM_RUN_ID"):
        monkeypatch.setenv(name, "what/ever")
    assert await attach(local)
    assert await attach(local, with_sampler=True)


# ---------------------------------------------------------------- from a checkpoint, and samplers


@pytest.mark.parametrize(("name", "version"), [("from_state", 0), ("from_state_with_optimizer", 5)])
async def test_weights_are_loaded_into_it(local: ServiceClient, service: Any, name: str, version: int) -> None:
    training = await getattr(local, f"create_training_client_{name}_async")(WEIGHTS)
    assert (training.get_info().lora_rank, training.last_policy_version) == (8, version)
    assert service.asked[2].body == {"path": WEIGHTS}
    service.status = {}
    with pytest.raises(errors.ProtocolError, match="does not tell its base model and rank; use create_lora_training"):
        await local.create_training_client_from_state_async(WEIGHTS)


async def test_a_load_that_fails_closes_the_client_and_tells_the_run(
    local: ServiceClient, service: Any, reply: Any
) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(404, {"detail": "no such checkpoint"})

    service.on["POST /load_state"] = refuse
    with pytest.raises(errors.NotFoundError, match="no such checkpoint") as caught:
        await local.create_training_client_from_state_async(WEIGHTS)
    assert (caught.value.session_id, caught.value.run_id) == (None, "r7")
    assert local._trainings == set()


async def test_a_client_of_the_sampler(local: ServiceClient, service: Any) -> None:
    sampling = await local.create_sampling_client_async("acme/model")
    assert (await sampling.sample_async([1, 2])).sequences[0].tokens == [7, 8]
    with pytest.raises(errors.InvalidInputError, match=r"^replicas: a server that runs already cannot honour it"):
        await local.create_sampling_client_async("acme/model", replicas=2)
    with pytest.raises(NotImplementedError, match=r"^model_path: "):
        await local.create_sampling_client_async("acme/model", "bt://loops:r1/sampler_weights/a")


# ---------------------------------------------------------------- no control plane


async def test_there_is_neither_session_nor_control_plane(local: ServiceClient, service: Any) -> None:
    with pytest.raises(errors.LoopsError, match=r"^session_id: there is no session: .* made with ServiceClient.local"):
        _ = local.session_id
    for call in (
        local.list_checkpoints_async("r1"),
        local.list_runs_async(),
        local.get_run_async("r1"),
        local.create_sampling_client_from_checkpoint_async("bt://loops:r1/sampler_weights/a"),
        local.get_server_capabilities_async(),
        local.get_checkpoint_archive_url_async("id-1"),
    ):
        with pytest.raises(errors.UnsupportedError, match="there is no control plane to ask"):
            await call
    assert await local.open_async() is local
    assert service.asked == []


async def test_the_key_is_the_given_one_or_the_environments_or_none(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def key_sent(**options: Any) -> Any:
        async with ServiceClient.local(trainer_url=service.trainer, **options) as local:
            with pytest.raises(errors.AuthenticationError):
                await attach(local)
        return service.asked[-1].headers.get("Authorization")

    assert await key_sent(api_key="mine") == "Bearer mine"
    assert await key_sent(api_key=lambda: "made") == "Bearer made"
    monkeypatch.setenv("BASETEN_API_KEY", "theirs")
    assert await key_sent() == "Bearer theirs"
    monkeypatch.delenv("BASETEN_API_KEY")
    assert await key_sent() is None


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ({"trainer_url": "trainer"}, r"^trainer_url: expected an http:// or https:// address, got 'trainer'"),
        ({"trainer_url": "http://t", "sampler_url": "sampler"}, r"^sampler_url: expected an http:// or https://"),
    ],
)
def test_addresses_are_checked_at_construction(addresses: Any, message: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        ServiceClient.local(**addresses)


# ---------------------------------------------------------------- waiting and the end


async def test_a_trainer_that_is_still_loading_is_waited_for(local: ServiceClient, service: Any, reply: Any) -> None:
    async def loading(_request: Any) -> Any:
        return reply(503) if len(service.lines("GET /health")) < 20 else None

    service.on["GET /health"] = loading
    assert await attach(local)


async def test_a_trainer_that_never_answers_is_named(local: ServiceClient, service: Any, reply: Any) -> None:
    async def loading(_request: Any) -> Any:
        return reply(503, {"detail": "loading weights"})

    service.on["GET /health"] = loading
    message = rf"the trainer at {service.trainer} was not ready within 0.1 s; .*loading weights"
    with pytest.raises(errors.RequestTimeoutError, match=message):
        await attach(local, ready_timeout=0.1)


async def test_cancelling_and_closing(local: ServiceClient, service: Any) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any) -> None:
        arrived.set()
        await release.wait()

    service.on["GET /status"] = hang
    call = asyncio.create_task(attach(local))
    async with asyncio.timeout(5):
        await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    release.set()
    training = await attach(local)
    await local.aclose()
    with pytest.raises(errors.ClientClosedError):
        await training.health_async()
    with pytest.raises(errors.ClientClosedError):
        await attach(local)
