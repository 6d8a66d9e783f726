"""What the commands print: aligned tables for people, one JSON document for programs. It knows no commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
import orjson
from rich.cells import cell_len

from loops_sdk import to_dict

Command = TypeVar("Command", bound=Callable[..., Any])

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_UNITS = ("kB", "MB", "GB", "TB")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document with the full records.")


def print_json(value: Any) -> None:
    """One document on standard output; values of the API become what `to_dict` makes of them."""
    click.echo(orjson.dumps(value, default=to_dict, option=orjson.OPT_INDENT_2))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Rows under headings, each column as wide as its widest cell; `empty` instead when there is no row."""
    if not rows:
        click.echo(empty)
        return
    lines = [[plain(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(_padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """One field per line, its name before it."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{name:<{width}}  {plain(value)}")


def on_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout.isatty()


def note(text: str) -> None:
    """A remark for people, beside the output."""
    click.echo(text, err=True)


def plain(value: object) -> str:
    """A cell as text. What a server sent must not move the cursor or break the line."""
    if value is None or value == "":
        return "-"
    return "".join(one if one.isprintable() else " " if one.isspace() else _UNPRINTABLE for one in str(value))


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def size(count: int) -> str:
    """A number of bytes: ``17 B``, ``1.2 MB`` (powers of 1000)."""
    if count < 1000:
        return f"{count} B"
    number = float(count)
    for unit in _UNITS:
        number /= 1000
        if number < 999.95 or unit == _UNITS[-1]:
            return f"{number:.1f} {unit}"
    raise AssertionError("the last unit takes everything")


def moment(when: datetime) -> str:
    """A time on this machine's clock: ``2026-01-31 13:05``."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def moment_of_text(text: str) -> str:
    """As `moment`, for a time that is text in the API; what is not ISO 8601 is shown as it is."""
    try:
        return moment(datetime.fromisoformat(text))
    except ValueError:
        return text
