"""`APIFuture`: blocking, awaiting on any loop, giving up, and failures nobody asked for; without servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from concurrent import futures
from typing import Any, cast

import pytest

from loops_sdk import ClientClosedError, ConnectionFailedError, InvalidInputError, LoopsError, UnretrievedErrorWarning
from loops_sdk_sync._portal import portal
from loops_sdk_sync._proxy import Proxy
from loops_sdk_sync.tinker import APIConnectionError, APIFuture


class Client:
    _portal = portal()


def begun(work: Any) -> APIFuture[Any]:
    return APIFuture.of("sample", cast("Proxy[Any]", Client()), work)


async def seven() -> int:
    return 7


async def for_ever() -> None:
    await asyncio.Event().wait()


async def unreachable() -> None:
    raise ConnectionFailedError("nobody answers", url="http://127.0.0.1:1")


async def closed() -> None:
    raise ClientClosedError("the client was closed during the request")


def test_one_future_for_both_worlds() -> None:
    future = begun(seven)
    assert isinstance(future, futures.Future)
    assert future.future() is future
    assert future.result(10) == 7
    assert asyncio.run(future.result_async(10)) == 7
    assert asyncio.run(future.coroutine()) == 7
    assert [one.result() for one in futures.as_completed([future], timeout=10)] == [7]

    async def awaited() -> Any:
        return await future, await asyncio.wait_for(future.coroutine(), 10), await asyncio.wrap_future(future)

    assert asyncio.run(awaited()) == (7, 7, 7)


def test_a_timeout_abandons_the_wait_only() -> None:
    release = threading.Event()

    async def later() -> int:
        await asyncio.to_thread(release.wait)
        return 7

    future = begun(later)
    with pytest.raises(TimeoutError, match=r"sample has no result after 0\.01 s; it goes on"):
        future.result(0.01)
    with pytest.raises(TimeoutError, match=r"sample has no result after 0\.01 s; it goes on"):
        asyncio.run(future.result_async(0.01))

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await future

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert not future.cancelled()
    release.set()
    assert future.result(10) == 7


def test_cancelling_gives_the_call_up() -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    future = begun(work)
    Client._portal.call(asyncio.sleep, 0)  # it has begun
    assert future.cancel()
    assert ended.wait(10)
    with pytest.raises(futures.CancelledError):
        future.result()
    with pytest.raises(futures.CancelledError):
        asyncio.run(future.result_async())


def test_errors_are_those_of_the_namespace_and_keep_their_cause() -> None:
    future = begun(unreachable)
    with pytest.raises(APIConnectionError, match="nobody answers") as caught:
        future.result(10)
    assert isinstance(caught.value.__cause__, ConnectionFailedError)
    assert isinstance(future.exception(), APIConnectionError)

    async def wrong() -> None:
        raise InvalidInputError("prompt: expected at least one token, got none")

    with pytest.raises(ValueError, match=r"^prompt: ") as wrong_input:
        begun(wrong).result(10)
    assert wrong_input.value.__cause__ is None


def _forget() -> None:
    futures.wait([begun(unreachable)], timeout=10)
    gc.collect()


def test_a_failure_that_nobody_asked_for_warns_once() -> None:
    with pytest.warns(UnretrievedErrorWarning, match=r"^sample failed and its future was never asked: .*nobody an"):
        _forget()


def test_a_failure_that_was_asked_for_does_not(recwarn: pytest.WarningsRecorder) -> None:
    assert begun(unreachable).exception(10) is not None
    with contextlib.suppress(APIConnectionError):
        begun(unreachable).result(10)
    futures.wait([begun(closed)], timeout=10)  # who closes a client knows that its calls end
    gc.collect()
    assert not [one for one in recwarn if one.category is UnretrievedErrorWarning]


def test_asking_on_the_thread_that_must_answer_is_refused() -> None:
    pending = begun(for_ever)
    told: futures.Future[Any] = futures.Future()

    def ask(_: object) -> None:
        for wait in (pending.result, pending.exception):
            try:
                told.set_result(wait(0))
            except LoopsError as error:
                seen.append(str(error))
        told.set_result(seen)

    seen: list[str] = []
    begun(seven).add_done_callback(ask)
    assert all("would wait for itself" in text for text in told.result(10))
    pending.cancel()


def test_a_loop_that_ends_while_it_waits_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def later() -> int:
        await asyncio.to_thread(release.wait)
        return 7

    future = begun(later)

    async def wait_a_little() -> None:
        waiting = asyncio.ensure_future(future.result_async())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(wait_a_little())
    release.set()
    assert future.result(10) == 7
    assert caplog.records == []
