"""Thousands of samples at once wait for their turn: none fails, none is sent twice, and memory stays within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import psutil
from aiohttp import web
from fault_rig import KEY

from loops_sdk import SamplingClient, SamplingParams, ServiceClient
from loops_sdk.instrumentation import Event, RequestRetried, SampleFinished
from loops_sdk.local.serving import Server

_AT_ONCE = 64
_CALLS = 5_000


@attrs.define
class SlowSampler:
    """Answers `_AT_ONCE` requests at a time, after a moment; the others wait in it."""

    requests: int = 0
    connections: int = 0
    most_connections: int = 0
    room: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.connections += 1
        self.most_connections = max(self.most_connections, self.connections)
        prompt = (await request.json())["prompt"]
        async with self.room:
            await asyncio.sleep(0.001)
        self.connections -= 1
        choice = {
            "index": 0,
            "finish_reason": "length",
            "token_ids": prompt,
            "logprobs": {"token_logprobs": [-1.0] * 4},
        }
        return web.json_response({"choices": [choice], "policy_version": 1})

    async def models(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"id": "base"}]})


@asynccontextmanager
async def served() -> AsyncIterator[tuple[SlowSampler, str]]:
    sampler = SlowSampler()
    app = web.Application()
    app.router.add_post("/v1/completions", sampler.complete)
    app.router.add_get("/v1/models", sampler.models)
    server = Server(app)
    await server.start()
    try:
        yield sampler, f"http://127.0.0.1:{server.port}"
    finally:
        await server.aclose()


async def test_five_thousand_samples_at_once_queue(monkeypatch: Any) -> None:
    monkeypatch.setenv("BT_LOOPS_MAX_CONNECTIONS", "200")
    events: list[Event] = []
    async with served() as (sampler, url):
        service = ServiceClient.local(trainer_url=url, sampler_url=url, api_key=KEY, observers=[events.append])
        async with service:
            client = await service.create_sampling_client_async("base")
            before = psutil.Process().memory_info().rss
            calls = [asyncio.create_task(_one(client, number)) for number in range(_CALLS)]
            await asyncio.sleep(0)
            assert f"{_CALLS} under way" in repr(client)
            async with asyncio.timeout(120):
                answers = await asyncio.gather(*calls)
            grown = psutil.Process().memory_info().rss - before
    assert answers == list(range(_CALLS))
    assert sampler.requests == _CALLS
    assert sampler.most_connections <= 200
    depths = [event.under_way for event in events if isinstance(event, SampleFinished)]
    assert len(depths) == _CALLS
    assert max(depths) > _CALLS - 500
    assert depths[-1] == 0
    assert not [event for event in events if isinstance(event, RequestRetried)]
    assert grown < 250 * 2**20


async def _one(client: SamplingClient, number: int) -> int:
    prompt = [number % 251, number // 251, 3, 4]
    result = await client.sample_async(prompt, sampling_params=SamplingParams(max_tokens=4))
    assert list(result.sequences[0].tokens) == prompt
    return number
