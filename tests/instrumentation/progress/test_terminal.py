"""On a terminal: lines make room for whatever else is written, and leave everything as it was."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from loops_sdk.instrumentation.progress.terminal import Terminal
from loops_sdk.instrumentation.progress.waits import Line

LINES = [Line("trainer of run r1", 5.0)]
GONE = "\x1b[1A\x1b[2K"


class Tty(io.TextIOWrapper):
    """What is written to it is kept, as a terminal would get it."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def got(self) -> str:
        return bytes(self.buffer.getvalue()).decode(self.encoding)  # type: ignore[attr-defined]


def say(text: str) -> None:
    sys.stdout.write(text)


def program(monkeypatch: pytest.MonkeyPatch) -> tuple[Tty, Tty]:
    """Standard output and standard error of a program on a terminal. No fixture: pytest puts its own there later."""
    out, err = Tty(), Tty()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def test_lines_are_drawn_and_erased_and_the_cursor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _, err = program(monkeypatch)
    terminal = Terminal(err)
    terminal.draw(LINES)
    assert "trainer of run r1" in err.got
    terminal.erase()
    assert err.got.endswith(GONE)
    assert "\x1b[?25" not in err.got
    terminal.close()


@pytest.mark.parametrize("which", [0, 1], ids=["stdout", "stderr"])
def test_whatever_the_program_writes_comes_where_the_lines_were(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    streams = out, err = program(monkeypatch)
    terminal = Terminal(err)
    held = streams[which]  # as the handlers of a log hold it
    terminal.draw(LINES)
    held.write("hello\n")
    assert (err.got if which else err.got + out.got).endswith(f"{GONE}hello\n")
    before = err.got
    terminal.draw(LINES)
    assert "trainer of run r1" in err.got[len(before) :]
    terminal.close()


def test_a_line_that_has_not_ended_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = program(monkeypatch)
    terminal = Terminal(err)
    say("Go on? ")
    terminal.draw(LINES)
    assert err.got == ""
    say("")
    say("yes\n")
    terminal.draw(LINES)
    assert "trainer" in err.got
    assert out.got == "Go on? yes\n"
    terminal.erase()
    err.write("\r 40%|████      | 4/10")  # another bar, which goes on
    before = err.got
    terminal.draw(LINES)
    assert err.got == before
    terminal.close()


def test_closing_gives_the_streams_back(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = program(monkeypatch)
    terminal = Terminal(streams[1])
    assert all("write" in vars(one) for one in streams)
    terminal.close()
    assert not any("write" in vars(one) for one in streams)
    terminal.close()


def test_who_listened_before_and_who_came_after_are_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = program(monkeypatch)
    heard: list[str] = []

    def listening(stream: Any) -> Any:
        write = stream.write

        def written(text: str) -> int:
            heard.append(text)
            count: int = write(text)
            return count

        stream.write = written
        return written

    first = listening(out)
    terminal = Terminal(err)
    say("one")
    terminal.close()
    assert vars(out)["write"] is first
    terminal = Terminal(err)
    second = listening(out)
    terminal.close()
    assert vars(out)["write"] is second
    say("two")
    assert heard == ["one", "two", "two"]
    assert out.got == "onetwo"


def test_output_that_goes_to_a_file_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    err, out = Tty(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    terminal = Terminal(err)
    terminal.draw(LINES)
    before = err.got
    say("a result\n")
    assert (out.getvalue(), err.got) == ("a result\n", before)
    terminal.close()


def test_a_stream_that_takes_no_attributes_is_drawn_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed:
        __slots__ = ("_tty",)
        encoding = "utf-8"

        def __init__(self) -> None:
            object.__setattr__(self, "_tty", Tty())

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tty, name)

        def write(self, text: str) -> int:
            count: int = self._tty.write(text)
            return count

    err: Any = Fixed()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", err)
    terminal = Terminal(err)
    terminal.draw(LINES)
    terminal.erase()
    terminal.close()
    assert "trainer" in err.got


def test_characters_that_the_terminal_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Tty("latin-1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", err)
    terminal = Terminal(err)
    terminal.draw([Line("模型", 5.0, "12 waiting", 3, 12)])
    terminal.close()
    assert "??" in err.got


def test_a_fork_writes_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = program(monkeypatch)
    terminal = Terminal(err)
    terminal.draw(LINES)
    before = err.got
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        say("from the child\n")
    assert (out.got, err.got) == ("from the child\n", before)
    terminal.close()


def test_a_program_in_the_background_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, err = program(monkeypatch)
    terminal = Terminal(err)
    monkeypatch.setattr(err, "fileno", lambda: 0)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _number: -1, raising=False)
    terminal.draw(LINES)
    terminal.close()
    assert err.got == ""
