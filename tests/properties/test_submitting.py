"""The line to a trainer under everything that can happen, in any order, over a transport without sockets.

The test is the network and the clock: it decides when a request is answered, and how, and when time passes. The client
decides only what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, cast

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loops_sdk import AdamParams, ClientClosedError, LoopsError, OptimStepResponse
from loops_sdk._net import caller, channel, futures, keepalive, poller
from loops_sdk._net.caller import Caller
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import OperationFuture
from loops_sdk._net.poller import Poller
from loops_sdk._net.transport import Response, Transport
from loops_sdk._wire.bodies import OptimStepBody
from loops_sdk._wire.endpoints import OPTIM_STEP
from loops_sdk._wire.retrying import Backoff
from loops_sdk.errors import ConnectionFailedError

QUICK = Backoff(first=0.1, cap=1.0)


class Clock:
    """Stands in for the module `time`; it moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


class Loop(asyncio.SelectorEventLoop):
    """An event loop by that clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock.now


@attrs.define(eq=False)
class Asked:
    """A request under way: a submission of operation `number`, or the question what has become of it."""

    number: int
    key: str | None
    answer: asyncio.Future[Response]


class Network:
    """Stands in for a `Transport`. `sent` holds number and key of every submission, repeated ones included."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.under_way: list[Asked] = []
        self.sent: list[tuple[int, str]] = []

    def require_open(self) -> None:
        pass

    async def pause(self, _seconds: float) -> None:
        await asyncio.sleep(0)

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> Response:
        if method == "POST":
            number, key = (
                int(json.loads(body or b"")["adam_params"]["learning_rate"]),
                (headers or {})["Idempotency-Key"],
            )
            self.sent.append((number, key))
            asked = Asked(number, key, self._loop.create_future())
        elif url.endswith("/health"):
            return said(200, {})  # the trainer has not been heard of for a minute
        else:
            asked = Asked(int(url.rpartition("-")[2]), None, self._loop.create_future())
        self.under_way.append(asked)
        try:
            return await asked.answer
        finally:
            self.under_way.remove(asked)

    @property
    def submissions(self) -> list[Asked]:
        return [asked for asked in self.under_way if asked.key is not None and not asked.answer.done()]

    @property
    def questions(self) -> list[Asked]:
        return [asked for asked in self.under_way if asked.key is None and not asked.answer.done()]


def said(status: int, body: Any) -> Response:
    return Response(status, {}, json.dumps(body).encode())


def accepted(number: int) -> Response:
    return said(202, {"operation_id": f"op-{number}"})


def done(number: int) -> Response:
    return said(200, {"status": "done", "result": {"metrics": {"step": number}}})


TROUBLES: dict[str, Response | Exception] = {
    "reset": ConnectionFailedError("the connection broke", code="reset"),
    "500": said(500, {"detail": "a failure"}),
    "429": said(429, {"detail": "too many"}),
}


class Line(RuleBasedStateMachine):
    """Calls in their order, what became of each, and what the trainer has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patch = pytest.MonkeyPatch()
        for module in (caller, channel, futures, keepalive, poller):
            self.patch.setattr(module, "time", self.clock)
        self.loop = Loop(self.clock)
        self.network = Network(self.loop)
        transport = cast("Transport", self.network)
        self.caller = Caller(transport, lambda _event: None)
        self.caller._backoff = QUICK
        self.poller = Poller(transport)
        self.channel = Channel("http://trainer", self.caller, self.poller, timeout=1e4)
        self.channel._source.polling.backoff = QUICK
        self.calls: list[asyncio.Task[OperationFuture[OptimStepResponse]]] = []
        self.waits: list[tuple[int, asyncio.Task[OptimStepResponse]]] = []
        self.withdrawn: set[int] = set()  # cancelled before their turn
        self.spoilt: set[int] = set()  # cannot be encoded
        self.failed: set[int] = set()  # refused by the trainer, or tried often enough
        self.outcomes: dict[int, str] = {}  # what polling was told
        self.closed = False

    def turn(self) -> None:
        """Let everything happen that can happen without an answer."""

        async def many() -> None:
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(many())

    # ---------------------------------------------------------------- what a user does

    @rule(count=st.integers(1, 4), good=st.booleans() | st.just(True))
    def call(self, count: int, good: bool) -> None:
        for _ in range(count):
            number = len(self.calls)
            body: Any = (
                OptimStepBody(AdamParams(learning_rate=float(number))) if good else OptimStepBody(cast("Any", {1}))
            )
            self.spoilt |= set() if good else {number}
            self.calls.append(self.loop.create_task(self.channel.submit(OPTIM_STEP, body)))
        self.turn()

    @precondition(lambda self: any(not call.done() for call in self.calls))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([n for n, call in enumerate(self.calls) if not call.done()]))
        if number not in {sent for sent, _ in self.network.sent}:
            self.withdrawn.add(number)
        self.calls[number].cancel()
        self.turn()

    @precondition(lambda self: self.futures())
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        number, future = data.draw(st.sampled_from(self.futures()))
        self.waits.append((number, self.loop.create_task(future.result_async())))
        self.turn()

    @precondition(lambda self: any(not wait.done() for _, wait in self.waits))
    @rule(data=st.data())
    def stop_waiting(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([wait for _, wait in self.waits if not wait.done()])).cancel()
        self.turn()

    @precondition(lambda self: not self.closed and len(self.calls) > 5)
    @rule(really=st.integers(0, 5))
    def close(self, really: int) -> None:
        if really == 0:
            self.closed = True
            self.loop.run_until_complete(asyncio.wait_for(self.channel.aclose(), 5))
            self.turn()
            assert all(call.done() for call in self.calls), "a call outlives its client"
            assert all(wait.done() for _, wait in self.waits), "a wait outlives its client"
            assert self.network.under_way == []

    # ---------------------------------------------------------------- what the trainer and the network do

    @precondition(lambda self: self.network.submissions)
    @rule()
    def accept(self) -> None:
        (asked,) = self.network.submissions
        asked.answer.set_result(accepted(asked.number))
        self.turn()

    @precondition(lambda self: self.network.submissions)
    @rule()
    def refuse(self) -> None:
        (asked,) = self.network.submissions
        self.failed.add(asked.number)
        asked.answer.set_result(said(400, {"detail": "no"}))
        self.turn()

    @precondition(lambda self: self.network.under_way)
    @rule(data=st.data(), trouble=st.sampled_from(sorted(TROUBLES)))
    def disturb(self, data: st.DataObject, trouble: str) -> None:
        asked = data.draw(st.sampled_from([*self.network.submissions, *self.network.questions]))
        again = [key for _, key in self.network.sent].count(asked.key or "")
        if again == self.channel._patience.attempts:
            self.failed.add(asked.number)
        what = TROUBLES[trouble]
        if isinstance(what, Exception):
            asked.answer.set_exception(type(what)(str(what), code="reset"))
        else:
            asked.answer.set_result(what)
        self.turn()

    @precondition(lambda self: self.network.questions)
    @rule(data=st.data(), outcome=st.sampled_from(["done", "done", "error", "unknown", "running"]))
    def answer(self, data: st.DataObject, outcome: str) -> None:
        asked = data.draw(st.sampled_from(self.network.questions))
        if self.calls[asked.number].cancelled() and outcome in ("error", "unknown"):
            outcome = "done"  # nobody has its future, so its failure would be a warning, as it should
        if outcome != "running":
            self.outcomes[asked.number] = outcome
        replies = {
            "done": done(asked.number),
            "error": said(200, {"status": "error", "error": "a failure"}),
            "unknown": said(404, {"detail": "the trainer has been restarted"}),
            "running": said(408, {"detail": "still running"}),
        }
        asked.answer.set_result(replies[outcome])
        self.turn()

    @rule(seconds=st.floats(0.001, 30))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.turn()

    # ---------------------------------------------------------------- what always holds

    def futures(self) -> list[tuple[int, OperationFuture[OptimStepResponse]]]:
        ended = [(n, call) for n, call in enumerate(self.calls) if call.done() and not call.cancelled()]
        return [(number, call.result()) for number, call in ended if call.exception() is None]

    def sent_once(self) -> list[int]:
        """Numbers in the order in which they were sent, repetitions left out."""
        numbers = [number for number, _ in self.network.sent]
        return [number for place, number in enumerate(numbers) if place == 0 or numbers[place - 1] != number]

    @invariant()
    def one_submission_at_a_time_in_the_order_of_the_calls(self) -> None:
        assert len(self.network.submissions) <= 1
        assert len(self.network.questions) <= 2
        sent = self.sent_once()
        assert sent == sorted(set(sent)), "out of order, or once more after another one"
        assert len({key for _, key in self.network.sent}) == len(sent), "a key for each operation and one only"
        assert not self.withdrawn & set(sent), "sent although it was withdrawn"
        assert not self.spoilt & set(sent)

    @invariant()
    def nothing_waits_for_nothing(self) -> None:
        """While a call waits, a submission is under way: no gap stops the line."""
        if any(not call.done() for call in self.calls) and not self.closed:
            assert self.network.submissions

    # ---------------------------------------------------------------- the end

    def teardown(self) -> None:
        if not self.closed:
            self.serve_all()
            self.nothing_was_lost()
        else:
            self.everything_says_closed()
        self.loop.run_until_complete(self.channel.aclose())
        self.loop.run_until_complete(self.poller.aclose())
        for task in (*self.calls, *(wait for _, wait in self.waits)):
            assert task.done()
            if not task.cancelled():
                task.exception()
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        self.patch.undo()

    def serve_all(self) -> None:
        """From now on the trainer does what it is asked for."""
        for _ in range(60 * len(self.calls) + 1000):
            for asked in self.network.submissions:
                asked.answer.set_result(accepted(asked.number))
            for asked in self.network.questions:
                self.outcomes.setdefault(asked.number, "done")
                asked.answer.set_result(done(asked.number))
            self.turn()
            if not self.network.under_way and not len(self.channel._source.polling):
                return
            self.clock.now += 1.0
        raise AssertionError("something waits that nobody asks for")

    def nothing_was_lost(self) -> None:
        for number, call in enumerate(self.calls):
            assert call.done(), f"call {number} never ended"
            if not call.cancelled():
                assert (call.exception() is not None) == (number in self.spoilt | self.failed)
        for number, future in self.futures():
            self.its_own_outcome(number, future)
        expected = set(range(len(self.calls))) - self.withdrawn - self.spoilt
        assert set(self.sent_once()) == expected

    def its_own_outcome(self, number: int, future: OperationFuture[OptimStepResponse]) -> None:
        assert future.done(), f"operation {number} was never told its end"
        if self.outcomes[number] == "done":
            assert self.loop.run_until_complete(future.result_async()).metrics["step"] == number
        else:
            with pytest.raises(LoopsError):
                self.loop.run_until_complete(future.result_async())

    def everything_says_closed(self) -> None:
        with pytest.raises(ClientClosedError):
            self.loop.run_until_complete(self.channel.submit(OPTIM_STEP, OptimStepBody()))
        for _, future in self.futures():
            assert future.done()
            with contextlib.suppress(LoopsError):
                self.loop.run_until_complete(future.result_async())


TestSubmitting = Line.TestCase
