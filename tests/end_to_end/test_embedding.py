"""Clients as a web service embeds them: several in a process, on either event loop, cancelled and closed any time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest

from loops_sdk import AuthenticationError, BadRequestError, SamplingClient, SamplingParams, ServiceClient

#: So hot that nothing ends a sequence before its length does.
LONG = SamplingParams(temperature=50.0, max_tokens=1000)
PROMPT = list(range(50, 80))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine in a loop of this kind."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else pytest.importorskip("uvloop").new_event_loop

    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)

    return run


def held() -> tuple[int, int]:
    """Tasks and descriptors of this process."""
    gc.collect()
    return len(asyncio.all_tasks()), psutil.Process().num_fds()


def test_two_services_of_which_one_closes_and_requests_that_are_dropped(
    deployment: Any, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    run(_two_services(deployment))


async def _two_services(deployment: Any) -> None:
    async with deployment.service():
        pass  # what a first use leaves for good
    before = held()
    async with deployment.service() as staying, deployment.run(staying, rank=4) as training:
        kept = await (await training.save_weights_and_get_sampling_client_async("kept"))
        async with deployment.service() as going:
            attached = await going.attach_training_client_async(training.run_id)
            other = await (await attached.save_weights_and_get_sampling_client_async("other"))
            await asyncio.gather(_dropped(kept), _dropped(other))
        answer = await kept.sample_async(PROMPT, sampling_params=SamplingParams(max_tokens=4))
        assert answer.policy_version == 0
    assert await _settled(before) == before


async def _dropped(sampling: SamplingClient) -> None:
    """What a browser does that goes away: the task that serves it is cancelled."""
    asking = [asyncio.create_task(sampling.sample_async(PROMPT, 2, LONG)) for _ in range(5)]
    done, _ = await asyncio.wait(asking, timeout=0.3)
    assert not done
    for task in asking:
        task.cancel()
    await asyncio.wait(asking, timeout=5)
    assert all(task.cancelled() for task in asking)


async def _settled(before: tuple[int, int]) -> tuple[int, int]:
    """What is held once transports that were closed are gone, which takes the loop a few rounds."""
    for _ in range(100):
        if held() == before:
            break
        await asyncio.sleep(0.02)
    return held()


def test_a_start_that_fails_or_is_given_up_leaves_nothing(
    deployment: Any, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    run(_failed_starts(deployment))


async def _never_up(deployment: Any) -> None:
    async with deployment.service() as service:
        while True:
            await service.list_runs_async()


async def _failed_starts(deployment: Any) -> None:
    async with deployment.service():
        pass
    before = held()
    with pytest.raises(AuthenticationError):
        async with ServiceClient(base_url=deployment.base_url, api_key="a wrong key"):
            pass
    with pytest.raises(BadRequestError):
        async with deployment.service() as service:
            await service.create_lora_training_client_async("no/such")
    starting = asyncio.create_task(_never_up(deployment))
    await asyncio.wait([starting], timeout=0.005)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await _settled(before) == before
