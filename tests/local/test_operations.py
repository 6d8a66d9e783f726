"""The queue: order, identity, waiting, bounds, and its end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loops_sdk.errors import (
    BadRequestError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ServerShutdownError,
)
from loops_sdk.local.operations import Bounds, Operations, success

Make = Callable[..., Operations]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Operations] = []

    def one(**options: Any) -> Operations:
        operations = Operations(**options)
        operations.start()
        made.append(operations)
        return operations

    yield one
    for operations in made:
        assert await operations.aclose(10)


async def done(operations: Operations, operation_id: str) -> Any:
    reply = await operations.retrieve(operation_id)
    assert reply is not None
    return json.loads(reply)


async def test_operations_run_one_at_a_time_in_the_order_of_submission(make: Make) -> None:
    operations = make()
    seen: list[int] = []
    threads: set[int] = set()

    def work(number: int) -> Callable[[], bytes]:
        def run() -> bytes:
            threads.add(threading.get_ident())
            seen.append(number)
            return success(number)

        return run

    ids = [operations.submit("op", None, b"", work(number)) for number in range(200)]
    results = await asyncio.gather(*(done(operations, one) for one in reversed(ids)))
    assert seen == list(range(200))
    assert len(threads) == 1
    assert [result["result"] for result in results] == list(reversed(range(200)))


async def test_the_same_key_is_the_same_operation(make: Make) -> None:
    operations = make()
    runs: list[int] = []

    def work() -> bytes:
        runs.append(1)
        return success(1)

    first = operations.submit("op", "key", b"body", work)
    await done(operations, first)
    assert operations.submit("op", "key", b"body", work) == first
    assert runs == [1]
    with pytest.raises(InvalidInputError, match="another request"):
        operations.submit("op", "key", b"other body", work)


async def test_a_failure_is_kept_with_its_class(make: Make) -> None:
    operations = make()

    def fail() -> bytes:
        raise RuntimeError("no gradient")

    reply = await done(operations, operations.submit("optim_step", None, b"", fail))
    assert reply == {"status": "error", "error": {"message": "no gradient"}, "error_class": "RuntimeError"}
    assert (await done(operations, operations.submit("op", None, b"", lambda: success(2))))["result"] == 2


async def test_waiting_ends_after_a_while_and_finds_the_result_the_moment_it_is_there(make: Make) -> None:
    operations = make(hold=0.01)
    gate = threading.Event()

    def work() -> bytes:
        gate.wait(10)
        return success(3)

    operation_id = operations.submit("op", None, b"", work)
    assert await operations.retrieve(operation_id) is None
    operations._hold = 10
    waiting = asyncio.gather(*(operations.retrieve(operation_id) for _ in range(20)))
    await asyncio.sleep(0)
    gate.set()
    assert set(await asyncio.wait_for(waiting, 5)) == {b'{"status":"done","result":3}'}


async def test_a_cancelled_wait_is_nobodys_loss(make: Make) -> None:
    operations = make()
    gate = threading.Event()
    operation_id = operations.submit("op", None, b"", lambda: success(4) if gate.wait(10) else b"")
    waiting = asyncio.create_task(operations.retrieve(operation_id))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert (await done(operations, operation_id))["result"] == 4


@pytest.mark.parametrize("bounds", [Bounds(results=2), Bounds(result_bytes=70)])
async def test_the_oldest_results_are_dropped_and_their_keys_are_not_used_again(make: Make, bounds: Bounds) -> None:
    operations = make(bounds=bounds)
    ids = [operations.submit("op", f"key-{number}", b"", lambda: success(5)) for number in range(3)]
    await done(operations, ids[-1])
    with pytest.raises(NotFoundError, match="dropped"):
        await operations.retrieve(ids[0])
    assert (await done(operations, ids[1]))["result"] == 5
    with pytest.raises(BadRequestError, match="not done again") as refused:
        operations.submit("op", "key-0", b"", lambda: success(5))
    assert refused.value.status == 409


async def test_results_age(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = make(bounds=Bounds(result_age=60))
    operation_id = operations.submit("op", None, b"", lambda: success(6))
    await done(operations, operation_id)
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr("loops_sdk.local.operations.queue.time.monotonic", lambda: now + 61)
    with pytest.raises(NotFoundError):
        await operations.retrieve(operation_id)


async def test_dropped_keys_are_bounded_too(make: Make) -> None:
    operations = make(bounds=Bounds(results=1, keys=1))
    for number in range(4):
        await done(operations, operations.submit("op", f"key-{number}", b"", lambda: success(7)))
    assert operations.submit("op", "key-0", b"", lambda: success(7))
    assert len(operations._records._dropped) == len(operations._records._dropped_ids) == 1


@pytest.mark.parametrize("bounds", [Bounds(queued=2), Bounds(queued_bytes=25)])
async def test_too_much_work_is_refused_for_now(make: Make, bounds: Bounds) -> None:
    operations = make(bounds=bounds)
    gate, started = threading.Event(), threading.Event()

    def work() -> bytes:
        started.set()
        gate.wait(10)
        return success(8)

    operations.submit("op", None, b"", work, body=b"0" * 10)
    assert await asyncio.to_thread(started.wait, 10)
    assert operations.running == "op"
    accepted = [operations.submit("op", None, b"", work, body=b"0" * 10) for _ in range(2)]
    with pytest.raises(OverloadedError):
        operations.submit("op", None, b"", work, body=b"0" * 10)
    assert operations.queued == 2
    gate.set()
    assert (await done(operations, accepted[-1]))["result"] == 8
    assert operations.queued == 0


async def test_unknown_operations_are_unknown(make: Make) -> None:
    with pytest.raises(NotFoundError, match="unknown"):
        await make().retrieve("nothing")


async def test_closing_wakes_who_waits_and_accepts_no_more() -> None:
    operations = Operations()
    operations.start()
    gate, started = threading.Event(), threading.Event()

    def work() -> bytes:
        started.set()
        gate.wait(10)
        return success(9)

    running = operations.submit("op", None, b"", work)
    behind = operations.submit("op", None, b"", work)
    assert await asyncio.to_thread(started.wait, 10)
    waiting = asyncio.create_task(operations.retrieve(running))
    await asyncio.sleep(0)
    assert not await operations.aclose(0.01)
    with pytest.raises(ServerShutdownError):
        await waiting
    with pytest.raises(ServerShutdownError):
        operations.submit("op", None, b"", work)
    gate.set()
    assert await operations.aclose(10)
    with pytest.raises(ServerShutdownError):
        await operations.retrieve(behind)


async def test_closing_before_the_start_is_no_trouble() -> None:
    assert await Operations().aclose()
