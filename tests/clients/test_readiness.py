"""Waiting for samplers: states, the one wake, what passes and what does not, and what the errors tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loops_sdk import BasetenDeployment, LocalDeployment, ServiceClient, TrainingClient, errors
from loops_sdk._clients.readiness import deployment_ready
from loops_sdk._net.network import Network

STATE = "GET /v1/models/m1/deployments/d1"
WAKE = "POST /deployment/d1/wake"
DEAD = ["INACTIVE", "FAILED", "DEPLOY_FAILED", "BUILD_FAILED", "BUILD_STOPPED", "UNHEALTHY", "DEACTIVATING"]


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    made = Network()
    yield made
    await made.aclose()


@pytest.fixture
def deployment(service: Any, network: Network) -> BasetenDeployment:
    """Its address has a path, below which no wake is."""
    network.transport.trust(service.sampler)
    return BasetenDeployment(f"{service.sampler}/deployment/v1/sync", "m1", "d1", service.control)


async def ready(deployment: Any, network: Network, timeout: float = 5.0) -> None:
    await deployment_ready(deployment, network.caller, timeout, session_id="s1", run_id="r1")


async def test_a_sampler_that_is_simply_there_is_not_asked_for(service: Any, network: Network) -> None:
    await ready(LocalDeployment(service.sampler), network)
    assert service.asked == []


async def test_states_on_the_way_up_and_unknown_ones_are_waited_for(
    service: Any, network: Network, deployment: BasetenDeployment
) -> None:
    service.deployment_status = ["BUILDING", "DEPLOYING", "LOADING_MODEL", "UPDATING", "A_STATE_OF_TOMORROW", "ACTIVE"]
    await ready(deployment, network)
    assert service.lines() == [STATE] * 6


async def test_a_sleeping_one_gets_exactly_one_wake(
    service: Any, network: Network, deployment: BasetenDeployment
) -> None:
    service.deployment_status = ["SCALED_TO_ZERO"] * 5 + ["WAKING_UP", "SCALED_TO_ZERO", "ACTIVE"]
    await ready(deployment, network)
    assert service.lines() == [STATE, WAKE] + [STATE] * 7
    assert service.last(WAKE).headers["Authorization"] == f"Bearer {network.transport._api_key}"


@pytest.mark.parametrize("how", [401, 404, 500, "reset"])
async def test_a_wake_that_fails_is_not_fatal_and_not_repeated(
    service: Any, network: Network, deployment: BasetenDeployment, reply: Any, how: Any
) -> None:
    async def fail(request: Any) -> Any:
        if how == "reset":
            request.transport.abort()
            return None
        return reply(how, {"error": "not now"})

    service.on[WAKE] = fail
    service.deployment_status = ["SCALED_TO_ZERO", "SCALED_TO_ZERO", "ACTIVE"]
    await ready(deployment, network)
    assert service.lines(WAKE) == [WAKE]
    service.deployment_status = ["SCALED_TO_ZERO"]
    with pytest.raises(errors.RequestTimeoutError, match=r"it was SCALED_TO_ZERO; the last trouble was: ") as caught:
        await ready(deployment, network, 0.1)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")


@pytest.mark.parametrize("state", DEAD)
async def test_terminal_states_raise_at_once(
    service: Any, network: Network, deployment: BasetenDeployment, state: str
) -> None:
    service.deployment_status = ["LOADING_MODEL", state, "ACTIVE"]
    message = rf"the sampler \(deployment d1 of model m1\) is {state} and will not come up; create a new one"
    with pytest.raises(errors.DeploymentFailedError, match=message) as caught:
        await ready(deployment, network)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    assert service.lines() == [STATE, STATE]


async def test_trouble_that_passes_is_waited_out(
    service: Any, network: Network, deployment: BasetenDeployment, reply: Any
) -> None:
    async def trouble(request: Any) -> Any:
        looks = len(service.lines(STATE))
        if looks == 4:
            request.transport.abort()
        return reply({1: 502, 2: 503, 3: 429}[looks], **{"Retry-After": "0.01"}) if looks < 4 else None

    service.on[STATE] = trouble
    await ready(deployment, network)
    assert len(service.lines(STATE)) == 5


@pytest.mark.parametrize(("status", "error"), [(401, "AuthenticationError"), (404, "NotFoundError")])
async def test_a_refused_question_ends_the_wait(
    service: Any, network: Network, deployment: BasetenDeployment, reply: Any, status: int, error: str
) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(status)

    service.on[STATE] = refuse
    with pytest.raises(getattr(errors, error)) as caught:
        await ready(deployment, network)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    assert service.lines() == [STATE]


async def test_a_wait_that_runs_out_tells_state_and_ids(
    service: Any, network: Network, deployment: BasetenDeployment
) -> None:
    service.deployment_status = ["LOADING_MODEL"]
    message = r"the sampler \(deployment d1 of model m1\) was not ready within 0.1 s; it was LOADING_MODEL"
    with pytest.raises(errors.RequestTimeoutError, match=message) as caught:
        await ready(deployment, network, 0.1)
    assert (caught.value.session_id, caught.value.run_id, caught.value.elapsed) == ("s1", "r1", 0.1)


async def test_neither_a_poll_that_hangs_nor_a_long_retry_after_outlasts_the_timeout(
    service: Any, network: Network, deployment: BasetenDeployment, reply: Any
) -> None:
    release = asyncio.Event()

    async def hang(_request: Any) -> Any:
        if len(service.lines(STATE)) == 1:
            return reply(429, **{"Retry-After": "0.05"})
        await release.wait()
        return None

    service.on[STATE] = hang
    async with asyncio.timeout(5):
        with pytest.raises(errors.RequestTimeoutError):
            await ready(deployment, network, 0.2)
    release.set()


async def test_cancelling_and_closing_end_the_wait(
    service: Any, network: Network, deployment: BasetenDeployment
) -> None:
    service.deployment_status = ["LOADING_MODEL"]
    asked = asyncio.Event()

    async def look(_request: Any) -> None:
        asked.set()

    service.on[STATE] = look
    call = asyncio.create_task(ready(deployment, network))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    asked.clear()
    call = asyncio.create_task(ready(deployment, network))
    await asked.wait()
    await network.aclose()
    with pytest.raises(errors.ClientClosedError):
        await call


# ---------------------------------------------------------------- the sampler of a run


async def test_a_paired_sampler_with_a_deployment_is_waited_for_by_it(client: ServiceClient, service: Any) -> None:
    service.sampler_ids = {"model_id": "m1", "deployment_id": "d1"}
    service.deployment_status = ["SCALED_TO_ZERO", "ACTIVE"]
    training = await client.create_lora_training_client_async("acme/model", with_sampler=True)
    assert await training._publishing.sampler.deployment() == BasetenDeployment(
        service.sampler, "m1", "d1", service.control
    )
    assert await training._publishing.sampler.deployment()
    assert service.lines("/deployment") == [STATE, WAKE, STATE]
    assert service.lines("GET /v1/loops/samplers") == []


@pytest.mark.parametrize("ids", [{}, {"model_id": None, "deployment_id": None}, {"model_id": "m1"}])
async def test_a_serverless_one_is_waited_for_by_its_own_state(client: ServiceClient, service: Any, ids: Any) -> None:
    service.sampler_ids = ids
    service.sampler_status = ["BUILDING", "BUILDING", "LOADING_MODEL", "SCALED_TO_ZERO"]
    training = await client.create_lora_training_client_async("acme/model", with_sampler=True)
    assert await training._publishing.sampler.deployment() == LocalDeployment(service.sampler)
    assert service.sampler_status == ["SCALED_TO_ZERO"]
    assert service.lines("/deployment") == []


@pytest.mark.parametrize("ids", [{}, {"model_id": "m1", "deployment_id": "d1"}])
async def test_errors_about_a_runs_sampler_name_it(client: ServiceClient, service: Any, ids: Any) -> None:
    service.sampler_ids, service.sampler_status, service.deployment_status = ids, ["FAILED"], ["FAILED"]
    training = await client.create_lora_training_client_async("acme/model", with_sampler=True, ready_timeout=0.2)
    with pytest.raises(errors.DeploymentFailedError, match="the sampler sam1 is FAILED") as caught:
        await training._publishing.sampler.deployment()
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    service.sampler_status = service.deployment_status = ["UPDATING"]
    with pytest.raises(errors.RequestTimeoutError, match=r"the sampler sam1 was not ready within 0.2 s; it was UPDAT"):
        await training._publishing.sampler.deployment()


async def test_a_named_deployment_is_waited_for_too(service: Any) -> None:
    place = BasetenDeployment(service.sampler, "m1", "d1", service.control)
    service.deployment_status = ["SCALED_TO_ZERO", "ACTIVE"]
    async with TrainingClient(service.trainer, base_model="acme/model", paired_sampling_deployment=place) as training:
        assert await training._publishing.sampler.deployment() == place
    assert service.lines("/deployment") == [STATE, WAKE, STATE]
