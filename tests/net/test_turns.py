"""Turns that are held over several operations: nothing comes between them, and however they end the line goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from loops_sdk import AdamParams, OptimStepResponse, errors
from loops_sdk._net.channel import Channel, Turn
from loops_sdk._net.futures import OperationFuture
from loops_sdk._wire.bodies import OptimStepBody
from loops_sdk._wire.endpoints import HEALTH, OPTIM_STEP
from loops_sdk.instrumentation import Event, OperationFinished

Step = OperationFuture[OptimStepResponse]


async def submit(line: Channel | Turn, number: float = 0, **options: Any) -> Step:
    return await line.submit(OPTIM_STEP, OptimStepBody(AdamParams(learning_rate=float(number))), **options)


def rates(trainer: Any) -> list[float]:
    return [submit.body["adam_params"]["learning_rate"] for submit in trainer.submits]


async def pair(channel: Channel, number: float, function: Callable[[], object] = lambda: None) -> Step:
    """Two operations in a row with a function between."""
    with channel.turn() as turn:
        await (await submit(turn, number))
        await turn.run(function)
        return await submit(turn, number + 0.5)


async def test_what_a_turn_sends_stands_in_a_row(channel: Channel, trainer: Any) -> None:
    await asyncio.gather(submit(channel, 0), pair(channel, 1), submit(channel, 2), pair(channel, 3), submit(channel, 4))
    assert rates(trainer) == [0.0, 1.0, 1.5, 2.0, 3.0, 3.5, 4.0]


async def test_one_turn_may_have_several_on_the_way(channel: Channel, trainer: Any) -> None:
    with channel.turn() as turn:
        later = asyncio.create_task(submit(channel, 9))
        await asyncio.gather(*(submit(turn, number) for number in range(3)))
    await later
    assert rates(trainer) == [0.0, 1.0, 2.0, 9.0]


async def test_a_turn_that_sends_nothing_is_over(channel: Channel, trainer: Any) -> None:
    with channel.turn():
        later = asyncio.create_task(submit(channel, 1))
        await channel.read(HEALTH)  # small reads do not wait
        assert rates(trainer) == []
    await later
    assert rates(trainer) == [1.0]


async def test_cancelled_while_queued_a_turn_leaves_no_trace(channel: Channel, trainer: Any) -> None:
    hold = asyncio.Event()

    async def on_submit(_request: Any) -> None:
        await hold.wait()

    trainer.on_submit = on_submit
    first, held, last = (
        asyncio.create_task(call) for call in (submit(channel, 1), pair(channel, 2), submit(channel, 3))
    )
    await trainer.submitted.wait()
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    hold.set()
    await asyncio.gather(first, last)
    assert rates(trainer) == [1.0, 3.0]


async def test_cancelled_between_its_operations_a_turn_is_released(channel: Channel, trainer: Any) -> None:
    running, go_on = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        go_on.wait(10)

    held, last = asyncio.create_task(pair(channel, 1, work)), asyncio.create_task(submit(channel, 2))
    await asyncio.to_thread(running.wait, 10)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    await (await last)
    go_on.set()
    assert rates(trainer) == [1.0, 2.0]


async def test_cancelled_while_uploading_the_operation_goes_through(channel: Channel, trainer: Any) -> None:
    hold = asyncio.Event()

    async def on_submit(_request: Any) -> None:
        await hold.wait()

    trainer.on_submit = on_submit
    held, last = asyncio.create_task(pair(channel, 1)), asyncio.create_task(submit(channel, 2))
    await trainer.submitted.wait()
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    hold.set()
    await last
    assert rates(trainer) == [1.0, 2.0]


async def test_an_idle_turn_does_not_count_as_work_for_the_trainer(channel: Channel, trainer: Any) -> None:
    busy: list[bool] = []
    held, last = asyncio.gather(pair(channel, 1, lambda: busy.append(channel._busy()))), asyncio.gather(submit(channel))
    await trainer.submitted.wait()
    assert channel._busy()
    await held
    await (await last)[0]
    assert busy == [False]
    assert not channel._busy()


async def test_a_function_that_fails_releases_the_turn(channel: Channel, trainer: Any) -> None:
    def fail() -> None:
        raise ZeroDivisionError("mine")

    held, last = await asyncio.gather(pair(channel, 1, fail), submit(channel, 2), return_exceptions=True)
    assert isinstance(held, ZeroDivisionError)
    assert isinstance(last, OperationFuture)
    assert rates(trainer) == [1.0, 2.0]


async def test_a_refused_operation_does_not_end_the_turn(channel: Channel, trainer: Any, reply: Any) -> None:
    async def on_submit(_request: Any) -> Any:
        return reply(422, {"detail": "no"}) if len(trainer.submits) == 1 else None

    trainer.on_submit = on_submit
    with channel.turn() as turn:
        with pytest.raises(errors.BadRequestError):
            await submit(turn, 1)
        await submit(turn, 2)
    assert rates(trainer) == [1.0, 2.0]


async def test_a_function_cannot_wait_for_its_own_turn(
    channel: Channel, connect: Callable[..., Channel], trainer: Any
) -> None:
    loop, other = asyncio.get_running_loop(), connect(trainer.url)

    def call(line: Channel) -> Step:
        return asyncio.run_coroutine_threadsafe(submit(line, 7), loop).result(10)

    with pytest.raises(errors.LoopsError, match="calls the trainer that waits for it"):
        await pair(channel, 1, lambda: call(channel))
    await pair(channel, 2, lambda: call(other))
    await submit(channel, 3)
    assert rates(trainer) == [1.0, 2.0, 7.0, 2.5, 3.0]


async def test_close_in_the_middle_of_a_turn(channel: Channel, trainer: Any) -> None:
    running, go_on = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        go_on.wait(10)

    calls = [asyncio.create_task(call) for call in (pair(channel, 1, work), pair(channel, 2), submit(channel, 3))]
    await asyncio.to_thread(running.wait, 10)
    await channel.aclose()
    go_on.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in done] == [errors.ClientClosedError] * 3
    assert rates(trainer) == [1.0]
    with pytest.raises(errors.ClientClosedError):
        channel.turn()


async def test_close_refuses_what_a_turn_has_not_sent(channel: Channel, trainer: Any) -> None:
    hold = asyncio.Event()

    async def on_submit(_request: Any) -> None:
        await hold.wait()

    trainer.on_submit = on_submit
    with channel.turn() as turn:
        calls = [asyncio.create_task(submit(turn, number)) for number in range(3)]
        await trainer.submitted.wait()
        await channel.aclose()
        done = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(errors.ClientClosedError):
            await submit(turn)
    assert [type(error) for error in done] == [errors.ClientClosedError] * 3
    assert "while the operation was being sent" in str(done[0])
    assert "before the operation was sent" in str(done[1])
    hold.set()


# ---------------------------------------------------------------- what becomes of a result


async def test_who_hears_of_a_result_may_change_it(channel: Channel, trainer: Any) -> None:
    def double(response: OptimStepResponse) -> OptimStepResponse:
        return OptimStepResponse({"step": 2 * response.metrics["step"]})

    future = await submit(channel, on_result=double)
    assert [(await future).metrics["step"], (await future).metrics["step"]] == [2.0, 2.0]


async def test_who_hears_of_a_result_may_refuse_it(channel: Channel, trainer: Any, events: list[Event]) -> None:
    def refuse(response: OptimStepResponse) -> OptimStepResponse:
        raise errors.UnsupportedError("not like this")

    future = await submit(channel, on_result=refuse)
    for _ in range(2):
        with pytest.raises(errors.UnsupportedError, match="not like this") as caught:
            await future
        assert caught.value.operation_id == future.operation_id
    (finished,) = [event for event in events if isinstance(event, OperationFinished)]
    assert "not like this" in str(finished.error)
    assert len(trainer.polls) == 1  # what is refused is not asked for again
