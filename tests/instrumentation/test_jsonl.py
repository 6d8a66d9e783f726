"""`JsonlObserver`: whole lines that say what happened, in order; never a wait and never an error for who trains."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk import instrumentation
from loops_sdk.instrumentation import Event, JsonlObserver, OperationFinished, OperationMeasured
from loops_sdk.instrumentation.background import Background

counts = st.integers(0, 2**53)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "float": st.floats(),
    "int": counts,
    "str | None": st.none() | st.text(),
    "int | None": st.none() | counts,
    "float | None": st.none() | st.floats(),
    "dict[str, float]": st.dictionaries(st.text(), st.floats(), max_size=4),
}


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(kind, *(FIELDS[str(field.type)] for field in attrs.fields(kind)))


KINDS = {kind.__name__: kind for kind in Event.__subclasses__()}
any_event = st.one_of([events_of(kind) for kind in KINDS.values()])


def read(path: Path) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = path.read_bytes().decode("ascii").split("\n")
    assert lines.pop() == ""
    return [json.loads(line, parse_constant=refuse) for line in lines]


def rebuilt(line: dict[str, Any]) -> Event:
    """The event of a line, as a reader would make it."""
    fields = {field.name: _number(str(field.type), line[field.name]) for field in attrs.fields(KINDS[line["event"]])}
    assert line.keys() == {"time", "event", *fields}
    return KINDS[line["event"]](**fields)


def _number(kind: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: float(inner) for key, inner in value.items()}
    return float(value) if "float" in kind and value is not None else value  # a type, or the text of one


@given(events=st.lists(any_event, max_size=5))
def test_events_come_back_equal_and_in_order(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    before = time.time()
    with JsonlObserver(path) as observer:
        for event in events:
            observer(event)
    lines = read(path)
    assert [repr(rebuilt(line)) for line in lines] == [repr(event) for event in events]  # by repr: NaN is not NaN
    assert all(before <= line["time"] <= time.time() for line in lines)


def test_every_event_is_covered() -> None:
    exported = {getattr(instrumentation, name) for name in instrumentation.__all__}
    assert {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Event)} == {*KINDS.values(), Event}


def test_what_json_does_not_know_is_text(tmp_path: Path) -> None:
    metrics = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5}
    with JsonlObserver(tmp_path / "events.jsonl") as observer:
        observer(OperationMeasured("forward", None, 0, 1.0, metrics, None, math.nan, 2))
    (line,) = read(tmp_path / "events.jsonl")
    assert line["metrics"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 1.5}
    assert line["loss"] == "NaN"


def test_a_second_observer_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with JsonlObserver(tmp_path / "events.jsonl") as observer:
            observer(OperationFinished("forward", name, 1.0))
        observer(OperationFinished("forward", "too late", 1.0))
        observer.close()
    assert [line["operation_id"] for line in read(tmp_path / "events.jsonl")] == ["one", "two"]


@pytest.mark.parametrize("path", ["no/such/folder/events.jsonl", "/dev/full"])
def test_a_disk_error_is_one_warning(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with JsonlObserver(tmp_path / path) as observer:
        for number in range(5):
            observer(OperationFinished("forward", str(number), 1.0))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "JsonlObserver(" in record.message
    assert "records nothing more" in record.message
    assert "Error" in record.message


def test_a_pipe_that_nobody_reads_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Opening a FIFO blocks until a reader comes: giving events returns meanwhile."""
    os.mkfifo(tmp_path / "pipe")
    observer = JsonlObserver(tmp_path / "pipe")
    for number in range(3):
        observer(OperationFinished("forward", str(number), 1.0))
    with (tmp_path / "pipe").open() as reader:
        observer.close()
        assert [json.loads(line)["operation_id"] for line in reader] == ["0", "1", "2"]
    assert caplog.records == []


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from loops_sdk.instrumentation import JsonlObserver, OperationFinished
        observer = JsonlObserver(sys.argv[1])
        for number in range(1000):
            observer(OperationFinished("forward", str(number), 1.0))
    """
    path = tmp_path / "events.jsonl"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    assert [line["operation_id"] for line in read(path)] == [str(number) for number in range(1000)]


# ---------------------------------------------------------------- the thread behind it


class Slow:
    """A sink that stands still until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go, self.written = threading.Event(), threading.Event(), 0

    def open(self) -> None:
        self.reached.set()
        assert self.go.wait(10)

    def write(self, event: Event, at: float) -> None:
        self.written += 1

    def close(self) -> None:
        pass


def test_a_full_queue_drops_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    sink = Slow()
    background = Background("the slow one", sink, size=3)
    for _ in range(10):
        background.put(Event("forward"))
    sink.go.set()
    background.close()
    assert sink.written == 3
    assert [record.message for record in caplog.records] == ["the slow one does not keep up: events are dropped"]


def test_closing_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    sink = Slow()
    background = Background("the slow one", sink)
    background.close(timeout=0.01)
    background.close(timeout=0.01)
    sink.go.set()
    background.close()
    assert [record.message for record in caplog.records] == [
        "the slow one did not finish within 0.01 s; it is left to itself"
    ]


async def test_closing_on_an_event_loop_is_bounded_and_lets_others_run(caplog: pytest.LogCaptureFixture) -> None:
    sink = Slow()
    background = Background("the slow one", sink)
    background.put(Event("forward"))
    await background.aclose(timeout=0.01)
    closing = asyncio.create_task(background.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    sink.go.set()
    await closing
    assert sink.written == 1
    assert [record.message for record in caplog.records] == [
        "the slow one did not finish within 0.01 s; it is left to itself"
    ]


async def test_a_child_of_fork_is_told_once_that_nothing_is_recorded_and_waits_for_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []

    class Kept:
        def open(self) -> None: ...

        def write(self, event: Event, at: float) -> None:
            heard.append(event)

        def close(self) -> None: ...

    background = Background("the curves", Kept())
    with monkeypatch.context() as in_the_child:
        in_the_child.setattr("os.getpid", lambda: -1)
        background.put(Event("forward"))
        background.put(Event("forward"))
        await background.aclose()
        background.close()
    assert [record.message for record in caplog.records] == [
        "the curves was made before os.fork() and records nothing here: make one in this process"
    ]
    background.close()
    assert heard == []
