"""What worker processes do in the tests: they import this module by its name."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import loops_sdk
import loops_sdk_sync
from loops_sdk import SampleResult, SamplingParams

PARAMS = SamplingParams(max_tokens=3, temperature=0)


def sample(client: loops_sdk_sync.SamplingClient, prompt: list[int]) -> tuple[int, SampleResult]:
    """The process that sampled, and what it got."""
    return os.getpid(), client.sample(prompt, sampling_params=PARAMS)


def sample_in_a_loop(client: loops_sdk.SamplingClient, prompt: list[int]) -> tuple[int, SampleResult]:
    """The same with a client of the core."""

    async def run() -> SampleResult:
        async with client:
            return await client.sample_async(prompt, sampling_params=PARAMS)

    return os.getpid(), asyncio.run(run())


def put(results: Any, client: loops_sdk_sync.SamplingClient, prompt: list[int]) -> None:
    results.put(sample(client, prompt))


def key() -> str:
    """The key as a worker of somebody's farm finds it."""
    return os.environ["KEY_OF_THE_FARM"]
