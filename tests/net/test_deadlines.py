"""Deadlines: scopes that run out in their time, all with one timer, or together."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from loops_sdk._net.deadlines import Deadlines


async def _sleep_within(deadlines: Deadlines, seconds: float = math.inf) -> float:
    """How long it took until the scope ran out."""
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        async with deadlines.within(seconds):
            await asyncio.sleep(10)
    return time.monotonic() - start


async def test_each_runs_out_in_its_time_whatever_the_order() -> None:
    deadlines = Deadlines()
    took = await asyncio.gather(*(_sleep_within(deadlines, seconds) for seconds in (0.3, 0.1, 0.2, 0.1)))
    for seconds, one in zip((0.3, 0.1, 0.2, 0.1), took, strict=True):
        assert seconds - 0.01 <= one < seconds + 0.5
    assert await _sleep_within(deadlines, 0.05) < 0.5


async def test_what_was_left_in_time_is_not_ended() -> None:
    deadlines = Deadlines()
    for _ in range(3):
        async with deadlines.within(0.3):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.4)


async def test_the_end_of_all_reaches_scopes_with_and_without_a_time() -> None:
    deadlines = Deadlines()
    waiting = [asyncio.create_task(_sleep_within(deadlines, seconds)) for seconds in (math.inf, 5.0)]
    await asyncio.sleep(0.02)
    deadlines.end()
    deadlines.end()  # as often as one likes
    assert max(await asyncio.gather(*waiting)) < 1.0


async def test_who_is_cancelled_is_cancelled() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(_sleep_within(deadlines, 5.0))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
