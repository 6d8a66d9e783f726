"""What a line looks like, as text and as something that rich renders. `rich` is imported when there is one to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loops_sdk.instrumentation.progress.waits import Line

if TYPE_CHECKING:
    from rich.console import OverflowMethod, RenderableType

__all__ = ["as_text", "drawn"]

#: Lines that are shown; of what is beyond them, only how many there are.
_MOST = 8
_FRAMES, _ASCII_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "-\\|/"
_PER_SECOND = 8
#: Columns of a bar, and of a terminal that has room for one.
_BAR, _ROOM = 20, 72


def drawn(lines: Sequence[Line], *, width: int, ascii_only: bool, now: float) -> RenderableType:
    """Lines below each other: what, how far, and for how long.

    Args:
        width: columns that there are.
        ascii_only: whether other characters cannot be shown.
        now: seconds on any clock, for the picture that moves.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    frames = _ASCII_FRAMES if ascii_only else _FRAMES
    frame = frames[int(now * _PER_SECOND) % len(frames)]
    overflow: OverflowMethod = "crop" if ascii_only else "ellipsis"
    figures = [", ".join(_figures(line)) for line in lines]
    bars = width >= _ROOM and any(line.total for line in lines)
    others = 3 + max(map(len, figures)) + (_BAR + 1 if bars else 0)
    table = Table.grid(padding=(0, 1, 0, 0))
    for line, said in zip(lines[:_MOST], figures, strict=False):
        text = Text(f"{frame} {_subject(line)}", no_wrap=True)
        text.truncate(max(width - others, width // 2), overflow=overflow)
        bar: RenderableType = ProgressBar(line.total, line.done or 0, width=_BAR) if line.total else ""
        table.add_row(text, *[bar] * bars, Text(said, style="cyan", no_wrap=True, overflow=overflow))
    if len(lines) > _MOST:
        table.add_row(Text(f"  and {len(lines) - _MOST} more", style="dim", no_wrap=True))
    return table


def as_text(line: Line) -> str:
    """A line for a log."""
    return f"waiting for {_subject(line)}, {', '.join(_figures(line))}"


def _subject(line: Line) -> str:
    state = line.state if line.total is None else ""
    said = f"{line.subject}: {state}" if state else line.subject
    return "".join(one if one.isprintable() else " " for one in said)


def _figures(line: Line) -> Iterator[str]:
    if line.total is not None and line.speed is None:
        yield f"{line.state}, {line.done} done" if line.done else line.state
    elif line.total is not None:
        yield from _of_bytes(line.done or 0, line.total, line.speed or 0.0)
    yield _time(line.seconds)


def _of_bytes(done: int, total: int, speed: float) -> Iterator[str]:
    from rich.filesize import decimal

    yield f"{decimal(done)} of {decimal(total)}"
    if speed > 0:
        yield f"{decimal(int(speed))}/s"
        yield f"{_time((total - done) / speed)} left"


def _time(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
