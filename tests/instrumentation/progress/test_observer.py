"""Whether anything is shown, where, and what calls and events become of it."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation import (
    Call,
    OperationFinished,
    OperationSubmitted,
    SampleFailed,
    SampleFinished,
    SubmissionFailed,
    WaitAdvanced,
    WaitFinished,
    WaitStarted,
    tell,
)
from loops_sdk.instrumentation.progress import display, observer, plain, progress_observer
from loops_sdk.instrumentation.progress.observer import ProgressObserver
from loops_sdk.instrumentation.progress.plain import Plain
from loops_sdk.instrumentation.progress.waits import Line
from loops_sdk.instrumentation.trails import Trails


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return super().isatty() or self._terminal


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal, and nothing else that counts."""
    for name in ("CI", "TERM", "LOOPS_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(sys, "ps1", raising=False)


TERMINAL = Stream(terminal=True)


def where(progress: bool | None = None, stderr: Any = TERMINAL) -> str | None:
    """The kind of surface that is chosen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        made = progress_observer(progress)
        if made is None:
            return None
        surface = made._surface()
        surface.close()
    return type(surface).__name__


@pytest.mark.parametrize("progress", [None, True, False])
@pytest.mark.parametrize("variable", [None, "0", "1"])
def test_the_keyword_comes_first_then_the_variable(
    monkeypatch: pytest.MonkeyPatch, progress: bool | None, variable: str | None
) -> None:
    if variable is not None:
        monkeypatch.setenv("LOOPS_PROGRESS", variable)
    shown = progress if progress is not None else variable != "0"
    assert where(progress) == ("Terminal" if shown else None)


def closed() -> Stream:
    stream = Stream(terminal=True)
    stream.close()
    return stream


Where = tuple[Any, dict[str, str], str | None]
UNASKED: dict[str, Where] = {
    "CI": (TERMINAL, {"CI": "true"}, "Terminal"),
    "no terminal": (Stream(terminal=False), {}, "Plain"),
    "a plain terminal": (TERMINAL, {"TERM": "dumb"}, "Plain"),
    "no console": (None, {}, None),
    "closed": (closed(), {}, "Plain"),
}


@pytest.mark.parametrize("what", UNASKED)
def test_where_nobody_looks_on_nothing_is_shown_unasked(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    stream, environment, asked = UNASKED[what]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (where(None, stream), where(True, stream)) == (None, asked)
    monkeypatch.setenv("LOOPS_PROGRESS", "1")
    assert where(None, stream) == asked


def test_a_prompt_is_not_drawn_over_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert (where(), where(True)) == (None, "Terminal")


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_ci_may_be_said_not_to_be(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    assert where() == "Terminal"


def test_a_notebook_is_known_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = type("Shell", (type("ZMQInteractiveShell", (), {}),), {})()  # Colab's is derived from Jupyter's
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert where(None, Stream(terminal=False)) == "Notebook"
    monkeypatch.setenv("CI", "1")
    assert where() is None


@pytest.mark.parametrize(("progress", "variable"), [("yes", None), (1, None), (None, "yes"), (None, "2")])
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, progress: Any, variable: str | None) -> None:
    if variable is not None:
        monkeypatch.setenv("LOOPS_PROGRESS", variable)
    with pytest.raises(
        InvalidInputError, match=r"^(progress: expected True, False or None|LOOPS_PROGRESS: expected 0)"
    ):
        progress_observer(progress)


# ------------------------------------------------------------------ what is shown


class Kept:
    """A surface that keeps what is drawn, and a display that never draws by itself."""

    pause = 3600.0

    def draw(self, lines: Any) -> None:
        raise AssertionError("nothing is due")

    def erase(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An observer, and how to see its lines."""
    made = display.Display(Kept(), delay=3600.0)
    monkeypatch.setattr(observer, "joined", lambda _surface: made)
    monkeypatch.setattr(observer, "left", lambda _display: None)
    watching = ProgressObserver(Kept)

    def lines() -> list[tuple[str, str]]:
        return [(line.subject, line.state) for line in made._waits.lines(1e12)]

    yield types.SimpleNamespace(observer=watching, lines=lines, waits=made._waits)
    made.close()


ENDS = [
    OperationFinished("forward_backward", "op-1", 1.0),
    OperationFinished("forward_backward", "op-1", 1.0, "no", "RemoteOpError"),
    SubmissionFailed("forward_backward", "key", "http://t", 1.0, "no", "ClientClosedError"),
    SampleFinished("sample", 1.0, 8),
    SampleFailed("sample", 1.0, "", "CancelledError"),
]


@pytest.mark.parametrize("end", ENDS, ids=lambda event: type(event).__name__)
def test_a_call_is_waited_for_until_it_is_over(shown: Any, end: Any) -> None:
    follower = shown.observer.follow(Call(end.operation, "http://t"))
    follower(OperationSubmitted(end.operation, "op-1", "key", "http://t", 0.1))
    assert follower.headers == {}
    assert shown.lines() == [(end.operation, "")]
    follower(end)
    follower(end)
    assert shown.lines() == []


def test_a_wait_is_followed_through_its_states(shown: Any) -> None:
    emit = tell([shown.observer])
    emit(WaitStarted("trainer_ready", 1, "trainer of run r1"))
    emit(WaitStarted("download_checkpoint", 2, "files"))
    emit(WaitAdvanced("trainer_ready", 1, "DEPLOYING"))
    emit(WaitAdvanced("download_checkpoint", 2, None, 5, 10))
    assert shown.lines() == [("trainer of run r1", "DEPLOYING"), ("files", "")]
    (files,) = [line for line in shown.waits.lines(1e12) if line.total]
    assert (files.done, files.total) == (5, 10)
    for number in (1, 2, 2, 3):
        emit(WaitFinished("trainer_ready", number, 1.0))
        emit(WaitAdvanced("trainer_ready", number, "LATE"))
    assert shown.lines() == []


def test_a_closed_one_shows_nothing_and_what_it_had_is_gone(shown: Any) -> None:
    follower = shown.observer.follow(Call("sample", "http://t"))
    shown.observer(WaitStarted("trainer_ready", 1, "trainer"))
    shown.observer.close()
    shown.observer.close()
    assert shown.lines() == []
    follower(SampleFinished("sample", 1.0, 8))
    shown.observer.follow(Call("sample", "http://t"))
    assert shown.lines() == []


def test_calls_of_all_clients_are_followed_through_their_trails(shown: Any) -> None:
    trails = Trails(tell([shown.observer]), [shown.observer])
    made = [trails.begin("sample", "http://s") for _ in range(100)]
    assert shown.lines() == [("sample", "100 waiting")]
    for trail in made:
        trail.emit(SampleFinished("sample", 1.0, 8))
    assert shown.lines() == []


async def test_no_thread_and_no_drawing_before_something_is_waited_for() -> None:
    made = ProgressObserver(Kept)
    await asyncio.sleep(0)
    assert not [one for one in threading.enumerate() if one.name == "loops_sdk progress"]
    made.close()


# ------------------------------------------------------------------ plain lines


def test_plain_lines_are_said_once_and_again_later() -> None:
    now, stream = [0.0], io.StringIO()
    surface = Plain(stream, clock=lambda: now[0])
    for seconds in range(70):
        now[0] = float(seconds)
        surface.draw([Line("trainer of run r1", seconds + 1.0, "DEPLOYING")])
    assert stream.getvalue().splitlines() == [
        f"waiting for trainer of run r1: DEPLOYING, {seconds} s" for seconds in (1, 31, 61)
    ]
    surface.erase()
    surface.draw([Line("trainer of run r1", 2.0)])
    assert stream.getvalue().splitlines()[-1] == "waiting for trainer of run r1, 2 s"
    assert plain._AGAIN == 30.0
