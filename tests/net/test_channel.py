"""Submitting: order, cancellation at every moment, one key through all retries, four connections."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loops_sdk import AdamParams, Datum, OptimStepResponse, errors
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import OperationFuture
from loops_sdk._net.network import Network
from loops_sdk._wire import codec
from loops_sdk._wire.bodies import ForwardBackwardBody, OptimStepBody
from loops_sdk._wire.endpoints import FORWARD_BACKWARD, HEALTH, OPTIM_STEP, POLICY_VERSION
from loops_sdk.instrumentation import Event, OperationFinished, OperationSubmitted

Step = OperationFuture[OptimStepResponse]


async def submit(channel: Channel, number: float = 0) -> Step:
    return await channel.submit(OPTIM_STEP, OptimStepBody(AdamParams(learning_rate=float(number))))


def rates(trainer: Any) -> list[float]:
    return [submit.body["adam_params"]["learning_rate"] for submit in trainer.submits]


async def test_two_hundred_operations_in_call_order_over_four_connections(channel: Channel, trainer: Any) -> None:
    futures = await asyncio.gather(*(submit(channel, number) for number in range(200)))
    reads = [channel.read(POLICY_VERSION) for _ in range(20)]
    order = list(range(200))
    random.shuffle(order)
    waits = [futures[number].result_async() for number in order]
    results = await asyncio.gather(*waits, *reads)
    assert rates(trainer) == [float(number) for number in range(200)]
    assert [result.metrics["step"] for result in results[:200]] == [number + 1.0 for number in order]
    assert len({submit.key for submit in trainer.submits}) == 200
    assert trainer.most_connections <= 4


async def test_small_bodies_do_not_overtake_large_ones(channel: Channel, trainer: Any) -> None:
    large = Datum(np.zeros(200_000, dtype=np.int64))
    calls: list[Any] = [
        channel.submit(FORWARD_BACKWARD, ForwardBackwardBody([large]), size=200_000),
        submit(channel, 1),
        channel.submit(FORWARD_BACKWARD, ForwardBackwardBody([Datum([1])]), size=1),
        submit(channel, 2),
    ]
    await asyncio.gather(*calls)
    paths = [submit.path for submit in trainer.submits]
    assert paths == ["/forward_backward", "/optim_step", "/forward_backward", "/optim_step"]


async def test_the_loop_turns_while_a_large_body_is_encoded(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    plain = codec.plain

    def watched(value: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return plain(value)

    monkeypatch.setattr(codec, "plain", watched)
    batch = [Datum(np.zeros(40_000, dtype=np.int64))]
    await channel.submit(FORWARD_BACKWARD, ForwardBackwardBody(batch), size=40_000)
    await submit(channel)
    assert threads == [False, True]


# ---------------------------------------------------------------- cancellation


async def test_cancelled_while_queued_it_is_withdrawn(channel: Channel, trainer: Any) -> None:
    hold = asyncio.Event()

    async def on_submit(_request: Any) -> None:
        await hold.wait()

    trainer.on_submit = on_submit
    calls = [asyncio.create_task(submit(channel, number)) for number in range(5)]
    await trainer.submitted.wait()
    for number in (1, 3):
        calls[number].cancel()
    await asyncio.sleep(0)
    assert repr(channel).endswith("open, 4 to send, 0 awaiting results>")
    hold.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in done] == [asyncio.CancelledError if n in (1, 3) else OperationFuture for n in range(5)]
    assert rates(trainer) == [0.0, 2.0, 4.0]
    assert (await done[4]).metrics["step"] == 3.0


async def test_cancelled_while_uploading_it_goes_through(channel: Channel, trainer: Any, events: list[Event]) -> None:
    hold = asyncio.Event()

    async def on_submit(_request: Any) -> None:
        await hold.wait()

    trainer.on_submit = on_submit
    first = asyncio.create_task(submit(channel, 1))
    second = asyncio.create_task(submit(channel, 2))
    await trainer.submitted.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hold.set()
    assert (await (await second)).metrics["step"] == 2.0
    assert rates(trainer) == [1.0, 2.0]
    assert len([event for event in events if isinstance(event, OperationSubmitted)]) == 2


async def test_cancelled_while_polling_the_operation_goes_on(channel: Channel, trainer: Any) -> None:
    trainer.gate.clear()
    future = await submit(channel)
    wait = asyncio.create_task(future.result_async())
    await trainer.polled.wait()
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert not future.done()
    trainer.gate.set()
    assert (await future).metrics["step"] == 1.0


@pytest.mark.parametrize("seed", range(8))
async def test_cancellation_at_any_moment_loses_and_blocks_nothing_else(
    channel: Channel, trainer: Any, seed: int
) -> None:
    chance = random.Random(seed)

    async def one(number: int) -> float:
        return (await (await submit(channel, number))).metrics["step"]

    calls = [asyncio.create_task(one(number)) for number in range(60)]
    doomed = chance.sample(calls, 30)
    for call in doomed:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        call.cancel()
    done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert all(isinstance(result, float) for call, result in zip(calls, done, strict=True) if call not in doomed)
    assert rates(trainer) == sorted(rates(trainer))
    last = await submit(channel, 100)
    assert (await last).metrics["step"] == len(trainer.submits)


async def test_a_failed_submission_leaves_the_later_ones_alone(channel: Channel, trainer: Any, reply: Any) -> None:
    async def on_submit(_request: Any) -> Any:
        return reply(422, {"detail": "data[0]: too long"}) if len(trainer.submits) == 2 else None

    trainer.on_submit = on_submit
    calls = await asyncio.gather(*(submit(channel, number) for number in range(3)), return_exceptions=True)
    error = calls[1]
    assert isinstance(error, errors.BadRequestError)
    assert error.message == "data[0]: too long"
    assert (error.operation, error.idempotency_key) == ("optim_step", trainer.submits[1].key)
    assert (await calls[2]).metrics["step"] == 2.0


async def test_a_fault_of_ours_does_not_stop_the_line_either(channel: Channel) -> None:
    bad = channel.submit(FORWARD_BACKWARD, ForwardBackwardBody([], "ppo", {"x": object()}))
    failed, future = await asyncio.gather(bad, submit(channel), return_exceptions=True)
    assert isinstance(failed, errors.InvalidInputError)
    assert (await future).metrics["step"] == 1.0


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize("trouble", ["abort", "cut", 408, 429, 500, 502, 503, 504])
async def test_one_key_through_all_retries(channel: Channel, trainer: Any, reply: Any, cut: Any, trouble: Any) -> None:
    async def on_submit(request: Any) -> Any:
        if len(trainer.submits) > 3:
            return None
        if isinstance(trouble, int):
            return reply(trouble)
        if trouble == "cut":
            return await cut(request)
        request.transport.abort()
        return None

    trainer.on_submit = on_submit
    future = await submit(channel)
    assert len(trainer.submits) == 4
    assert {submit.key for submit in trainer.submits} == {future.idempotency_key}
    assert len({str(submit.body) for submit in trainer.submits}) == 1
    assert (await future).metrics["step"] == 1.0


async def test_an_answer_of_another_kind_names_call_and_key(channel: Channel, trainer: Any, reply: Any) -> None:
    async def on_submit(_request: Any) -> Any:
        return reply(202, {"id": "op-0"})

    trainer.on_submit = on_submit
    with pytest.raises(errors.ProtocolError, match="operation_id is missing") as caught:
        await submit(channel)
    assert (caught.value.operation, caught.value.url) == ("optim_step", f"{trainer.url}/optim_step")
    assert caught.value.idempotency_key == trainer.submits[0].key


async def test_a_trainer_that_is_not_there(connect: Callable[..., Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    channel = connect("http://127.0.0.1:9", timeout=0.3)
    with pytest.raises(errors.ConnectionFailedError, match=r"^no server answers at http://127.0.0.1:9: ") as caught:
        await submit(channel)
    assert caught.value.operation == "optim_step"
    assert caught.value.idempotency_key


# ---------------------------------------------------------------- reads and close


async def test_reads_come_one_at_a_time(channel: Channel, trainer: Any) -> None:
    values = await asyncio.gather(*(channel.read(POLICY_VERSION) for _ in range(10)))
    assert values == [{"policy_version": 0}] * 10
    await channel.read(HEALTH)
    assert trainer.most_connections == 1


async def test_close_fails_all_that_waits_and_leaves_nothing(channel: Channel, trainer: Any) -> None:
    trainer.gate.clear()
    accepted = await submit(channel)
    hold = asyncio.Event()

    async def on_submit(_request: Any) -> None:
        await hold.wait()

    trainer.on_submit = on_submit
    waiting = asyncio.create_task(accepted.result_async())
    trainer.submitted.clear()
    calls = [asyncio.create_task(submit(channel)) for _ in range(3)]
    await trainer.submitted.wait()
    await channel.aclose()
    done = await asyncio.gather(waiting, *calls, return_exceptions=True)
    assert [type(error) for error in done] == [errors.ClientClosedError] * 4
    assert "while the operation was being sent" in str(done[1])
    assert "before the operation was sent" in str(done[2])
    for use in (submit(channel), channel.read(HEALTH), accepted.result_async()):
        with pytest.raises(errors.ClientClosedError):
            await use
    assert repr(channel) == f"<Channel {trainer.url} closed, 0 to send, 0 awaiting results>"
    hold.set()


async def test_events_tell_what_resuming_needs(channel: Channel, trainer: Any, events: list[Event]) -> None:
    future = await submit(channel)
    await future
    submitted, finished = events
    assert isinstance(submitted, OperationSubmitted)
    assert (submitted.operation, submitted.operation_id) == ("optim_step", "op-0")
    assert (submitted.idempotency_key, submitted.url) == (future.idempotency_key, f"{trainer.url}/optim_step")
    assert isinstance(finished, OperationFinished)
    assert (finished.operation_id, finished.error) == ("op-0", None)


def test_a_client_used_from_another_loop_says_so(network: Network) -> None:
    channel = Channel("http://127.0.0.1:9", network.caller, network.poller, timeout=0.2)

    async def first() -> None:
        network.transport.require_open()

    async def second() -> None:
        for use in (submit(channel), channel.read(HEALTH)):
            with pytest.raises(errors.LoopsError, match="belongs to another event loop"):
                await use

    with asyncio.Runner() as runner:
        runner.run(first())
    with asyncio.Runner() as runner:
        runner.run(second())


@pytest.mark.parametrize("said", ["", ".", "..", "a b", "\u00e9", "x" * 256, "a\n"])
async def test_an_id_that_cannot_be_asked_for(channel: Channel, trainer: Any, reply: Any, said: str) -> None:
    async def on_submit(_request: Any) -> Any:
        return reply(202, {"operation_id": said})

    trainer.on_submit = on_submit
    with pytest.raises(errors.ProtocolError, match="expected an operation_id, got"):
        await submit(channel)
    assert trainer.polls == []


async def test_two_operations_with_one_id_do_not_leave_one_waiting_for_ever(
    channel: Channel, trainer: Any, reply: Any
) -> None:
    async def on_submit(_request: Any) -> Any:
        return reply(202, {"operation_id": "op-0"})

    trainer.on_submit = on_submit
    trainer.gate.clear()
    first = await submit(channel, 1)
    with pytest.raises(errors.ProtocolError, match="operation_id op-0 is that of an earlier operation"):
        await submit(channel, 2)
    trainer.gate.set()
    assert (await first).metrics["step"] == 1.0
    assert (await (await submit(channel, 3))).metrics["step"] == 1.0


async def test_an_operation_that_is_resumed_while_it_is_waited_for_has_two_futures(
    channel: Channel, trainer: Any
) -> None:
    trainer.gate.clear()
    first = await submit(channel)
    second = channel.resume(OPTIM_STEP, first.operation_id, "")
    with pytest.raises(errors.InvalidInputError, match="operation: op-0 is the id of optim_step, got forward_backward"):
        channel.resume(FORWARD_BACKWARD, first.operation_id, "")
    trainer.gate.set()
    async with asyncio.timeout(10):
        assert await first == await second
    assert await channel.resume(OPTIM_STEP, first.operation_id, "") == await first


@pytest.mark.parametrize("wrong", ["", ".", "..", "a b", "\ud800", "x" * 256, "a\n"])
async def test_an_operation_without_an_id_cannot_be_resumed(channel: Channel, trainer: Any, wrong: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=r"^operation_id: expected what the trainer gave"):
        channel.resume(OPTIM_STEP, wrong, "")
    assert trainer.polls == []
