"""What users of other clients suffer from, one test each: a client built the naive way fails them.

Each name says what was seen; the test says what happens here instead.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from fault_rig import KEY, QUICK, Behind

from loops_sdk import (
    AdamParams,
    Datum,
    LocalDeployment,
    LoopsError,
    OperationTimeoutError,
    RemoteOpError,
    SamplingClient,
    UnretrievedErrorWarning,
    WeightsNotReadyError,
)
from loops_sdk.instrumentation import OperationSubmitted, RequestRetried
from loops_sdk.local.serving import Server

Rig: TypeAlias = Callable[..., AbstractAsyncContextManager[Behind]]
DATA = [Datum([1, 2, 3], {"target_tokens": [2, 3, 4]})]


@asynccontextmanager
async def sampler(
    answer: Callable[[web.Request], Any], timeout: float = 20.0
) -> AsyncIterator[tuple[SamplingClient, list[str]]]:
    """A sampler whose completions are scripted, a client of it, and the requests it saw."""
    seen: list[str] = []

    async def complete(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        response: web.StreamResponse = await answer(request)
        return response

    async def models(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"id": "base"}, {"id": "live", "parent": "base", "policy_version": 1}]})

    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    app.router.add_get("/v1/models", models)
    server = Server(app)
    await server.start()
    deployment = LocalDeployment(f"http://127.0.0.1:{server.port}")
    client = SamplingClient(base_model="base", deployment=deployment, api_key=KEY, timeout=timeout)
    client._connection.network.caller._backoff = QUICK
    try:
        async with client:
            yield client, seen
    finally:
        await server.aclose()


async def test_a_sampling_read_error_was_retried_for_ever() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with sampler(cut) as (client, seen):
        with pytest.raises(LoopsError, match="broke the connection") as caught:
            await client.sample_async([1, 2, 3])
    assert caught.value.attempts == len(seen) <= 8
    assert caught.value.elapsed is not None


async def test_the_total_deadline_of_a_sample_holds_whatever_the_attempts() -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "busy"}}, status=503, headers={"Retry-After": "2"})

    async with sampler(busy, timeout=1.0) as (client, _seen):
        start = time.monotonic()
        with pytest.raises(LoopsError, match="busy"):
            await client.sample_async([1, 2, 3])
    assert time.monotonic() - start < 5


async def test_a_late_failure_applied_a_step_twice_because_retries_had_new_keys(behind: Rig) -> None:
    async with behind(("500 after", "504 after", "reset after"), rate=0.6, only=("/forward_backward", "/optim")) as one:
        for _ in range(10):
            await one.client.forward_backward_async(DATA)
            step = await one.client.optim_step_async(AdamParams())
        assert (await step).metrics["step"] == one.engine.step == 10
        keys = [event.idempotency_key for event in one.events if isinstance(event, OperationSubmitted)]
    assert len(set(keys)) == 20
    assert any(isinstance(event, RequestRetried) for event in one.events)


async def test_the_future_can_be_asked_again_after_the_wait_failed(behind: Rig) -> None:
    async with behind(("408",), rate=1.0, only=("/operations",), timeout=0.5) as one:
        future = await one.client.forward_backward_async(DATA)
        with pytest.raises(OperationTimeoutError):
            await future
        one.proxy.calm = True
        assert (await future).loss is not None


async def test_an_optim_step_that_was_never_awaited_lost_its_error(behind: Rig) -> None:
    async with behind() as one:
        held = [await one.client.optim_step_async(AdamParams())]  # nothing was accumulated: it fails
        with pytest.raises(RemoteOpError):
            await (await one.client.optim_step_async(AdamParams()))
        with pytest.warns(UnretrievedErrorWarning, match="optim_step failed and its future was never awaited"):
            held.clear()


async def test_policy_version_blocked_the_event_loop(behind: Rig) -> None:
    async with behind(("stall",), rate=1.0, only=("/policy_version",)) as one:
        asking = asyncio.create_task(one.client.policy_version_async())
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert await asking == 0
        assert turns > 20
        assert one.client.last_policy_version == 0


async def test_the_wait_for_weights_was_fixed_and_useless_at_version_0(behind: Rig) -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        raise AssertionError("nothing is sampled")

    async with sampler(never) as (client, _seen):
        deployment = client._binding.deployment
        async with behind(paired_sampling_deployment=deployment, publish_timeout=0.3) as one:
            fresh = await (await one.client.save_weights_and_get_sampling_client_async("fresh"))
            assert fresh.min_policy_version == 0  # the base model: nothing to wait for
            for _ in range(2):
                await one.client.forward_backward_async(DATA)
                await one.client.optim_step_async(AdamParams())
            published = await one.client.save_weights_and_get_sampling_client_async("two")
            with pytest.raises(WeightsNotReadyError, match=r"version 2 within 0\.3 s; the last one showed version 1"):
                await published


async def test_an_operation_that_hangs_on_the_server_never_ended(behind: Rig) -> None:
    async with behind(timeout=0.6) as one:
        one.engine.gate.clear()
        future = await one.client.forward_backward_async(DATA)
        with pytest.raises(OperationTimeoutError, match=r"did not finish the operation within 0\.6 s") as caught:
            await future
        one.engine.gate.set()
        assert caught.value.operation_id == future.operation_id
        assert caught.value.idempotency_key == future.idempotency_key
        assert (await future).loss is not None


async def test_proxies_cut_idle_connections(behind: Rig) -> None:
    async with behind(("close idle", "reset before"), rate=0.7, only=("/operations", "/health")) as one:
        for _ in range(5):
            await one.client.health_async()
            assert (await (await one.client.forward_backward_async(DATA))).loss is not None
    assert one.proxy.plan.met.total() >= 5


async def test_encoding_a_huge_batch_froze_the_event_loop(behind: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from loops_sdk._wire import codec

    threads: list[threading.Thread] = []
    plain = codec.plain

    def noting(value: Any) -> Any:
        threads.append(threading.current_thread())
        return plain(value)

    async with behind() as one:
        monkeypatch.setattr(codec, "plain", noting)
        long = [1] * 60_000
        with pytest.raises(LoopsError, match="tokens"):  # the double takes 64; it is encoded all the same
            await one.client.forward_backward_async([Datum(long, {"target_tokens": long})])
    assert threads
    assert threading.main_thread() not in threads


async def test_no_hot_loop_against_a_server_that_always_fails(behind: Rig) -> None:
    async with behind(("500",), rate=0.0, only=("/operations",), quick=False) as one:
        one.engine.gate.clear()
        futures = [await one.client.forward_backward_async(DATA) for _ in range(50)]
        one.proxy.plan.rate = 1.0
        before = one.proxy.plan.met.total()
        waits = [asyncio.create_task(future.result_async(5.0)) for future in futures]
        results = await asyncio.gather(*waits, return_exceptions=True)
        asked = one.proxy.plan.met.total() - before
        one.engine.gate.set()
    assert all(isinstance(result, LoopsError) for result in results)
    assert asked <= 10


async def test_an_unreachable_server_is_reported_within_ten_seconds(behind: Rig) -> None:
    async with behind(quick=False) as one:
        one.proxy.refuse()
        start = time.monotonic()
        with pytest.raises(LoopsError, match="no server answers at") as caught:
            await one.client.forward_backward_async(DATA)
    assert time.monotonic() - start < 11
    assert re.escape(one.proxy.url) in re.escape(str(caught.value.url))
    assert (caught.value.attempts or 0) > 1
