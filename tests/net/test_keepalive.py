"""Keep-alive: an idle trainer is asked, a busy one is not, and neither failures nor the end of the client hurt."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from loops_sdk import AdamParams, errors
from loops_sdk._net import keepalive
from loops_sdk._net.channel import Channel
from loops_sdk._net.keepalive import KeepAlive
from loops_sdk._wire.bodies import OptimStepBody
from loops_sdk._wire.endpoints import OPTIM_STEP, POLICY_VERSION
from loops_sdk.instrumentation import KeepAliveFailed

SHIPPED = keepalive.INTERVAL
STEP = OptimStepBody(AdamParams(learning_rate=0.1))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive, "INTERVAL", 0.02)


async def reads(trainer: Any, number: int) -> None:
    """Return once the trainer was asked so many times."""
    async with asyncio.timeout(5):
        while len(trainer.reads) < number:
            trainer.read.clear()
            await trainer.read.wait()


def test_the_interval_is_a_minute() -> None:
    assert SHIPPED == 60.0


async def test_an_idle_trainer_is_asked_for_its_health_again_and_again(channel: Channel, trainer: Any) -> None:
    channel.keep_alive.start()
    await reads(trainer, 3)
    assert set(trainer.reads) == {"/health"}
    assert trainer.submits == []


async def test_nothing_is_asked_before_it_starts_and_the_first_call_starts_it(channel: Channel, trainer: Any) -> None:
    assert channel.keep_alive._timer is None
    await channel.read(POLICY_VERSION)
    await reads(trainer, 3)
    assert trainer.reads == ["/policy_version", "/health", "/health"]


async def test_an_operation_starts_it_too(channel: Channel, trainer: Any) -> None:
    await (await channel.submit(OPTIM_STEP, STEP))
    await reads(trainer, 1)
    assert trainer.reads == ["/health"]


async def test_a_trainer_that_works_for_us_is_left_alone(channel: Channel, trainer: Any) -> None:
    """Polls are under way all the time; the timer fires often and never asks."""
    fired = count_fired(channel.keep_alive)
    trainer.gate.clear()
    future = await channel.submit(OPTIM_STEP, STEP)
    await fired(5)
    assert trainer.reads == []
    trainer.gate.set()
    await future
    await reads(trainer, 1)


async def test_a_submission_under_way_counts_as_work(channel: Channel, trainer: Any) -> None:
    fired, release = count_fired(channel.keep_alive), asyncio.Event()

    async def slow(_request: Any) -> None:
        await release.wait()

    trainer.on_submit = slow
    call = asyncio.create_task(channel.submit(OPTIM_STEP, STEP))
    await fired(5)
    assert trainer.reads == []
    release.set()
    await (await call)


def count_fired(keep_alive: KeepAlive) -> Callable[[int], Any]:
    """Count how often the timer found the trainer busy or not, and wait for a number of times."""
    seen, news = [], asyncio.Event()
    busy = keep_alive._busy

    def looked() -> bool:
        seen.append(busy())
        news.set()
        return seen[-1]

    keep_alive._busy = looked

    async def wait(number: int) -> None:
        async with asyncio.timeout(5):
            while len(seen) < number:
                news.clear()
                await news.wait()
        assert all(seen)

    return wait


async def test_failures_are_told_once_until_it_answers_again(
    channel: Channel, trainer: Any, events: Any, reply: Any
) -> None:
    async def ill(_request: Any) -> Any:
        return reply(503, {"detail": "scaled to zero"}) if len(trainer.reads) not in (4, 5) else None

    trainer.on_read = ill
    channel.keep_alive.start()
    await reads(trainer, 9)
    first, second = (event for event in events if isinstance(event, KeepAliveFailed))
    assert first == second
    assert (first.operation, first.url) == ("keep_alive", trainer.url)
    assert "scaled to zero" in first.error
    assert "secret" not in str(events)
    trainer.on_read = None
    assert (await (await channel.submit(OPTIM_STEP, STEP))).metrics["step"] == 1


async def test_closing_ends_it_also_in_the_middle_of_a_question(channel: Channel, trainer: Any, events: Any) -> None:
    release = asyncio.Event()

    async def hang(_request: Any) -> None:
        await release.wait()

    trainer.on_read = hang
    channel.keep_alive.start()
    await reads(trainer, 1)
    await channel.aclose()
    await channel.aclose()
    release.set()
    channel.keep_alive.start()
    assert channel.keep_alive._timer is None
    assert channel.keep_alive._asking is None
    assert events == []


async def test_a_closed_network_ends_no_task_with_an_exception(network: Any, channel: Channel, trainer: Any) -> None:
    channel.keep_alive.start()
    await reads(trainer, 1)
    await network.aclose()
    asking = channel.keep_alive._asking
    await asyncio.gather(*([asking] if asking else []))
    await channel.aclose()


async def test_a_client_that_nobody_has_is_not_kept_by_its_timer() -> None:
    async def ask() -> None:
        raise AssertionError("asked for nobody")

    keep_alive = KeepAlive(ask, lambda: False, lambda _error: None)
    keep_alive.start()
    timer, seen = keep_alive._timer, weakref.ref(keep_alive)
    assert timer is not None
    del keep_alive
    gc.collect()
    assert seen() is None
    timer._run()
    timer.cancel()


async def test_only_our_own_errors_are_failures() -> None:
    """A fault of ours is not hidden as a trainer's."""
    told: list[errors.LoopsError] = []

    async def ask() -> None:
        raise ZeroDivisionError

    keep_alive = KeepAlive(ask, lambda: False, told.append)
    with pytest.raises(ZeroDivisionError):
        await keep_alive._once()
    assert told == []
    await keep_alive.aclose()
