"""Calls and waits that are cancelled at random moments never block, reorder or lose what comes after them.

``LOOPS_SCHEDULES`` sets the number of schedules; the nox session `faults` passes it on.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
import pytest
from fault_kinds import FAULTS
from fault_rig import Behind, figures

from loops_sdk import ClientClosedError, Datum, TrainingClient

Rig: TypeAlias = Callable[..., AbstractAsyncContextManager[Behind]]

SCHEDULES = int(os.environ.get("LOOPS_SCHEDULES", "40"))
_CALLS = 14
_QUICK_FAULTS = tuple(sorted(set(FAULTS) - {"late", "stall", "429 date", "refuse"}))


@attrs.frozen
class Outcome:
    """What became of one call: `result` is `None` when it was cancelled."""

    mark: int
    result: Any


async def call(client: TrainingClient, mark: int, size: int, patience: random.Random) -> Outcome:
    """Submit and wait; on the way the wait may be abandoned and taken up again."""
    tokens = [mark] + [31] * size
    future = await client.forward_backward_async([Datum(tokens, {"target_tokens": tokens})])
    if patience.random() < 0.3:
        try:
            return Outcome(mark, await asyncio.wait_for(asyncio.shield(future.result_async()), 0.001))
        except TimeoutError:
            pass
    return Outcome(mark, await future)


async def cancelling(task: asyncio.Task[Outcome], moment: random.Random) -> None:
    """Cancel after some turns of the loop or some milliseconds: queued, uploading, or waiting for the result."""
    if moment.random() < 0.5:
        for _ in range(moment.randrange(20)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(moment.random() * 0.02)
    task.cancel()


async def play(one: Behind, seed: int) -> None:
    draw = random.Random(seed)
    tasks, cancels = [], []
    for mark in range(_CALLS):
        task = asyncio.create_task(call(one.client, mark, draw.choice((1, 1, 60)), draw))
        tasks.append(task)
        if draw.random() < 0.5:
            cancels.append(asyncio.create_task(cancelling(task, draw)))
        if draw.random() < 0.3:
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*cancels)
        last = await call(one.client, _CALLS, 1, random.Random(0))
    assert last.result.loss is not None

    finished = [outcome.mark for outcome in outcomes if isinstance(outcome, Outcome)]
    others = [outcome for outcome in outcomes if not isinstance(outcome, Outcome | asyncio.CancelledError)]
    assert others == []
    seen = one.engine.seen
    assert seen == sorted(set(seen)), "reordered, or done twice"
    assert {*finished, _CALLS} <= set(seen), "lost"


@pytest.mark.parametrize("part", range(4))
async def test_what_is_not_cancelled_completes_in_order(behind: Rig, part: int) -> None:
    for seed in range(part, SCHEDULES, 4):
        async with behind(_QUICK_FAULTS, rate=0.1, seed=seed, hold=0.05) as one:
            await play(one, seed)
        figures["schedules of cancellations"] += 1


async def test_closing_in_the_middle_of_a_schedule_ends_every_call(behind: Rig) -> None:
    for seed in range(SCHEDULES // 4):
        async with behind(_QUICK_FAULTS, rate=0.1, seed=seed, hold=0.05) as one:
            draw = random.Random(seed)
            tasks = [asyncio.create_task(call(one.client, mark, 1, draw)) for mark in range(_CALLS)]
            await asyncio.sleep(draw.random() * 0.05)
            async with asyncio.timeout(10):
                await one.client.aclose()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in outcomes} <= {Outcome, ClientClosedError}
