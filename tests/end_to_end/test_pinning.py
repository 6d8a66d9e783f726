"""Pinned clients while the trainer publishes one version after another: no older weights ever answer, and every result
names the weights that it really came from.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import attrs
import pytest

from loops_sdk import (
    AdamParams,
    Datum,
    LocalDeployment,
    SampledSequence,
    SamplingClient,
    SamplingParams,
    TrainingClient,
)

VERSIONS = 50
SAMPLERS = 32
FOLLOWING = 6
#: Answers between two versions, fewer than there are samplers: most calls are under way while a version is published.
PACE = 8
#: What batching may change in a float32 log-probability, and what one optimizer step changes at the least.
NOISE, STEP = 2e-4, 2e-3
ADAM = AdamParams(learning_rate=2e-2)


@attrs.frozen
class Sampled:
    """One result, and the least version that may have produced it."""

    pin: int
    version: int | None
    prompt: list[int]
    sequence: SampledSequence


class Traffic:
    """Samplers that go on until they are told to stop, and all that they were answered."""

    def __init__(self, url: str, deployment: Any, prompt: list[int]) -> None:
        self._place, self._deployment, self._prompt = LocalDeployment(url), deployment, prompt
        self._clients: dict[int | None, SamplingClient] = {}
        self._stack = AsyncExitStack()
        self._news = asyncio.Event()
        self.newest = 0
        self.stopped = False
        self.under_way = self.most = 0
        self.results: list[Sampled] = []

    async def client(self, pin: int | None) -> SamplingClient:
        if pin not in self._clients:
            made = SamplingClient(
                base_model=self._deployment.base_model,
                deployment=self._place,
                api_key=self._deployment.api_key,
                min_policy_version=pin,
            )
            self._clients[pin] = await self._stack.enter_async_context(made)
        return self._clients[pin]

    async def sampler(self, number: int) -> None:
        """Pinned to the newest step that the trainer has reported, which may not even be published yet; or following.
        The last sample begins after the end.
        """
        ended = False
        while not ended:
            ended = self.stopped
            pin = None if number < FOLLOWING else self.newest
            client = await self.client(pin)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            result = await client.sample_async(self._prompt, sampling_params=SamplingParams(max_tokens=4))
            self.under_way -= 1
            self.results.append(Sampled(pin or 0, result.policy_version, self._prompt, result.sequences[0]))
            self._news.set()

    async def go_on(self) -> None:
        """Return after a few more answers, which came while whatever was done last became known."""
        enough = len(self.results) + PACE
        while len(self.results) < enough:
            self._news.clear()
            await self._news.wait()

    async def aclose(self) -> None:
        await self._stack.aclose()


async def _train(training: TrainingClient, batch: list[Datum], traffic: Traffic) -> list[str]:
    """The addresses of what was published, from version 1 on."""
    paths = []
    for version in range(1, VERSIONS + 1):
        await training.forward_backward_async(batch[version % 2 : version % 2 + 1])
        stepped = await (await training.optim_step_async(ADAM))
        assert stepped.metrics["step"] == version
        traffic.newest = version
        paths.append((await (await training.save_weights_for_sampler_async(f"v{version}"))).path)
        await traffic.go_on()
    return paths


async def _sampler_url(deployment: Any, run_id: str | None) -> str:
    headers = {"Authorization": f"Bearer {deployment.api_key}"}
    url = f"{deployment.base_url}/v1/loops/runs/{run_id}"
    async with aiohttp.request("GET", url, headers=headers) as response:
        return str((await response.json())["run"]["sampler"]["base_url"])


async def _logprobs(client: SamplingClient, sampled: Sampled) -> list[float]:
    """Of the sampled tokens, by the weights of `client`."""
    values = await client.compute_logprobs_async(sampled.prompt + sampled.sequence.tokens)
    return [value for value in values[len(sampled.prompt) :] if value is not None]


def _apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _some(results: list[Sampled], version: int) -> list[Sampled]:
    """Three results of a version, the first and the last of them included."""
    mine = [one for one in results if one.version == version]
    return [mine[0], mine[len(mine) // 2], mine[-1]]


@pytest.mark.slow
async def test_50_versions_under_32_concurrent_samplers(deployment: Any, batch: list[Datum]) -> None:
    if deployment.base_model != "loops/tiny":
        pytest.skip("the race is the same with any model")
    async with deployment.service() as service, deployment.run(service, rank=4, seed=1, with_sampler=True) as training:
        await (await training.save_weights_and_get_sampling_client_async("v0"))  # the sampler is up
        url = await _sampler_url(deployment, training.run_id)
        traffic = Traffic(url, deployment, batch[1].model_input.to_ints()[:8])
        async with asyncio.TaskGroup() as group:
            for number in range(SAMPLERS):
                group.create_task(traffic.sampler(number))
            paths = await _train(training, batch, traffic)
            traffic.stopped = True
        await traffic.aclose()

        results = traffic.results
        assert traffic.most == SAMPLERS
        assert [one for one in results if one.version is None or one.version < one.pin] == []
        served = {one.version for one in results if one.version}
        assert VERSIONS in served
        assert len(served) > VERSIONS / 2
        assert len({one.pin for one in results}) > VERSIONS / 2

        for version in sorted(served - {1}):
            right, wrong = [await training.create_sampling_client_async(paths[at - 1]) for at in (version, version - 1)]
            some = _some(results, version)
            for logprobs, one in zip(await asyncio.gather(*(_logprobs(right, one) for one in some)), some, strict=True):
                assert _apart(logprobs, one.sequence.logprobs) < NOISE
            assert _apart(await _logprobs(wrong, some[0]), some[0].sequence.logprobs) > STEP
