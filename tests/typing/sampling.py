"""Read by the type checkers, never run: samplers from both houses, with whatever deployment and key, right and wrong.

A wrong line carries the ignore of both checkers; both are set to complain about an ignore that hides nothing.
"""

from __future__ import annotations

import os
import pickle
from typing import assert_type

import loops_sdk
import loops_sdk_sync
from loops_sdk import BasetenDeployment, Deployment, LocalDeployment, SampleResult, SamplingParams

HERE = LocalDeployment("http://127.0.0.1:8000")
THERE = BasetenDeployment("https://model-m1.api.baseten.co/deployment/v1/sync", "m1", "d1")


def key() -> str:
    return os.environ["MY_KEY"]


async def core(place: Deployment) -> None:
    client = loops_sdk.SamplingClient(base_model="m", deployment=place, api_key=key, sampler_id="s", session_id=None)
    assert_type(client.sampler_id, str | None)
    assert_type(client.session_id, str | None)
    assert_type(await client.get_base_model_id_async(), str)
    assert_type(await client.get_adapter_id_async(), str | None)
    await client.ensure_ready_async()
    await client.ensure_ready_async(timeout=30)
    await loops_sdk.SamplingClient.wait_until_ready_async(THERE, timeout=30.0, api_key=key)
    async with loops_sdk.SamplingClient(base_model="m", deployment=HERE, timeout=5, ready_timeout=60.0) as same:
        assert_type(same, loops_sdk.SamplingClient)


def blocking(training: loops_sdk_sync.TrainingClient) -> None:
    client = loops_sdk_sync.SamplingClient(base_model="m", deployment=THERE, api_key="k", min_policy_version=3)
    assert_type(client.sample([1, 2], 4, SamplingParams(), affinity_key="a"), SampleResult)
    assert_type(client.compute_logprobs([1, 2]), list[float | None])
    assert_type(client.get_base_model_id(), str)
    assert_type(client.get_adapter_id(), str | None)
    client.ensure_ready(60)
    loops_sdk_sync.SamplingClient.wait_until_ready(HERE)
    pickle.dumps(client)


async def awaiting(client: loops_sdk_sync.SamplingClient) -> None:
    assert_type(await client.get_adapter_id_async(), str | None)
    await client.ensure_ready_async(timeout=None)
    await loops_sdk_sync.SamplingClient.wait_until_ready_async(HERE, timeout=1)


async def wrong(client: loops_sdk.SamplingClient, facade: loops_sdk_sync.SamplingClient) -> None:
    loops_sdk.SamplingClient("m", HERE)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    loops_sdk.SamplingClient(base_model="m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    loops_sdk.SamplingClient(base_model="m", deployment=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loops_sdk.SamplingClient(base_model="m", deployment=HERE, api_key=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loops_sdk.SamplingClient(base_model="m", deployment=HERE, min_policy_version="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.sampler_id = "s"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    await client.ensure_ready_async("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.sample_async([1], affinity_key=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await loops_sdk.SamplingClient.wait_until_ready_async("http://x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    facade.ensure_ready(timeout="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loops_sdk_sync.SamplingClient.wait_until_ready()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    loops_sdk_sync.SamplingClient.wait_until_ready(HERE, 5.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
