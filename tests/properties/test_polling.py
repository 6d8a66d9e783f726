"""The polling machine under everything that can happen, in any order, on a clock that only the test moves."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loops_sdk._wire.polling import Heard, Polling

TIMEOUT = 60.0
WINDOW = 2
LONGEST_PAUSE = 20.0  # of the back-off; shorter than the time of an operation, or a question that is never sent hides
draws = st.floats(0, 1, exclude_max=True)


class PollingMachine(RuleBasedStateMachine):
    """A driver that keeps its own books: whom it registered, whom it was told to ask, who is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.draw = 0.5
        self.polling = Polling(timeout=TIMEOUT, draw=lambda: self.draw, window=WINDOW)
        self.made = 0
        self.waiting: list[str] = []  # in the trainer's order
        self.gone: list[str] = []
        self.asking: set[str] = set()
        self.asked: set[str] = set()
        self.quiet_until = -math.inf  # what a Retry-After has asked for

    # ---------------------------------------------------------------- what a driver does after every event

    def pump(self) -> None:
        for operation_id in self.polling.expire(self.now):
            assert operation_id == self.waiting[0], "only the head can be late"
            self.remove(operation_id)
        while (due := self.polling.next_poll(self.now)) is not None:
            assert self.now >= self.quiet_until, "asked before the server wanted to be asked"
            assert due in self.waiting[:WINDOW]
            assert due not in self.asking
            self.asking.add(due)
            self.asked.add(due)
            assert len(self.asking) <= WINDOW

    def remove(self, operation_id: str) -> None:
        self.waiting.remove(operation_id)
        self.asking.discard(operation_id)
        self.gone.append(operation_id)

    def answer(self, data: st.DataObject, heard: Heard, retry_after: float | None = None) -> str:
        operation_id = data.draw(st.sampled_from(sorted(self.asking)))
        self.asking.discard(operation_id)
        self.polling.feed(operation_id, heard, self.now, retry_after)
        return operation_id

    # ---------------------------------------------------------------- what can happen

    @rule(count=st.integers(1, 5))
    def register(self, count: int) -> None:
        for _ in range(count):
            operation_id = f"op-{self.made:05}"
            self.polling.register(operation_id, self.now, self.made)
            self.waiting.append(operation_id)
            self.made += 1
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def register_again(self, data: st.DataObject) -> None:
        operation_id = data.draw(st.sampled_from(self.waiting))
        self.polling.register(operation_id, self.now)
        self.pump()

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def ask_once_more(self, data: st.DataObject) -> None:
        operation_id = data.draw(st.sampled_from(self.gone))
        self.gone.remove(operation_id)
        self.polling.register(operation_id, self.now, int(operation_id.removeprefix("op-")))
        self.waiting = sorted([*self.waiting, operation_id])
        self.pump()

    @precondition(lambda self: self.asking)
    @rule(data=st.data())
    def finishes(self, data: st.DataObject) -> None:
        self.remove(self.answer(data, "finished"))
        self.pump()

    @precondition(lambda self: self.asking)
    @rule()
    def restart(self) -> None:
        """The trainer comes back without its memory: every question that is out is answered 404, in whatever order."""
        while self.asking:
            operation_id = max(self.asking)
            self.asking.discard(operation_id)
            self.polling.feed(operation_id, "finished", self.now)
            self.remove(operation_id)
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule()
    def hang(self) -> None:
        """Nothing is heard until the head has had its time."""
        late = self.waiting[0]
        for _ in range(100):
            if late not in self.waiting:
                return
            self.now = max(self.now, self.polling.wake_at(self.now) or self.now)
            self.pump()
        raise AssertionError("an operation outlives its time")

    @precondition(lambda self: self.asking)
    @rule(data=st.data())
    def still_running(self, data: st.DataObject) -> None:
        self.answer(data, "running")
        self.pump()

    @precondition(lambda self: self.asking)
    @rule(data=st.data(), draw=draws, retry_after=st.none() | st.floats(0, 1e9))
    def fails(self, data: st.DataObject, draw: float, retry_after: float | None) -> None:
        self.draw = draw
        self.answer(data, "transient", retry_after)
        self.quiet_until = max(self.quiet_until, self.now + min(retry_after or 0.0, TIMEOUT))
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        operation_id = data.draw(st.sampled_from(self.waiting))
        self.polling.cancel(operation_id)
        self.remove(operation_id)
        self.pump()

    @rule()
    def cancel_unknown(self) -> None:
        self.polling.cancel("nobody")
        self.polling.feed("nobody", "running", self.now)
        self.pump()

    @rule(seconds=st.floats(0.001, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule()
    def wake(self) -> None:
        """Sleep exactly until the machine says so: then there is something to do, unless a question is out."""
        at = self.polling.wake_at(self.now)
        assert at is not None
        before = (len(self.asked), len(self.waiting), set(self.asking))
        self.now = max(self.now, at)
        self.pump()
        assert self.asking or before != (len(self.asked), len(self.waiting), set(self.asking))

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def the_books_agree(self) -> None:
        assert len(self.polling) == len(self.waiting)
        assert len(self.asking) <= WINDOW

    @invariant()
    def somebody_wakes_up(self) -> None:
        at = self.polling.wake_at(self.now)
        assert (at is None) == (not self.waiting)
        if at is not None:
            assert at <= self.now + max(TIMEOUT, 20.0), "every sleep is bounded"

    @invariant()
    def what_can_be_asked_is_asked_after_a_pause_at_most(self) -> None:
        """One question at a time to a server that fails, as many as the window holds to one that does not."""
        room = 1 if self.polling.failures else min(WINDOW, len(self.waiting))
        if self.waiting and len(self.asking) < room:
            at = self.polling.wake_at(self.now)
            assert at is not None
            assert at > self.now  # a pause, and it has an end
            assert at <= max(self.now + LONGEST_PAUSE, self.quiet_until), "nobody asks until the time of the head is up"

    def teardown(self) -> None:
        """Left alone by the server, everything that waits expires: asleep between, in a bounded number of turns."""
        for _ in range(20 * len(self.waiting) + 100):
            if not self.waiting:
                break
            for operation_id in sorted(self.asking):
                self.asking.discard(operation_id)
                self.polling.feed(operation_id, "transient", self.now)
            at = self.polling.wake_at(self.now)
            assert at is not None
            self.now = max(self.now, at)
            self.pump()
        assert not self.waiting
        assert self.polling.wake_at(self.now) is None


TestPolling = PollingMachine.TestCase


def drive(polling: Polling, heard: Heard, seconds: float, *, hold: float = 0.0) -> int:
    """Questions sent within a span by a driver that sleeps as it is told, when every answer is the same."""
    now, sent = 0.0, 0
    out: list[tuple[float, str]] = []  # when the answer comes, to which question
    while True:
        polling.expire(now)
        while (due := polling.next_poll(now)) is not None:
            sent += 1
            out.append((now + hold, due))
        wake = polling.wake_at(now)
        times = ([out[0][0]] if out else []) + ([wake] if wake is not None else [])
        if not times or min(times) > seconds:
            return sent
        now = max(now, min(times))
        while out and out[0][0] <= now:
            polling.feed(out.pop(0)[1], heard, now)


@given(waiting=st.integers(1, 2000), draw=draws)
def test_a_server_that_always_fails_is_asked_ten_times_in_five_seconds_at_most(waiting: int, draw: float) -> None:
    polling = Polling(timeout=600, draw=lambda: draw)
    for number in range(waiting):
        polling.register(str(number), 0.0)
    assert 1 <= drive(polling, "transient", 5.0) <= 10


@given(waiting=st.integers(1, 100))
def test_a_server_that_does_not_hold_its_answers_is_not_asked_in_a_loop(waiting: int) -> None:
    polling = Polling(timeout=600, draw=lambda: 0.5)
    for number in range(waiting):
        polling.register(str(number), 0.0)
    assert drive(polling, "running", 60.0) <= 10 + 2 * 70


def test_a_server_that_holds_its_answers_is_asked_again_at_once() -> None:
    polling = Polling(timeout=600, draw=lambda: 0.5)
    polling.register("a", 0.0)
    assert drive(polling, "running", 300.0, hold=30.0) == 11


def test_the_first_hasty_answers_are_followed_up_at_once() -> None:
    polling = Polling(timeout=600, draw=lambda: 0.5)
    polling.register("a", 0.0)
    for _ in range(4):
        assert polling.next_poll(0.0) == "a"
        polling.feed("a", "running", 0.0)
    assert polling.next_poll(0.0) == "a"


def test_a_question_that_is_out_since_before_the_failure_does_not_hold_the_next_one_up() -> None:
    polling = Polling(timeout=600, draw=lambda: 0.5)
    polling.register("a", 0.0)
    polling.register("b", 0.0)
    assert [polling.next_poll(0.0), polling.next_poll(0.0), polling.next_poll(0.0)] == ["a", "b", None]
    polling.feed("a", "transient", 1.0)
    assert polling.next_poll(1.0) is None
    wake = polling.wake_at(1.0)
    assert wake is not None
    assert polling.next_poll(wake) == "a"


def test_a_shorter_pause_does_not_replace_what_the_server_asked_for() -> None:
    polling = Polling(timeout=600, draw=lambda: 0.5)
    polling.register("a", 0.0)
    polling.register("b", 0.0)
    polling.next_poll(0.0), polling.next_poll(0.0)
    polling.feed("a", "transient", 0.0, 30.0)
    polling.feed("b", "transient", 0.0)
    assert polling.wake_at(0.0) == 30.0


@given(waiting=st.integers(1, 200), window=st.integers(1, 5))
def test_a_trainer_that_hangs_fails_all_its_operations_together(waiting: int, window: int) -> None:
    polling = Polling(timeout=600, draw=lambda: 0.5, window=window)
    names = [str(number) for number in range(waiting)]
    for name in names:
        polling.register(name, 0.0)
    while polling.next_poll(0.0) is not None:
        pass
    assert polling.expire(599.9) == []
    assert polling.expire(600.0) == names


def test_every_operation_has_its_time_from_its_own_turn() -> None:
    polling = Polling(timeout=10, draw=lambda: 0.5)
    for name in ("a", "b", "c"):
        polling.register(name, 0.0)
    now = 0.0
    for name in ("a", "b", "c"):
        while polling.next_poll(now) is not None:
            pass
        now += 9.0  # each takes nearly all of its ten seconds
        assert polling.expire(now) == []
        polling.feed(name, "finished", now)
    assert len(polling) == 0
