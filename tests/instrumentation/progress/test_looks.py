"""What a line looks like, in any width."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from loops_sdk.instrumentation.progress.looks import as_text, drawn
from loops_sdk.instrumentation.progress.waits import Line

LINES = [
    Line("forward_backward", 34.0, "12 waiting", 3, 15),
    Line("trainer of run k4q95w5", 200.0, "LOADING_MODEL"),
    Line("files of bt://loops:k4q95w5/sampler_weights/step-100", 3700.0, "", 34_100_000, 120_000_000, 12_000_000.0),
]


def shown(lines: list[Line], width: int = 100, *, ascii_only: bool = False, now: float = 0.0) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(drawn(lines, width=width, ascii_only=ascii_only, now=now))
    return captured.get().splitlines()


def test_what_how_far_and_how_long() -> None:
    calls, trainer, files = shown(LINES, 120)
    assert calls.split() == ["⠋", "forward_backward", "━━━━━━━━━━━━━━━━━━━━", "12", "waiting,", "3", "done,", "34", "s"]
    assert trainer.split() == ["⠋", "trainer", "of", "run", "k4q95w5:", "LOADING_MODEL", "3:20"]
    assert files.endswith("34.1 MB of 120.0 MB, 12.0 MB/s, 7 s left, 1:01:40")


def test_it_moves() -> None:
    assert {shown(LINES[1:2], now=now / 8)[0][0] for now in range(10)} == set("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")


@pytest.mark.parametrize("width", [20, 40, 71, 72, 200])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_no_line_is_wider_than_the_terminal_and_each_is_one(width: int, ascii_only: bool) -> None:
    told = shown(LINES, width, ascii_only=ascii_only)
    assert len(told) == len(LINES)
    assert all(cell_len(line) <= width for line in told)
    if width >= 40:
        assert "34 s" in told[0]


def test_where_there_is_only_ascii() -> None:
    (line,) = shown([Line("trainer of run r1", 5.0, "DEPLOYING")], 60, ascii_only=True)
    assert line.rstrip() == "- trainer of run r1: DEPLOYING 5 s"


def test_what_a_server_says_does_not_move_the_cursor() -> None:
    (line,) = shown([Line("trainer", 5.0, "one\ntwo\x1b[2J\r")], 60)
    assert "\x1b" not in line
    assert "one two" in line


def test_more_than_fits_is_counted() -> None:
    told = shown([Line(f"run {number}", 5.0) for number in range(50)])
    assert len(told) == 9
    assert told[-1].strip() == "and 42 more"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (LINES[0], "waiting for forward_backward, 12 waiting, 3 done, 34 s"),
        (LINES[1], "waiting for trainer of run k4q95w5: LOADING_MODEL, 3:20"),
        (Line("sample", 5.0), "waiting for sample, 5 s"),
        (Line("files", 5.0, "", 0, 0, 0.0), "waiting for files, 0 bytes of 0 bytes, 5 s"),
    ],
)
def test_a_line_for_a_log(line: Line, text: str) -> None:
    assert as_text(line) == text
