"""Futures: many awaiters, timeouts that abandon only the wait, asking again, and failures nobody heard of."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from loops_sdk import AdamParams, ComposedFuture, OptimStepResponse, errors
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import OperationFuture
from loops_sdk._wire.bodies import OptimStepBody
from loops_sdk._wire.endpoints import OPTIM_STEP


async def submit(channel: Channel) -> OperationFuture[OptimStepResponse]:
    return await channel.submit(OPTIM_STEP, OptimStepBody(AdamParams()))


async def test_a_future_knows_its_operation(channel: Channel, trainer: Any) -> None:
    trainer.gate.clear()
    future = await submit(channel)
    assert (future.operation, future.operation_id) == ("optim_step", "op-0")
    assert future.idempotency_key == trainer.submits[0].key
    assert (future.done(), repr(future)) == (False, "<OperationFuture optim_step op-0 waiting>")
    trainer.gate.set()
    await future
    assert (future.done(), repr(future)) == (True, "<OperationFuture optim_step op-0 done>")


async def test_many_tasks_await_one_future_many_times(channel: Channel, trainer: Any) -> None:
    trainer.gate.clear()
    future = await submit(channel)
    waits = [asyncio.create_task(future.result_async()) for _ in range(50)]
    await trainer.polled.wait()
    for wait in waits[:20]:
        wait.cancel()
    trainer.gate.set()
    done = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in done[:20])
    assert all(result is done[20] for result in done[20:])
    assert await future is await future


@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_a_timeout_abandons_the_wait_only(channel: Channel, trainer: Any, timeout: float) -> None:
    trainer.gate.clear()
    future = await submit(channel)
    with pytest.raises(errors.RequestTimeoutError, match="the operation goes on") as caught:
        await future.result_async(timeout=timeout)
    assert not isinstance(caught.value, errors.OperationTimeoutError)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.operation_id, caught.value.idempotency_key) == ("op-0", future.idempotency_key)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await future
    trainer.gate.set()
    assert (await future.result_async(timeout=10)).metrics["step"] == 1.0
    assert (await future.result_async(timeout=0)).metrics["step"] == 1.0


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
async def test_a_wrong_timeout_is_refused(channel: Channel, timeout: Any) -> None:
    future = await submit(channel)
    with pytest.raises(errors.InvalidInputError, match=r"^timeout: expected a "):
        await future.result_async(timeout=timeout)
    await future


async def test_every_waiter_gets_an_error_of_its_own(channel: Channel, trainer: Any) -> None:
    trainer.failed["op-0"] = {"error": "boom", "error_class": "ValueError"}
    future = await submit(channel)
    first, second = await asyncio.gather(future.result_async(), future.result_async(), return_exceptions=True)
    assert first is not second
    assert str(first) == str(second)
    assert repr(future) == "<OperationFuture optim_step op-0 RemoteOpError>"


async def test_asking_again_after_the_operations_deadline(connect: Callable[..., Channel], trainer: Any) -> None:
    trainer.gate.clear()
    future = await submit(connect(trainer.url, timeout=0.2))
    for _ in range(2):
        with pytest.raises(errors.OperationTimeoutError):
            await future
    wait = asyncio.create_task(future.result_async())
    await asyncio.sleep(0)
    assert not future.done()
    trainer.gate.set()
    assert (await wait).metrics["step"] == 1.0


async def test_asking_again_after_the_connection_was_lost(connect: Callable[..., Channel], trainer: Any) -> None:
    async def on_poll(request: Any) -> None:
        request.transport.abort()

    trainer.on_poll = on_poll
    future = await submit(connect(trainer.url, timeout=0.2))
    with pytest.raises(errors.OperationTimeoutError, match="broke the connection"):
        await future
    trainer.on_poll = None
    assert (await future).metrics["step"] == 1.0


async def test_a_waiter_that_wakes_late_sees_no_empty_result(connect: Callable[..., Channel], trainer: Any) -> None:
    """One of two waiters asks again before the other one has looked."""
    trainer.gate.clear()
    future = await submit(connect(trainer.url, timeout=0.2))

    async def ask_again() -> Any:
        try:
            return await future
        except errors.OperationTimeoutError:
            trainer.gate.set()
            return await future

    done = await asyncio.gather(*(ask_again() for _ in range(5)))
    assert [result.metrics["step"] for result in done] == [1.0] * 5


async def test_an_older_operation_asked_for_again_keeps_its_place(
    connect: Callable[..., Channel], trainer: Any
) -> None:
    trainer.gate.clear()
    channel = connect(trainer.url, timeout=0.2)
    first = await submit(channel)
    with pytest.raises(errors.OperationTimeoutError):
        await first
    channel._source.polling.timeout = 20.0
    later = [await submit(channel) for _ in range(10)]
    wait = asyncio.create_task(first.result_async(timeout=10))
    await asyncio.sleep(0)
    assert next(iter(channel._source.polling._queue)) == "op-0"
    trainer.gate.set()
    assert (await wait).metrics["step"] == 1.0
    await asyncio.gather(*(future.result_async() for future in later))


# ---------------------------------------------------------------- failures nobody asked for


async def test_a_failure_nobody_heard_of_warns_once_and_by_name(channel: Channel, trainer: Any, events: Any) -> None:
    trainer.failed["op-0"] = {"error": "nothing accumulated", "error_class": "RuntimeError"}
    held = [await submit(channel)]
    while not held[0].done():
        events.arrived.clear()
        await events.arrived.wait()
    await asyncio.sleep(0)
    with pytest.warns(errors.UnretrievedErrorWarning, match=r"optim_step failed .* nothing accumulated") as heard:
        held.clear()
    gc.collect()
    assert len(heard) == 1


async def test_what_was_heard_of_does_not_warn(channel: Channel, trainer: Any) -> None:
    trainer.failed["op-0"] = {"error": "boom"}
    future = await submit(channel)
    with pytest.raises(errors.RemoteOpError):
        await future
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del future
        gc.collect()


async def test_success_and_close_do_not_warn(channel: Channel, trainer: Any) -> None:
    finished = await submit(channel)
    await finished
    trainer.gate.clear()
    waiting = await submit(channel)
    await channel.aclose()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del finished, waiting
        gc.collect()


# ---------------------------------------------------------------- two stages


Then = Callable[[OptimStepResponse], Awaitable[str]]


@pytest.fixture
def composed(channel: Channel) -> Callable[[Then], Awaitable[ComposedFuture[str]]]:
    async def make(then: Then) -> ComposedFuture[str]:
        return ComposedFuture(await submit(channel), then, lambda task: stages.append(task))

    stages: list[asyncio.Task[Any]] = []
    return make


async def test_the_second_stage_follows_the_first(composed: Any, trainer: Any) -> None:
    trainer.gate.clear()
    calls = 0

    async def then(result: OptimStepResponse) -> str:
        nonlocal calls
        calls += 1
        return f"after step {result.metrics['step']:g}"

    future = await composed(then)
    assert repr(future) == "<ComposedFuture optim_step op-0 not asked for>"
    assert (future.operation, future.operation_id) == ("optim_step", "op-0")
    assert future.idempotency_key == trainer.submits[0].key
    waits = [asyncio.create_task(future.result_async()) for _ in range(3)]
    await asyncio.sleep(0)
    assert repr(future) == "<ComposedFuture optim_step op-0 waiting>"
    waits[0].cancel()
    trainer.gate.set()
    assert await asyncio.gather(*waits[1:]) == ["after step 1"] * 2
    assert (await future, future.done(), calls) == ("after step 1", True, 1)


async def test_a_timeout_leaves_the_stage_running(composed: Any) -> None:
    hold = asyncio.Event()

    async def then(_result: OptimStepResponse) -> str:
        await hold.wait()
        return "there"

    future = await composed(then)
    with pytest.raises(errors.RequestTimeoutError) as caught:
        await future.result_async(timeout=0.05)
    assert caught.value.operation_id == "op-0"
    assert not future.done()
    hold.set()
    assert await future == "there"


async def test_a_stage_that_failed_is_tried_again_by_the_next_asking(composed: Any) -> None:
    calls = 0

    async def then(_result: OptimStepResponse) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise errors.WeightsNotReadyError("not yet")
        return "there"

    future = await composed(then)
    both = await asyncio.gather(future.result_async(), future.result_async(), return_exceptions=True)
    assert [type(error) for error in both] == [errors.WeightsNotReadyError] * 2
    assert both[0] is not both[1]
    assert await future == "there"


async def test_a_failed_first_stage_is_the_result(composed: Any, trainer: Any) -> None:
    trainer.failed["op-0"] = {"error": "disk full"}
    future = await composed(None)
    with pytest.raises(errors.RemoteOpError, match="disk full"):
        await future


async def test_a_stage_that_fails_behind_an_abandoned_wait_is_silent(
    composed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hold, failing = asyncio.Event(), asyncio.Event()

    async def then(_result: OptimStepResponse) -> str:
        await hold.wait()
        failing.set()
        raise errors.WeightsNotReadyError("never")

    future = await composed(then)
    with pytest.raises(errors.RequestTimeoutError):
        await future.result_async(timeout=0.01)
    hold.set()
    await failing.wait()
    await asyncio.sleep(0)
    del future
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_stage_that_its_owner_ended_says_closed(composed: Any) -> None:
    async def then(_result: OptimStepResponse) -> str:
        await asyncio.Event().wait()
        return ""

    future = await composed(then)
    wait = asyncio.create_task(future.result_async())
    await asyncio.sleep(0)
    future._task.cancel()
    with pytest.raises(errors.ClientClosedError):
        await wait
