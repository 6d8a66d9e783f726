"""The display: drawn by a thread while there is something to draw, gone when the last wait ends, one per process."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from loops_sdk.instrumentation.progress import display as module
from loops_sdk.instrumentation.progress.display import Display, joined, left
from loops_sdk.instrumentation.progress.waits import Line, Wait

SOON = 30.0


class Surface:
    pause = 0.005

    def __init__(self) -> None:
        self.drawn: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self.there: list[str] = []
        self.closed = False
        self.fails = False
        self.drawing, self.halted = threading.Event(), threading.Event()
        self.halted.set()

    def draw(self, lines: Sequence[Line]) -> None:
        self.drawing.set()
        self.halted.wait(SOON)
        if self.fails:
            raise OSError("the terminal is gone")
        self.there = [line.subject for line in lines]
        self.drawn.put(self.there)

    def erase(self) -> None:
        self.there = []

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def surface() -> Surface:
    return Surface()


@pytest.fixture
def display(surface: Surface) -> Iterator[Display]:
    made = Display(surface, delay=0.0)
    yield made
    surface.halted.set()
    made.close()


def begun(display: Display, subject: str = "trainer") -> Wait:
    display.begin(wait := Wait(display, subject, time.monotonic()))
    return wait


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loops_sdk progress"]


def test_a_wait_is_drawn_and_gone_when_it_has_ended(display: Display, surface: Surface) -> None:
    assert threads() == []
    first = begun(display)
    assert surface.drawn.get(timeout=SOON) == ["trainer"]
    display.end(first)
    assert surface.there == []  # at once: what is printed next has the terminal for itself
    second = begun(display, "sampler")  # wakes the thread again
    while surface.drawn.get(timeout=SOON) != ["sampler"]:
        pass
    display.end(second)


def test_while_others_wait_the_rest_stays(display: Display, surface: Surface) -> None:
    first, second = begun(display, "trainer"), begun(display, "sampler")
    while surface.drawn.get(timeout=SOON) != ["trainer", "sampler"]:
        pass
    display.end(first)
    while surface.drawn.get(timeout=SOON) != ["sampler"]:
        pass
    display.end(second)
    assert surface.there == []


def test_what_ends_in_time_is_never_drawn(surface: Surface) -> None:
    display = Display(surface, delay=3600.0)
    for _ in range(1000):
        display.end(begun(display))
    display.close()
    assert surface.drawn.empty()
    assert surface.closed
    assert threads() == []


def test_a_halted_terminal_holds_up_nobody(display: Display, surface: Surface) -> None:
    surface.halted.clear()
    waits = [begun(display, f"run {number}") for number in range(3)]
    assert surface.drawing.wait(SOON)
    for wait in waits:
        display.end(wait)  # returns, though what is being drawn cannot be
    surface.halted.set()
    surface.drawn.get(timeout=SOON)
    display.close()
    assert surface.there == []


def test_a_surface_that_fails_is_one_warning_and_nothing_else(
    display: Display, surface: Surface, caplog: pytest.LogCaptureFixture
) -> None:
    surface.fails = True
    wait = begun(display)
    while threads():
        threads()[0].join(SOON)
    display.end(wait)
    display.end(begun(display))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == "progress is not shown any more: OSError: the terminal is gone"


def test_closing_erases_and_ends_the_thread(display: Display, surface: Surface) -> None:
    begun(display)
    surface.drawn.get(timeout=SOON)
    display.close()
    assert (surface.there, surface.closed, threads()) == ([], True, [])
    display.close()
    begun(display)
    assert threads() == []


def test_all_of_a_process_meet_on_one_display() -> None:
    made: list[Surface] = []

    def make() -> Surface:
        made.append(Surface())
        return made[-1]

    first, second = joined(make), joined(make)
    assert first is second
    left(first)
    assert not made[0].closed
    left(second)
    assert made[0].closed
    third = joined(make)
    assert third is not first
    left(third)
    assert len(made) == 2


def test_a_fork_leaves_the_display_to_its_parent(display: Display, surface: Surface, monkeypatch: Any) -> None:
    """As it looks to the child: another process id, and no thread."""
    wait = begun(display)
    surface.drawn.get(timeout=SOON)
    with monkeypatch.context() as child:
        child.setattr(module.os, "getpid", lambda: -1)
        display.end(wait)
        display.begin(Wait(display, "other", 0.0))
        display.close()
        assert display.forked
    assert not surface.closed
    while surface.drawn.get(timeout=SOON) != ["trainer"]:
        pass
