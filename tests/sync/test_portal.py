"""The background loop: order, waiting, abandoning, and its end in every way a process can take."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from loops_sdk_sync import ClientClosedError, LoopsError
from loops_sdk_sync._portal import Portal, portal


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Whose event loop the portal runs: for that of asyncio uvloop is hidden, here and in child processes."""
    chosen = str(request.param)
    if chosen == "uvloop":
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        (tmp_path / "uvloop.py").write_text("raise ImportError")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return chosen


@pytest.fixture
def door(kind: str) -> Iterator[Portal]:
    made = Portal()
    yield made
    made.close()
    assert not made._thread.is_alive()


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


class Forever:
    """A coroutine that never ends, and knows whether it has begun and whether it was cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_a_call_blocks_for_the_value(door: Portal) -> None:
    assert door.call(double, 21) == 42


def test_it_runs_on_uvloop_where_that_is_installed(door: Portal, kind: str) -> None:
    async def whose() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert door.call(whose) == kind


def test_an_error_reaches_the_caller(door: Portal) -> None:
    async def fail() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        door.call(fail)


async def test_it_works_inside_a_running_loop(door: Portal) -> None:
    assert door.call(double, 1) == 2
    assert await door.call_async(double, 2) == 4


def test_it_works_on_any_event_loop(door: Portal) -> None:
    assert asyncio.run(door.call_async(double, 1)) == 2
    assert asyncio.run(door.call_async(double, 2)) == 4


def test_calls_begin_in_the_order_in_which_they_were_made(door: Portal) -> None:
    begun: list[int] = []
    made: list[int] = []
    lock = threading.Lock()

    async def begin(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)

    def call_many() -> None:
        for _ in range(50):
            with lock:
                number = len(made)
                made.append(number)
                waiting: futures.Future[None] = futures.Future()
                door.start(waiting, begin, number)
            waiting.result(30)

    threads = [threading.Thread(target=call_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun == made
    assert len(begun) == 400


def test_many_threads_wait_at_the_same_time(door: Portal) -> None:
    arrived: list[int] = []
    all_here = asyncio.Event()

    async def meet() -> None:
        arrived.append(1)
        if len(arrived) == 16:
            all_here.set()
        await all_here.wait()

    with futures.ThreadPoolExecutor(16) as pool:  # none of the calls returns before all of them wait
        meetings = [pool.submit(door.call, meet) for _ in range(16)]
        assert [meeting.result(30) for meeting in meetings] == [None] * 16


def test_the_context_of_the_caller_is_seen(door: Portal) -> None:
    name = contextvars.ContextVar("name", default="nobody")

    async def who() -> str:
        return name.get()

    token = name.set("caller")
    try:
        assert door.call(who) == "caller"
    finally:
        name.reset(token)


def test_a_blocking_call_on_its_own_thread_is_refused(door: Portal) -> None:
    async def call_again() -> int:
        return door.call(double, 1)

    with pytest.raises(LoopsError, match="would wait for itself"):
        door.call(call_again)
    assert door.call(double, 1) == 2


async def test_cancelling_an_await_cancels_the_call(door: Portal) -> None:
    endless = Forever()
    task = asyncio.create_task(door.call_async(endless.__call__))
    await asyncio.to_thread(endless.begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(endless.cancelled.wait, 10)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def let_it_fall_asleep() -> None:
    """A signal that comes after a thread has given up the GIL and before it sleeps in its lock, CPython hears of only
    when the lock is had. That is microseconds, but those in which the call begins on the other thread.
    """
    time.sleep(0.1)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_reaches_the_blocked_caller_and_cancels_the_call(door: Portal) -> None:
    endless = Forever()

    def interrupt() -> None:
        endless.begun.wait(10)
        let_it_fall_asleep()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        door.call(endless.__call__)
    thread.join()
    assert endless.cancelled.wait(10)


def test_a_task_that_exits_hurts_only_its_caller(door: Portal) -> None:
    async def leave() -> None:
        sys.exit(3)

    with pytest.raises(SystemExit):
        door.call(leave)
    assert door.call(double, 2) == 4


class Client:
    def __init__(self, hang: bool = False) -> None:
        self.closed = threading.Event()
        self.hang = hang

    async def aclose(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        self.closed.set()


def test_closing_closes_the_clients_and_cancels_the_rest() -> None:
    made = Portal()
    client, endless = Client(), Forever()
    made.keep(client)
    with futures.ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(made.call, endless.__call__)
        endless.begun.wait(10)
        made.close()
        with pytest.raises(ClientClosedError, match="exiting"):
            blocked.result(10)
    assert client.closed.is_set()
    assert endless.cancelled.is_set()
    assert not made._thread.is_alive()


def test_closing_does_not_wait_for_ever() -> None:
    made = Portal(exit_timeout=0.2)
    made.keep(Client(hang=True))
    made.close()
    made._thread.join(10)
    assert not made._thread.is_alive()


def test_a_closed_portal_refuses_calls() -> None:
    made = Portal()
    made.close()
    made.close()
    with pytest.raises(ClientClosedError, match="exiting"):
        made.call(double, 1)


def test_a_released_client_is_closed(door: Portal) -> None:
    client = Client()
    door.keep(client)
    door.release(client)
    assert client.closed.wait(10)
    assert not door._kept


def test_there_is_one_portal_per_process() -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        assert len({id(made) for made in pool.map(lambda _: portal(), range(50))}) == 1


# ------------------------------------------------------------------ whole processes

PRELUDE = """
import asyncio, os, sys, threading
from concurrent.futures import Future
from loops_sdk_sync._portal import portal
async def double(value): return 2 * value
async def forever():
    print("begun", flush=True)
    await asyncio.Event().wait()
class Client:
    async def aclose(self):
        await asyncio.sleep(0.01)
        print("closed", flush=True)
"""


def run(code: str, interrupt: Callable[[subprocess.Popen[str]], None] | None = None) -> tuple[int, str, str]:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            if interrupt is not None:
                interrupt(process)
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def test_nothing_is_said_and_nothing_hangs_at_exit() -> None:
    code = "portal().keep(Client()); print(portal().call(double, 4)); portal().start(Future(), forever)"
    status, out, err = run(code)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "8"
    assert "closed" in out


def test_exit_by_an_error_or_in_a_running_loop_is_clean_too() -> None:
    code = """
async def main():
    portal().keep(Client())
    print(await portal().call_async(double, 4))
    sys.exit(7)
asyncio.run(main())
"""
    assert run(code) == (7, "8\nclosed\n", "")


def test_threads_that_outlive_the_main_thread_may_go_on_calling() -> None:
    code = """
def late():
    threading.main_thread().join()
    print(portal().call(double, 5))
portal()
threading.Thread(target=late).start()
"""
    assert run(code) == (0, "10\n", "")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_a_blocked_script() -> None:
    def interrupt(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        let_it_fall_asleep()
        process.send_signal(signal.SIGINT)

    status, out, err = run("portal().keep(Client()); portal().call(forever)", interrupt)
    assert status == -signal.SIGINT
    assert out == "closed\n"
    assert err.strip().endswith("KeyboardInterrupt")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_parent_and_child_work_each_on_a_loop_of_its_own() -> None:
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork beside threads
from loops_sdk_sync import ClientClosedError
old = portal(); old.keep(Client()); print(old.call(double, 1), flush=True)
child = os.fork()
if child == 0:
    try:
        old.call(double, 2)
    except ClientClosedError as error:
        print("refused", f"process {os.getppid()}" in str(error), flush=True)
    old.release(next(iter(old._kept)))
    print(portal() is not old, portal().call(double, 3), flush=True)
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
for number in range(100):
    assert old.call(double, number) == 2 * number
print(portal() is old)
"""
    assert run(code) == (0, "2\nrefused True\nTrue 6\n0\nTrue\nclosed\n", "")
