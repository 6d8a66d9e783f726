"""Results: what each answer means in time, what ends a wait, and that nothing is asked for in a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from loops_sdk import AdamParams, OptimStepResponse, errors
from loops_sdk._net import poller as poller_module
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import OperationFuture
from loops_sdk._net.network import Network
from loops_sdk._wire.bodies import OptimStepBody
from loops_sdk._wire.endpoints import OPTIM_STEP
from loops_sdk._wire.retrying import Backoff
from loops_sdk.instrumentation import OperationFinished, RequestRetried


async def submit(channel: Channel) -> OperationFuture[OptimStepResponse]:
    return await channel.submit(OPTIM_STEP, OptimStepBody(AdamParams()))


def scripted(trainer: Any, *answers: Any) -> None:
    """The trainer's next answers to polls; then it works as usual."""
    left = list(answers)

    async def on_poll(request: Any) -> Any:
        if not left:
            return None
        said = left.pop(0)
        if said == "abort":
            request.transport.abort()
            return None
        return await said(request) if callable(said) else said

    trainer.on_poll = on_poll


# ---------------------------------------------------------------- the table, in time


async def test_408_is_followed_up_at_once(channel: Channel, trainer: Any, reply: Any, events: Any) -> None:
    channel._source.polling.backoff = Backoff(first=60, cap=60)
    scripted(trainer, reply(408), reply(200, {"status": "running"}), reply(200, {"status": "new word"}), reply(408))
    assert (await (await submit(channel)).result_async(timeout=10)).metrics["step"] == 1.0
    assert len(trainer.polls) == 5
    assert not [event for event in events if isinstance(event, RequestRetried)]


@pytest.mark.parametrize("trouble", [429, 500, 502, 504, "abort", "cut", "text"])
async def test_a_passing_trouble_is_waited_out(
    channel: Channel, trainer: Any, reply: Any, cut: Any, events: Any, trouble: Any
) -> None:
    def said() -> Any:
        return {"cut": cut, "abort": "abort", "text": web.Response(text="<html>")}.get(trouble) or reply(trouble)

    scripted(trainer, said(), said())
    assert (await (await submit(channel)).result_async(timeout=10)).metrics["step"] == 1.0
    assert len(trainer.polls) == 3
    retried = [event for event in events if isinstance(event, RequestRetried)]
    # aiohttp itself repeats a GET once when a connection that was kept turns out to be dead
    assert [event.attempt for event in retried] in ([1], [1, 2])
    assert {event.operation for event in retried} == {"retrieve optim_step"}
    assert all(event.wait > 0 for event in retried)


async def test_retry_after_is_honoured(channel: Channel, trainer: Any, reply: Any) -> None:
    scripted(trainer, reply(429, **{"Retry-After": "0.3"}))
    start = time.monotonic()
    await (await submit(channel))
    assert time.monotonic() - start >= 0.3
    assert len(trainer.polls) == 2


async def test_a_poll_that_runs_out_of_time_is_simply_sent_again(
    channel: Channel, trainer: Any, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "POLL_TIMEOUT", 0.1)
    channel._source.polling.backoff = Backoff(first=60, cap=60)
    trainer.gate.clear()
    future = await submit(channel)
    while len(trainer.polls) < 3:
        trainer.polled.clear()
        await trainer.polled.wait()
    trainer.gate.set()
    assert (await future).metrics["step"] == 1.0
    assert not [event for event in events if isinstance(event, RequestRetried)]


async def test_404_is_an_unknown_operation(channel: Channel, trainer: Any, reply: Any) -> None:
    scripted(trainer, reply(404, {"detail": "no such operation"}))
    future = await submit(channel)
    for _ in range(2):  # asking again does not help
        with pytest.raises(errors.UnknownRequestError, match="no such operation") as caught:
            await future
    assert (caught.value.operation_id, caught.value.idempotency_key) == ("op-0", future.idempotency_key)
    assert len(trainer.polls) == 1


async def test_a_failed_operation(channel: Channel, trainer: Any, events: Any) -> None:
    trainer.failed["op-0"] = {"error": {"message": "nothing accumulated", "type": "RuntimeError"}}
    first, second = await asyncio.gather(submit(channel), submit(channel))
    with pytest.raises(errors.RemoteOpError, match=r"^RuntimeError: nothing accumulated ") as caught:
        await first
    assert caught.value.error_class == "RuntimeError"
    assert set(caught.value.context()) >= {"operation", "operation_id", "idempotency_key", "url", "elapsed"}
    assert (await second).metrics["step"] == 2.0
    finished = {event.operation_id: event.error for event in events if isinstance(event, OperationFinished)}
    assert "nothing accumulated" in finished["op-0"]
    assert finished["op-1"] is None


@pytest.mark.parametrize("result", [None, [], "text", {"metrics": [1]}, {"metrics": {"step": "x"}}])
async def test_a_result_of_another_kind_is_a_protocol_error(
    channel: Channel, trainer: Any, reply: Any, result: Any
) -> None:
    scripted(trainer, reply(200, {"status": "done", "result": result}))
    first, second = await asyncio.gather(submit(channel), submit(channel))
    with pytest.raises(errors.ProtocolError, match=r"^unexpected reply: ") as caught:
        await first
    assert caught.value.operation_id == "op-0"
    await second


async def test_a_large_result_is_decoded_off_the_loop(channel: Channel, trainer: Any, reply: Any) -> None:
    scripted(trainer, reply(200, {"status": "done", "result": {"metrics": {str(n): n for n in range(50_000)}}}))
    assert len((await (await submit(channel))).metrics) == 50_000


async def test_a_large_result_that_breaks_everything_is_still_an_error_of_ours(
    channel: Channel, trainer: Any, reply: Any
) -> None:
    scripted(trainer, reply(200, {"status": "done", "result": "x" * 300_000}))
    with pytest.raises(errors.ProtocolError):
        await (await submit(channel))


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_a_refused_question_says_nothing_about_the_operation(
    channel: Channel, trainer: Any, reply: Any, status: int
) -> None:
    scripted(trainer, reply(status))
    future = await submit(channel)
    with pytest.raises(errors.StatusError) as caught:
        await future
    assert caught.value.status == status
    assert (await future).metrics["step"] == 1.0


# ---------------------------------------------------------------- a server that goes away


async def test_503_is_tried_a_few_times_and_then_told_to_all(channel: Channel, trainer: Any, reply: Any) -> None:
    submitted = asyncio.Event()

    async def on_poll(_request: Any) -> Any:
        await submitted.wait()  # what is submitted after the verdict gets a few tries of its own
        return reply(503, {"detail": "shutting down"})

    trainer.on_poll = on_poll
    futures = await asyncio.gather(*(submit(channel) for _ in range(50)))
    submitted.set()
    done = await asyncio.gather(*(future.result_async() for future in futures), return_exceptions=True)
    assert {type(error) for error in done} == {errors.ServerShutdownError}
    assert [getattr(error, "operation_id", None) for error in done] == [f"op-{number}" for number in range(50)]
    assert len(trainer.polls) <= poller_module.MOST_SHUTDOWNS + 1
    trainer.on_poll = None  # another replica took over: ask again, in any order
    again = await asyncio.gather(*(future.result_async() for future in reversed(futures)))
    assert [result.metrics["step"] for result in again] == [float(n) for n in range(50, 0, -1)]


async def test_503_now_and_then_is_a_load_balancer(channel: Channel, trainer: Any, reply: Any) -> None:
    scripted(trainer, *(reply(503 if number != 5 else 408) for number in range(11)))
    assert (await (await submit(channel))).metrics["step"] == 1.0


async def test_a_server_that_always_fails_is_asked_ten_times_at_most_for_any_number(
    channel: Channel, trainer: Any, reply: Any
) -> None:
    """The default back-off, twenty times as fast, for what would be the first five seconds."""

    async def on_poll(_request: Any) -> Any:
        return reply(500)

    trainer.on_poll = on_poll
    channel._source.polling.backoff = Backoff(first=0.5 / 20, cap=1.0)
    futures = await asyncio.gather(*(submit(channel) for _ in range(200)))
    trainer.polls.clear()
    channel._source.polling.failures = 0
    with pytest.raises(errors.RequestTimeoutError):
        await futures[100].result_async(timeout=5.0 / 20)
    assert 1 <= len(trainer.polls) <= 10


async def test_a_server_that_does_not_hold_is_not_asked_in_a_loop(channel: Channel, trainer: Any, reply: Any) -> None:
    async def on_poll(_request: Any) -> Any:
        return reply(408)

    trainer.on_poll = on_poll
    future = await submit(channel)
    with pytest.raises(errors.RequestTimeoutError):
        await future.result_async(timeout=0.5)
    assert len(trainer.polls) < 15


async def test_a_hung_trainer_fails_all_its_operations_together(
    connect: Callable[..., Channel], trainer: Any, events: Any
) -> None:
    trainer.gate.clear()
    channel = connect(trainer.url, timeout=0.5)
    futures = await asyncio.gather(*(submit(channel) for _ in range(20)))
    start = time.monotonic()
    done = await asyncio.gather(*(future.result_async() for future in futures), return_exceptions=True)
    assert time.monotonic() - start < 1.5
    assert {type(error) for error in done} == {errors.OperationTimeoutError}
    first = done[0]
    assert isinstance(first, errors.OperationTimeoutError)
    assert "within 0.5 s of its turn; await its future again to go on waiting" in first.message
    trainer.gate.set()
    assert (await futures[7]).metrics["step"] == 8.0
    assert trainer.most_connections <= 4


async def test_the_last_trouble_is_told_when_time_runs_out(
    connect: Callable[..., Channel], trainer: Any, reply: Any
) -> None:
    async def on_poll(_request: Any) -> Any:
        return reply(502, {"detail": "upstream gone"})

    trainer.on_poll = on_poll
    future = await submit(connect(trainer.url, timeout=0.3))
    with pytest.raises(errors.OperationTimeoutError, match="the last trouble was: upstream gone") as caught:
        await future
    assert isinstance(caught.value.__cause__, errors.ServerFailureError)


async def test_one_reset_does_not_make_a_finished_result_wait_for_another_poll(channel: Channel, trainer: Any) -> None:
    async def on_poll(request: Any) -> Any:
        if request.match_info["id"] == "op-1":
            await hold.wait()
        elif len([one for one in trainer.polls if one == "op-0"]) == 1:
            await second_asked.wait()
            request.transport.abort()
        return None

    hold, second_asked = asyncio.Event(), asyncio.Event()
    trainer.on_poll = on_poll
    first, second = await asyncio.gather(submit(channel), submit(channel))
    while "op-1" not in trainer.polls:
        trainer.polled.clear()
        await trainer.polled.wait()
    second_asked.set()
    assert (await first.result_async(timeout=5)).metrics["step"] == 1.0
    hold.set()
    await second


# ---------------------------------------------------------------- cost


async def test_many_wait_at_the_price_of_two_polls(channel: Channel, trainer: Any, network: Network) -> None:
    trainer.gate.clear()
    before = len(asyncio.all_tasks())
    futures = await asyncio.gather(*(submit(channel) for _ in range(300)))
    await asyncio.sleep(0.1)  # nothing may happen in this time
    assert repr(network.poller) == "<Poller open, 300 operations waiting, 2 polls under way>"
    assert len(trainer.polls) == 2
    assert len(asyncio.all_tasks()) - before < 20
    trainer.gate.set()
    await asyncio.gather(*(future.result_async() for future in futures))
    assert repr(network.poller) == "<Poller open, 0 operations waiting, 0 polls under way>"


async def test_trainers_do_not_wait_for_each_other(connect: Callable[..., Channel], trainer: Any, serve: Any) -> None:
    other = type(trainer)()
    other.url = await serve(other.application())  # its gate is closed
    slow = await submit(connect(other.url))
    quick = await submit(connect(trainer.url))
    assert (await quick).metrics["step"] == 1.0
    assert not slow.done()


async def test_closing_one_trainer_leaves_the_polls_of_the_others(
    connect: Callable[..., Channel], trainer: Any, serve: Any, network: Network
) -> None:
    trainer.gate.clear()
    other = type(trainer)()
    other.url = await serve(other.application())
    closing, staying = connect(other.url), connect(trainer.url)
    lost, kept = await submit(closing), await submit(staying)
    await asyncio.gather(trainer.polled.wait(), other.polled.wait())
    await closing.aclose()
    assert repr(network.poller) == "<Poller open, 1 operations waiting, 1 polls under way>"
    with pytest.raises(errors.ClientClosedError):
        await lost
    with pytest.raises(errors.ClientClosedError):  # nor does asking again open it
        await lost
    trainer.gate.set()
    await kept
