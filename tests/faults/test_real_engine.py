"""The same with a real deployment: after a run through a bad network adapter and moments are, to the bit, those of a
run through a good one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fault_rig
import pytest
from fault_kinds import FAULTS
from fault_proxy import FaultProxy, Plan
from test_exactly_once import OPERATIONS

from loops_sdk import ServiceClient, TrainingClient
from loops_sdk.local import LocalStack

pytestmark = pytest.mark.slow


def script(seed: int, size: int) -> list[list[int] | float]:
    draw = random.Random(seed)
    return [
        draw.uniform(1e-4, 1e-3) if place % 3 == 2 else [draw.randrange(3, 200) for _ in range(draw.randint(3, 20))]
        for place in range(size)
    ]


async def perform(client: TrainingClient, calls: Sequence[list[int] | float]) -> list[Any]:
    results = [(await future).metrics for future in await fault_rig.submit(client, calls)]
    await (await client.save_state_async("final"))
    return results


def files(data_dir: Path, run_id: str | None) -> dict[str, bytes]:
    folder = data_dir / "runs" / str(run_id) / "weights" / "final"
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


async def test_weights_and_moments_are_those_of_the_undisturbed_run(tmp_path: Path) -> None:
    calls = script(5, OPERATIONS // 2)
    async with (
        LocalStack(data_dir=tmp_path) as stack,
        ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service,
    ):
        calm = await service.create_lora_training_client_async("loops/tiny", rank=4, seed=11)
        expected = await perform(calm, calls)
        made = await service.create_lora_training_client_async("loops/tiny", rank=4, seed=11)
        place = urlsplit((await service._way.control("the trainer").get_run(str(made.run_id))).base_url)
        plan = Plan(tuple(sorted(FAULTS)), seed=1)
        given = {"base_model": "loops/tiny", "lora_rank": 4, "run_id": made.run_id, "api_key": stack.api_key}
        async with (
            FaultProxy((str(place.hostname), int(place.port or 0)), plan, FAULTS) as proxy,
            TrainingClient(proxy.url, **given) as client,
        ):
            results = await perform(fault_rig.quicken(client), calls)
        version = await made.policy_version_async()

    assert version == sum(isinstance(call, float) for call in calls)
    assert results == expected
    assert set(files(tmp_path, made.run_id)) == {"adapter_model.safetensors", "optimizer.safetensors"}
    assert files(tmp_path, made.run_id) == files(tmp_path, calm.run_id)
    fault_rig.figures["faults"] += plan.met.total()
    assert plan.met.total() > OPERATIONS // 20
