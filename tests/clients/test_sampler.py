"""`SamplingClient` and the sampler behind it: what it serves, whether it is up, and how long all that may take."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from loops_sdk import AdamParams, BasetenDeployment, LocalDeployment, SamplingClient, TrainingClient, errors
from loops_sdk._clients import sampling as module
from loops_sdk._net.network import Network
from loops_sdk.instrumentation import RequestRetried

from .conftest import MODEL

COMPLETIONS = "POST /v1/completions"
MODELS = "GET /v1/models"
STATE = "GET /v1/models/m1/deployments/d1"
WAKE = "POST /deployment/d1/wake"
Make = Callable[..., SamplingClient]

COMING_UP: dict[str, tuple[int, Any]] = {
    "503": (503, {"detail": "the sampler is still loading its base model"}),
    "502 of a gateway": (502, None),
    "504 of a gateway": (504, None),
    "the inference host's code": (400, {"error": "no", "error_code": "model_not_ready", "detail": "wait"}),
    "in words": (409, {"error": {"message": "Model is not ready yet"}}),
}


def hold(service: Any, line: str, reply: Any, times: int, status: int = 503, body: Any = None) -> None:
    """Let the first `times` requests of a kind fail."""

    async def early(_request: Any) -> Any:
        return reply(status, body) if len(service.lines(line)) <= times else None

    service.on[line] = early


# ---------------------------------------------------------------- what it serves


async def test_the_base_models_id_is_the_samplers_own(sampling: Make, service: Any) -> None:
    client = sampling(base_model="acme/model")
    service.publish(1)
    assert await client.get_base_model_id_async() == "/models/base"
    assert client.base_model == "acme/model"


async def test_the_live_adapter_is_asked_for_each_time(sampling: Make, service: Any) -> None:
    client = sampling()
    assert await client.get_adapter_id_async() is None
    service.publish(1)
    service.models.append({"id": "bt://loops:r1/sampler_weights/a", "parent": "/models/base"})
    assert await client.get_adapter_id_async() == "adapter"


async def test_a_sampler_may_serve_a_checkpoint_as_its_adapter(sampling: Make, service: Any) -> None:
    path = "bt://loops:r1/sampler_weights/step-1"
    service.models.append({"id": path, "parent": "/models/base", "policy_version": 4})
    service.serves = 4
    client = sampling(min_policy_version=4)
    assert await client.get_adapter_id_async() == path
    await client.sample_async([1])
    assert service.last(COMPLETIONS).body["model"] == path


@pytest.mark.parametrize("name", COMING_UP)
async def test_a_look_waits_for_a_sampler_that_is_coming_up(
    sampling: Make, service: Any, reply: Any, name: str
) -> None:
    hold(service, MODELS, reply, 12, *COMING_UP[name])
    assert await sampling().get_base_model_id_async() == "/models/base"
    assert len(service.lines(MODELS)) == 13


async def test_a_look_waits_for_a_sampler_that_cannot_be_reached_yet(service: Any) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    runner = web.AppRunner(service.application(service.sampler_routes()), shutdown_timeout=0.1)
    starting: list[asyncio.Task[None]] = []

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    def heard(event: Any) -> None:
        if isinstance(event, RequestRetried) and not starting:  # refused once
            starting.append(asyncio.get_running_loop().create_task(start()))

    deployment = LocalDeployment(f"http://127.0.0.1:{port}")
    async with SamplingClient(base_model=MODEL, deployment=deployment, ready_timeout=20) as client:
        client._connection.network.caller.emit = heard
        assert await client.get_adapter_id_async() is None
    assert starting
    await runner.cleanup()


async def test_a_look_ends_with_its_time(sampling: Make, service: Any, reply: Any) -> None:
    hold(service, MODELS, reply, 10**6, 503, {"detail": "still loading"})
    client = sampling(ready_timeout=0.3, session_id="s7")
    with pytest.raises(
        errors.RequestTimeoutError, match=r"not ready within .* the last trouble was: still load"
    ) as one:
        await client.get_base_model_id_async()
    assert one.value.session_id == "s7"
    assert one.value.attempts == len(service.lines(MODELS))
    assert one.value.url == f"{service.sampler}/v1/models"
    assert isinstance(one.value.__cause__, errors.ServerShutdownError)


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (404, 1), (500, 8)])
async def test_a_look_does_not_wait_for_what_will_not_change(
    sampling: Make, service: Any, reply: Any, status: int, asked: int
) -> None:
    hold(service, MODELS, reply, 10**6, status)
    with pytest.raises(errors.StatusError) as caught:
        await sampling(ready_timeout=60).get_adapter_id_async()
    assert (caught.value.status, caught.value.attempts) == (status, asked)
    assert len(service.lines(MODELS)) == asked


async def test_a_sampler_without_base_model(sampling: Make, service: Any) -> None:
    service.models = []
    with pytest.raises(errors.ProtocolError, match="shows no base model"):
        await sampling().get_base_model_id_async()
    assert await sampling().get_adapter_id_async() is None


# ---------------------------------------------------------------- sampling from one that is not up


async def test_a_sample_waits_for_a_sampler_that_is_coming_up(sampling: Make, service: Any, reply: Any) -> None:
    hold(service, MODELS, reply, 20)
    hold(service, COMPLETIONS, reply, 3)
    assert (await sampling().sample_async([1])).sequences[0].tokens == [7, 8]
    assert (len(service.lines(MODELS)), len(service.lines(COMPLETIONS))) == (21, 4)


async def test_a_sample_waits_no_longer_than_its_time(sampling: Make, service: Any, reply: Any) -> None:
    hold(service, MODELS, reply, 10**6)
    with pytest.raises(errors.RequestTimeoutError, match="the sampler was not ready within") as caught:
        await sampling(timeout=0.2).sample_async([1])
    assert caught.value.attempts == len(service.lines(MODELS))


@pytest.mark.parametrize("from_look", [1, 2])
async def test_the_time_of_a_sample_includes_the_looks(sampling: Make, service: Any, from_look: int) -> None:
    """A sampler that hangs at the first look, or at the second, which is for weights that are new enough."""
    release = asyncio.Event()

    async def hang(_request: Any) -> Any:
        if len(service.lines(MODELS)) >= from_look:
            await release.wait()

    service.on[MODELS] = hang
    async with asyncio.timeout(5):
        with pytest.raises((errors.RequestTimeoutError, errors.WeightsNotReadyError)):
            await sampling(timeout=0.3, min_policy_version=1).sample_async([1])
    release.set()


async def test_the_time_of_a_publication_includes_the_looks(training: TrainingClient, service: Any) -> None:
    release = asyncio.Event()

    async def hang(_request: Any) -> Any:
        await release.wait()

    service.on[MODELS] = hang
    await (await training.optim_step_async(AdamParams()))
    publishing = await training.save_weights_and_get_sampling_client_async("a")
    async with asyncio.timeout(5):
        with pytest.raises(errors.WeightsNotReadyError, match=r"version 1 within 0.5 s"):
            await publishing
    release.set()


async def test_the_place_of_a_sample_must_be_reachable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        deployment = LocalDeployment(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        async with SamplingClient(base_model=MODEL, deployment=deployment, timeout=60) as client:
            with pytest.raises(errors.ConnectionFailedError, match="no server answers") as caught:
                await client.sample_async([1])
    assert caught.value.attempts == 8


# ---------------------------------------------------------------- deployments


def deployed(service: Any) -> BasetenDeployment:
    return BasetenDeployment(base_url=service.sampler, model_id="m1", deployment_id="d1", api_base_url=service.control)


async def test_a_sleeping_deployment_is_woken_once(sampling: Make, service: Any) -> None:
    service.deployment_status = ["SCALED_TO_ZERO", "SCALED_TO_ZERO", "SCALED_TO_ZERO", "WAKING_UP", "ACTIVE"]
    client = sampling(deployment=deployed(service))
    await client.ensure_ready_async()
    assert (len(service.lines(STATE)), service.lines(WAKE)) == (5, [WAKE])
    await client.sample_async([1])  # with the same key at the same host


async def test_a_deployment_that_failed(sampling: Make, service: Any) -> None:
    service.deployment_status = ["DEPLOYING", "BUILD_FAILED"]
    with pytest.raises(errors.DeploymentFailedError, match="BUILD_FAILED") as caught:
        await sampling(deployment=deployed(service), session_id="s7").ensure_ready_async(60)
    assert caught.value.session_id == "s7"


@pytest.mark.parametrize(("ready_timeout", "timeout"), [(0.5, None), (3600.0, 0.5)])
async def test_a_deployment_that_does_not_come_up(
    sampling: Make, service: Any, ready_timeout: float, timeout: float | None
) -> None:
    service.deployment_status = ["LOADING_MODEL"]
    client = sampling(deployment=deployed(service), ready_timeout=ready_timeout)
    async with asyncio.timeout(5):
        with pytest.raises(errors.RequestTimeoutError, match=r"not ready within 0.5 s; it was LOADING_MODEL"):
            await client.ensure_ready_async(timeout)


async def test_nothing_is_asked_of_a_local_one(sampling: Make, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await sampling().ensure_ready_async()
    monkeypatch.delenv("BASETEN_API_KEY")
    await SamplingClient.wait_until_ready_async(LocalDeployment(service.sampler))
    assert service.asked == []


async def test_waiting_without_a_client(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Network] = []

    class Watched(Network):
        async def aclose(self) -> None:
            closed.append(self)
            await super().aclose()

    monkeypatch.setattr(module, "Network", Watched)
    service.deployment_status = ["SCALED_TO_ZERO", "ACTIVE"]
    await SamplingClient.wait_until_ready_async(deployed(service))
    assert (service.lines(WAKE), len(closed)) == ([WAKE], 1)
    service.deployment_status = ["FAILED"]
    with pytest.raises(errors.DeploymentFailedError):
        await SamplingClient.wait_until_ready_async(deployed(service), timeout=60)
    assert len(closed) == 2
    with pytest.raises(errors.AuthenticationError):
        await SamplingClient.wait_until_ready_async(deployed(service), api_key="another")
    assert len(closed) == 3


async def test_wrong_arguments_of_a_wait(sampling: Make, service: Any) -> None:
    with pytest.raises(errors.InvalidInputError, match=r"^deployment: expected LocalDeployment"):
        await SamplingClient.wait_until_ready_async("http://x")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidInputError, match=r"^timeout: expected a value > 0, got 0$"):
        await SamplingClient.wait_until_ready_async(deployed(service), timeout=0)
    with pytest.raises(errors.InvalidInputError, match=r"^timeout: expected a value > 0, got -1$"):
        await sampling(deployment=deployed(service)).ensure_ready_async(-1)
    assert service.asked == []


async def test_a_closed_client_looks_at_nothing(sampling: Make, service: Any) -> None:
    client = sampling(deployment=deployed(service))
    await client.aclose()
    for call in (client.ensure_ready_async, client.get_base_model_id_async, client.get_adapter_id_async):
        with pytest.raises(errors.ClientClosedError):
            await call()
    assert service.asked == []


async def test_the_key_goes_to_the_hosts_of_the_deployment_only(sampling: Make, service: Any) -> None:
    """The trainer of the tests stands for a host that the deployment does not name."""
    client = sampling(deployment=deployed(service))
    for url in (service.sampler, service.control):
        assert (await client._connection.network.transport.request("GET", f"{url}/v1/models", timeout=5)).status != 401
    assert (
        await client._connection.network.transport.request("GET", f"{service.trainer}/health", timeout=5)
    ).status == 401
