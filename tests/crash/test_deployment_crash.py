"""Kill -9 of the whole of `loops serve`, and a start on the same data directory: clients just go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from loops_sdk import ServiceClient

from ..served import serving
from .conftest import STEPS, train, weights


async def test_a_client_goes_on_when_the_deployment_is_started_again(
    tmp_path: Path, undisturbed: dict[str, bytes], figures: list[str]
) -> None:
    reached = asyncio.Event()

    async def halfway(step: int) -> None:
        if step == STEPS // 2:
            reached.set()

    with serving(tmp_path) as first:
        async with ServiceClient(base_url=first.base_url, api_key=first.api_key) as service:
            training = await service.create_lora_training_client_async("loops/tiny", rank=8, seed=11)
            training_on = asyncio.create_task(train(training, STEPS, halfway))
            await reached.wait()
            await asyncio.to_thread(first.kill)
            port = urlsplit(first.base_url).port or 0
            starting = serving(tmp_path, "--port", str(port))
            second = await asyncio.to_thread(starting.__enter__)
            try:
                assert (second.base_url, second.api_key) == (first.base_url, first.api_key)
                await training_on
                assert weights(tmp_path, training.run_id, STEPS) == undisturbed
                assert await training.policy_version_async() == STEPS
            finally:
                starting.__exit__(None, None, None)
    figures.append("1 kill of the whole deployment: its client went on, adapter and moments identical")
