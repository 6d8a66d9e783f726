"""What a line looks like, as text and as something that rich renders. `rich` is imported when there is one to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loops_sdk.instrumentation.progress.waits import Line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["as_text", "drawn"]

#: Lines that are shown; of what is beyond them, only how many there are.
_MOST = 8
_FRAMES, _ASCII_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "-\\|/"
_PER_SECOND = 8
#: Columns of a bar, and of a terminal that has room for one.
_BAR, _ROOM = 20, 72


def drawn(lines: Sequence[Line], *, width: int, ascii_only: bool, now: float) -> RenderableType:
    """Lines below each other: what, how far, and for how long. None is wider than the terminal.

    Args:
        width: columns that there are.
        ascii_only: whether other characters cannot be shown.
        now: seconds on any clock, for the picture that moves.
    """
    from rich.console import Group
    from rich.text import Text

    shown = [(Text(_subject(line)), line, _fitting(list(_figures(line)), width // 2)) for line in lines[:_MOST]]
    bars = width >= _ROOM and any(line.total for line in lines)
    least = width - 3 - max(len(figures) for _, _, figures in shown) - (_BAR + 1 if bars else 0)
    column = min(max(subject.cell_len for subject, _, _ in shown), least)
    frames = _ASCII_FRAMES if ascii_only else _FRAMES
    frame = frames[int(now * _PER_SECOND) % len(frames)]
    rows = []
    for subject, line, figures in shown:
        subject.truncate(column, overflow="crop" if ascii_only else "ellipsis", pad=True)
        row = Text.assemble(f"{frame} ", subject, " ", no_wrap=True, overflow="crop")
        rows.append(row.append_text(_bar(line, ascii_only)) if bars else row)
        row.append(figures, style="cyan")
    more = [Text(f"  and {len(lines) - _MOST} more", style="dim")] if len(lines) > _MOST else []
    return Group(*rows, *more)


def _bar(line: Line, ascii_only: bool) -> Text:
    from rich.text import Text

    if not line.total:
        return Text(" " * (_BAR + 1))
    there, block = _BAR * min(line.done or 0, line.total) // line.total, "=" if ascii_only else "━"
    rest = "-" if ascii_only else block
    return Text.assemble((block * there, "green"), (rest * (_BAR - there), "bright_black"), " ")


def _fitting(figures: list[str], width: int) -> str:
    """As many as there is room for; the last one, the time, always."""
    while len(figures) > 1 and len(", ".join(figures)) > width:
        figures = figures[1:]
    return figures[0] if len(figures) == 1 else ", ".join(figures)


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
