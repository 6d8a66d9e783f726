"""`Future` over a future of the core: waiting, timeouts, abandoning, callbacks, and who keeps whom alive."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import weakref
from collections.abc import Iterator
from concurrent import futures

import pytest

from loops_sdk_sync import ClientClosedError, Future, RemoteOpError, RequestTimeoutError
from loops_sdk_sync._portal import Portal


class Core:
    """A future as the core makes them, settled by the test."""

    operation, operation_id, idempotency_key = "optim_step", "op-1", "key-1"

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.outcome: object = None
        self.waiting = threading.Semaphore(0)
        self.abandoned = threading.Semaphore(0)

    def __repr__(self) -> str:
        return f"<Core {self.operation} {self.operation_id} {'done' if self.done() else 'waiting'}>"

    def done(self) -> bool:
        return self.settled.is_set()

    async def result_async(self, timeout: float | None = None) -> object:
        self.waiting.release()
        try:
            async with asyncio.timeout(timeout):
                await self.settled.wait()
        except TimeoutError:
            raise RequestTimeoutError("no result", operation=self.operation) from None
        except asyncio.CancelledError:
            self.abandoned.release()
            raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Owner:
    pass


@pytest.fixture
def door() -> Iterator[Portal]:
    made = Portal()
    yield made
    made.close()


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def future(door: Portal, core: Core) -> Future[object]:
    return Future(door, core, Owner())


def settle(door: Portal, core: Core, outcome: object) -> None:
    async def now() -> None:
        core.outcome = outcome
        core.settled.set()

    door.call(now)


def test_the_result_is_waited_for(door: Portal, core: Core, future: Future[object]) -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        waits = [pool.submit(future.result) for _ in range(8)]
        for _ in waits:
            assert core.waiting.acquire(timeout=10)
        assert not future.done()
        settle(door, core, "value")
        assert [wait.result(10) for wait in waits] == ["value"] * 8
    assert future.done()
    assert future.result() == "value"


def test_a_timeout_abandons_the_wait_only(door: Portal, core: Core, future: Future[object]) -> None:
    with pytest.raises(RequestTimeoutError) as raised:
        future.result(timeout=0.01)
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.operation == "optim_step"
    settle(door, core, "value")
    assert future.result(timeout=0.01) == "value"


async def test_it_is_awaited_on_any_loop(door: Portal, core: Core, future: Future[object]) -> None:
    settle(door, core, "value")
    assert await future == "value"
    assert await future.result_async(timeout=10) == "value"
    assert await asyncio.to_thread(asyncio.run, future.result_async()) == "value"


async def test_cancelling_an_await_abandons_the_wait_only(door: Portal, core: Core, future: Future[object]) -> None:
    task = asyncio.ensure_future(future.result_async())
    assert await asyncio.to_thread(core.waiting.acquire, timeout=10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(core.abandoned.acquire, timeout=10)
    settle(door, core, "value")
    assert await future == "value"


def test_cancel_wakes_every_waiter(door: Portal, core: Core, future: Future[object]) -> None:
    with futures.ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(future.result) for _ in range(3)]
        for _ in waits:
            assert core.waiting.acquire(timeout=10)
        assert future.cancel() is True
        for wait in waits:
            with pytest.raises(futures.CancelledError):
                wait.result(10)
    for _ in waits:
        assert core.abandoned.acquire(timeout=10)
    settle(door, core, "value")
    assert future.result() == "value"
    assert future.cancel() is False


def test_the_error_of_the_operation_is_raised_and_returned(door: Portal, core: Core, future: Future[object]) -> None:
    settle(door, core, RemoteOpError("out of memory", "OutOfMemoryError"))
    with pytest.raises(RemoteOpError, match="out of memory"):
        future.result()
    assert isinstance(future.exception(), RemoteOpError)


def test_exception_tells_a_failed_wait_from_a_failed_operation(
    door: Portal, core: Core, future: Future[object]
) -> None:
    with pytest.raises(RequestTimeoutError):
        future.exception(timeout=0.01)
    settle(door, core, "value")
    assert future.exception() is None


def test_a_callback_may_block_and_ask(door: Portal, core: Core, future: Future[object]) -> None:
    told: futures.Future[object] = futures.Future()
    future.add_done_callback(lambda done: told.set_result((done.result(), done is future)))
    assert core.waiting.acquire(timeout=10)
    assert not told.done()
    settle(door, core, "value")
    assert told.result(10) == ("value", True)


def test_a_callback_hears_of_failures_too(door: Portal, core: Core, future: Future[object]) -> None:
    settle(door, core, RemoteOpError("broken"))
    told: futures.Future[object] = futures.Future()
    future.add_done_callback(lambda done: told.set_result(done.exception()))
    assert isinstance(told.result(10), RemoteOpError)


class Records(logging.Handler):
    """A handler that hands records to the test; pytest's own may come after it."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: queue.Queue[logging.LogRecord] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.queue.put(record)


def test_a_callback_that_raises_is_logged(door: Portal, core: Core, future: Future[object]) -> None:
    records = Records()
    settle(door, core, "value")
    logging.getLogger("loops_sdk_sync").addHandler(records)
    try:
        future.add_done_callback(lambda done: 1 / 0)
        record = records.queue.get(timeout=10)
    finally:
        logging.getLogger("loops_sdk_sync").removeHandler(records)
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert "optim_step op-1" in record.getMessage()
    assert future.result() == "value"


def test_cancel_drops_callbacks_that_wait(door: Portal, core: Core, future: Future[object]) -> None:
    told = threading.Event()
    future.add_done_callback(lambda done: told.set())
    assert core.waiting.acquire(timeout=10)
    future.cancel()
    assert core.abandoned.acquire(timeout=10)
    settle(door, core, "value")
    future.result()
    assert not told.is_set()


def test_a_wrapped_result_is_made_once(door: Portal, core: Core) -> None:
    future = Future(door, core, Owner(), lambda value: [value])
    settle(door, core, "value")
    assert future.result() == ["value"]
    assert future.result() is future.result()


def test_it_passes_on_what_the_core_knows(future: Future[object]) -> None:
    assert (future.operation, future.operation_id, future.idempotency_key) == ("optim_step", "op-1", "key-1")
    assert repr(future) == "<Future optim_step op-1 waiting>"


def test_it_keeps_its_client_alive_and_nothing_keeps_it(door: Portal, core: Core) -> None:
    owner = Owner()
    seen = weakref.ref(owner)
    future = Future(door, core, owner)
    del owner
    gc.collect()
    assert seen() is not None
    settle(door, core, "value")
    assert future.result() == "value"
    del future
    gc.collect()
    assert seen() is None


def test_after_the_end_it_says_so(door: Portal, core: Core, future: Future[object]) -> None:
    door.close()
    with pytest.raises(ClientClosedError):
        future.result()
