"""Which waits get a line: long ones, many calls of a name as one. Pure: the time is an argument."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk.instrumentation.progress.waits import Line, Wait, Waits

ME, OTHER = object(), object()


def calls(count: int, since: float = 0.0, name: str = "sample", owner: object = ME) -> list[Wait]:
    return [Wait(owner, name, since, call=True) for _ in range(count)]


def holding(*waits: Wait, delay: float = 1.0) -> Waits:
    held = Waits(delay)
    for wait in waits:
        held.add(wait)
    return held


def test_a_wait_gets_a_line_when_it_has_lasted() -> None:
    held = holding(wait := Wait(ME, "trainer of run r1", 10.0))
    assert (held.lines(10.9), held.due()) == ([], 11.0)
    wait.state = "DEPLOYING"
    assert held.lines(11.5) == [Line("trainer of run r1", 1.5, "DEPLOYING")]
    held.remove(wait)
    held.remove(wait)
    assert (held.lines(99.0), held.due()) == ([], None)


def test_calls_of_a_name_share_a_line_and_count_those_that_are_over() -> None:
    held = holding(*(made := calls(12)))
    assert held.lines(34.0) == [Line("sample", 34.0, "12 waiting", 0, 12)]
    for one in made[:3]:
        held.remove(one)
    assert held.lines(34.0) == [Line("sample", 34.0, "9 waiting", 3, 12)]
    for one in made[3:]:
        held.remove(one)
    held.add(later := calls(1, 40.0)[0])
    assert held.lines(42.0) == [Line("sample", 2.0)]  # a new beginning, and one has no number
    held.remove(later)
    held.remove(later)
    assert (held.lines(99.0), held.due()) == ([], None)


def test_quick_calls_one_after_another_get_none_however_many() -> None:
    held = Waits(1.0)
    for step in range(1000):
        held.add(one := calls(1, step / 100)[0])
        assert held.lines(step / 100 + 0.009) == []
        held.remove(one)


def test_one_that_never_ends_does_not_keep_those_that_do() -> None:
    held = holding(first := calls(1)[0])
    for _ in range(10_000):
        held.add(one := calls(1, 1.0)[0])
        held.remove(one)
    assert held.lines(9.0) == [Line("sample", 9.0, "1 waiting", 10_000, 10_001)]
    assert len(held._calls["sample"].line) < 100
    held.remove(first)
    assert held.due() is None


def test_names_and_waits_have_lines_of_their_own_in_the_order_of_their_beginning() -> None:
    held = holding(*calls(2, 3.0, "optim_step"), Wait(ME, "sampler sam1", 2.0), *calls(1, 1.0, "forward"))
    assert [line.subject for line in held.lines(9.0)] == ["forward", "sampler sam1", "optim_step"]
    assert [line.subject for line in held.lines(3.5)] == ["forward", "sampler sam1"]
    assert held.due() == 2.0


def test_bytes_have_a_speed_that_what_was_there_before_has_no_part_in() -> None:
    held = holding(wait := Wait(ME, "files", 0.0))
    wait.counted(500, 1000)
    wait.counted(700, 1000)
    assert held.lines(2.0) == [Line("files", 2.0, "", 700, 1000, 100.0)]


def test_one_owner_is_forgotten_and_no_other() -> None:
    held = holding(*calls(2), *calls(1, owner=OTHER), Wait(ME, "mine", 0.0), Wait(OTHER, "theirs", 0.0))
    held.forget(ME)
    assert [(line.subject, line.state) for line in held.lines(5.0)] == [("theirs", ""), ("sample", "")]
    held.forget(OTHER)
    assert held.due() is None


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(0, 9)), max_size=40))
def test_whatever_begins_and_ends_nothing_is_left_over(steps: list[tuple[bool, str, int]]) -> None:
    held, there = Waits(1.0), []
    for now, (begins, name, which) in enumerate(steps):
        if begins:
            there.append(wait := Wait(ME, name, float(now), call=which > 4))
            held.add(wait)
        elif there:
            held.remove(there.pop(which % len(there)))
        lines = held.lines(now + 100.0)
        assert {line.subject for line in lines} == {wait.subject for wait in there}
        assert max((line.seconds for line in lines), default=0) == max(
            (now + 100.0 - w.since for w in there), default=0
        )
    for wait in there:
        held.remove(wait)
    assert held.lines(1e9) == []


@pytest.mark.parametrize("threads", [4])
def test_threads_may_begin_and_end_at_the_same_time(threads: int) -> None:
    held = Waits(0.0)

    def many() -> None:
        for _ in range(500):
            held.add(one := calls(1)[0])
            held.lines(1.0)
            held.remove(one)

    workers = [threading.Thread(target=many) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert held.lines(9.0) == []
