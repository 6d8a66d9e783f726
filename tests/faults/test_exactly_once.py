"""Whatever happens between client and trainer, every accepted operation is applied exactly once, in order.

``LOOPS_FAULTS="SEEDS OPERATIONS"`` sets the size; the nox session `faults` passes it on.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import double_engine
import numpy as np
import pytest
from fault_kinds import FAULTS
from fault_rig import Behind, figures, submit

from loops_sdk import TrainingClient

Rig: TypeAlias = Callable[..., AbstractAsyncContextManager[Behind]]

#: Shares of requests for faults that take a second or more.
SLOW = {"late": 0.06, "stall": 0.06, "429 date": 0.06}
SEEDS, OPERATIONS = (int(part) for part in os.environ.get("LOOPS_FAULTS", "3 150").split())


def script(seed: int) -> list[list[int] | float]:
    """Tokens of a `forward_backward`, or the learning rate of an `optim_step` that has something to apply."""
    draw = random.Random(seed)
    calls: list[list[int] | float] = []
    pending = False
    for _ in range(OPERATIONS):
        if pending and draw.random() < 0.4:
            calls.append(draw.uniform(0.001, 0.1))
            pending = False
        else:
            calls.append([draw.randrange(double_engine.VOCAB) for _ in range(draw.randint(2, 12))])
            pending = True
    return calls


async def perform(client: TrainingClient, calls: list[list[int] | float]) -> list[Any]:
    """All calls one after another, their results only at the end."""
    return [await future.result_async(timeout=120) for future in await submit(client, calls)]


def state(engine: double_engine.Trainer) -> tuple[bytes, bytes, int]:
    return np.asarray(engine.logits).tobytes(), np.asarray(engine.moments).tobytes(), engine.step


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_operation_is_applied_once_and_in_order(behind: Rig, seed: int) -> None:
    calls = script(seed)
    async with behind() as undisturbed:
        expected = await perform(undisturbed.client, calls)
    async with behind(tuple(FAULTS), seed=seed) as disturbed:
        results = await perform(disturbed.client, calls)
        disturbed.proxy.calm = True
        told = await disturbed.client.policy_version_async()

    figures["operations"] += len(calls)
    assert told == sum(isinstance(call, float) for call in calls) == disturbed.engine.step
    assert disturbed.engine.seen == undisturbed.engine.seen
    assert state(disturbed.engine) == state(undisturbed.engine)
    assert [result.metrics for result in results] == [result.metrics for result in expected]
    assert disturbed.proxy.plan.met.total() >= OPERATIONS // 10


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_each_fault_alone(behind: Rig, fault: str) -> None:
    calls = script(7)[:30]
    async with behind((fault,), rate=SLOW.get(fault, 0.3), seed=3) as one:
        await perform(one.client, calls)
    assert one.engine.step == sum(isinstance(call, float) for call in calls)
    assert [seen for seen in one.engine.seen if seen != "step"] == [call[0] for call in calls if isinstance(call, list)]
    assert one.proxy.plan.met[fault] > 0
