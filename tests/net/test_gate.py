"""The gate: short requests take turns, long ones do not wait for one another."""

from __future__ import annotations

import asyncio
import time

import pytest

from loops_sdk._net import gate as module
from loops_sdk._net.gate import Gate, most_connections


class _Crowd:
    """Counts who is inside a gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside = self.most = 0

    async def visit(self, seconds: float) -> None:
        async with self.gate:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.inside -= 1


async def test_short_ones_take_turns_in_their_order() -> None:
    crowd, order = _Crowd(Gate(4, most=100)), []

    async def visit(number: int) -> None:
        await crowd.visit(0.001)
        order.append(number)

    await asyncio.gather(*(visit(number) for number in range(100)))
    assert crowd.most == 4
    assert [number // 4 for number in order] == [number // 4 for number in range(100)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST", 0.05)
    monkeypatch.setattr(module, "_NEXT", 0.02)
    monkeypatch.setattr(module, "_LATE", 5.0)  # machines that run tests are slow now and then


@pytest.mark.usefixtures("impatient")
async def test_long_ones_are_let_in_up_to_the_most_and_no_further() -> None:
    crowd = _Crowd(Gate(4, most=30))
    started = time.monotonic()
    await asyncio.gather(*(crowd.visit(0.4) for _ in range(30)))
    assert crowd.most == 30
    assert time.monotonic() - started < 1.2  # in turns of four it would be 3.2
    await asyncio.gather(*(crowd.visit(0.3) for _ in range(40)))
    assert crowd.most == 30


@pytest.mark.usefixtures("impatient")
async def test_it_is_as_narrow_as_before_once_it_was_empty() -> None:
    gate = Gate(4, most=30)
    await asyncio.gather(*(_Crowd(gate).visit(0.2) for _ in range(10)))
    again = _Crowd(gate)
    await asyncio.gather(*(again.visit(0.001) for _ in range(50)))
    assert again.most == 4


@pytest.mark.usefixtures("impatient")
async def test_a_few_that_take_long_do_not_stop_the_line() -> None:
    """The pace counts: one that is soon done now and then is not enough for those who wait."""
    crowd = _Crowd(Gate(4, most=1000))
    waiting = [asyncio.create_task(crowd.visit(seconds)) for seconds in (9, 9, 9, *[0.03] * 200)]
    done, _ = await asyncio.wait(waiting[3:], timeout=4)  # one after another they would take six seconds
    assert len(done) == 200
    for task in waiting[:3]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_gives_up_takes_no_place() -> None:
    crowd = _Crowd(Gate(1, most=1))
    inside = asyncio.create_task(crowd.visit(0.05))
    await asyncio.sleep(0)
    given_up = [asyncio.create_task(crowd.visit(1)) for _ in range(5)]
    last = asyncio.create_task(crowd.visit(0))
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.wait_for(asyncio.gather(inside, last), 2)
    await asyncio.gather(*given_up, return_exceptions=True)
    await asyncio.wait_for(crowd.visit(0), 1)


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_is_slow_itself_does_not_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LATE", -1.0)
    crowd = _Crowd(Gate(4, most=30))
    await asyncio.gather(*(crowd.visit(0.1) for _ in range(12)))
    assert crowd.most == 4


def test_files_are_left_for_other_things() -> None:
    assert 128 <= most_connections() <= 2**15
