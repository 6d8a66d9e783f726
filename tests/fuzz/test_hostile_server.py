"""Whatever a server answers: an error of ours or a good result, in bounded time and memory, and no key in any text."""

from __future__ import annotations

import asyncio
import gc
import pickle
import resource
import sys
import time
from collections.abc import Iterator

import pytest
from client_calls import CALLS, KEY
from fuzz_figures import ANSWERS, figures
from hostile_answers import Answer, answers
from hostile_server import HONEST, HostileServer
from hypothesis import given, note, settings
from hypothesis import strategies as st
from logged import Logged, everything_logged

from loops_sdk import ClientClosedError, InvalidInputError, LoopsError
from loops_sdk._clients import control, readiness
from loops_sdk._net import poller

#: Seconds that one case may take: far more than the waits in it, because the machine may be busy with other things.
LONGEST_CASE = 30.0
#: Mebibytes that the process may grow by in all cases together.
MOST_GROWTH = 400
_TO_MIB = 2**20 if sys.platform == "darwin" else 2**10


class Stage:
    """A server and an event loop, kept for all cases; what goes wrong behind the scenes is remembered."""

    def __init__(self, logged: Logged) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.trouble.append(str(context)))
        self.server = HostileServer()
        self.trouble: list[str] = []
        self.logged = logged
        self.loop.run_until_complete(self.server.start())

    def play(self, name: str, plan: dict[str, list[Answer]]) -> LoopsError | None:
        """Make a call against a plan; the error that came out, if one did."""
        error = self.loop.run_until_complete(self._play(name, plan))
        gc.collect(0)
        assert not self.trouble, "something failed where nobody looks"
        assert [line for line in self.logged.look() if KEY in line] == []
        return error

    async def _play(self, name: str, plan: dict[str, list[Answer]]) -> LoopsError | None:
        await self.server.calm(plan)
        before = asyncio.all_tasks()
        try:
            async with asyncio.timeout(LONGEST_CASE):
                CALLS[name].check(await CALLS[name].work(self.server.url))
        except LoopsError as error:
            return error
        finally:
            await asyncio.sleep(0)
            left = [task for task in asyncio.all_tasks() - before if "loops_sdk" in repr(task)]
            assert not left, "a task outlives its client"
        return None

    def close(self) -> None:
        self.loop.run_until_complete(self.server.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


def most_memory() -> float:
    """The most that this process has held so far, in mebibytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _TO_MIB


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch, everything_logged() as logged:
        patch.setattr(readiness, "_FIRST_PAUSE", 0.005)
        patch.setattr(readiness, "_LONGEST_PAUSE", 0.05)
        patch.setattr(control, "_RECONCILE", 0.05)
        patch.setattr(control, "_LOOK_AGAIN", 0.02)
        patch.setattr(poller, "POLL_TIMEOUT", 0.3)
        made = Stage(logged)
        before = most_memory()
        yield made
        made.close()
        assert most_memory() - before < MOST_GROWTH


def judge(name: str, error: LoopsError) -> None:
    """An error that a program can live with: of the right kind, short, printable, portable, and without the key."""
    if isinstance(error, InvalidInputError):
        assert error.message.partition(":")[0] in CALLS[name].compares, "blames the caller, whose arguments were good"
    assert not isinstance(error, ClientClosedError)
    assert len(str(error).encode()) < 20_000
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    for text in told(error):
        assert KEY not in text


def told(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """All that an exception and those behind it hold."""
    if error is None or id(error) in seen:
        return
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "__notes__", "")))
    for other in (error.__cause__, error.__context__):
        yield from told(other, seen | {id(error)})


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, dict[str, list[Answer]]]:
    """A call, and for some of its requests what they are answered."""
    name = draw(st.sampled_from(sorted(CALLS)))
    asks = CALLS[name].asks
    chosen = draw(st.lists(st.sampled_from(asks), min_size=1, max_size=2, unique=True))
    return name, {
        ask: draw(st.lists(answers(HONEST.get(ask, {"operation_id": "op-0"})), min_size=1, max_size=2))
        for ask in chosen
    }


@settings(max_examples=ANSWERS)
@given(case=cases())
def test_whatever_a_server_answers(stage: Stage, case: tuple[str, dict[str, list[Answer]]]) -> None:
    name, plan = case
    figures["hostile answers"] += 1
    start = time.monotonic()
    error = stage.play(name, plan)
    if error is None:
        figures["good results"] += 1
        return
    note(f"{type(error).__name__}: {error}")
    figures["errors of ours"] += 1
    judge(name, error)
    assert time.monotonic() - start < LONGEST_CASE


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_server_that_is_honest_after_all_is_understood(stage: Stage, name: str) -> None:
    """Else the cases would prove nothing."""
    assert stage.play(name, {}) is None
    assert stage.server.asked
    assert set(stage.server.asked) <= set(CALLS[name].asks) | {"create_session"}
