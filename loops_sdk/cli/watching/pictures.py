"""A look at a run as people see it, and as programs read it. It asks nobody and knows no clock."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loops_sdk.cli.curves import shown as drawn_unasked
from loops_sdk.cli.output import plain
from loops_sdk.cli.watching.looks import Look, Operation, Row

__all__ = ["as_json", "picture", "sparkline"]

_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
#: Columns of a curve, and of a terminal below which there is none.
_CURVE, _ROOM = 32, 50
#: Curves that are shown, and operations of each kind.
_MOST_CURVES, _MOST = 12, 6
_COLOURS = {"ACTIVE": "green", "RUNNING": "green", "running": "green", "error": "red", "INACTIVE": "dim"}


# ------------------------------------------------------------------ for programs


def as_json(look: Look) -> dict[str, Any]:
    """One document: what `picture` shows, with names."""
    run, operations = look.run, look.operations
    return {
        "time": look.at,
        "run": {"id": run.id, "name": run.name, "base_model": run.base_model, "state": look.state},
        "sampler": {"state": look.sampler_state, "policy_version": look.sampler_version},
        "policy_version": look.trainer_version,
        "lag": lag(look),
        "queued": look.queued,
        "operations": None if operations is None else [_operation(one) for one in operations],
        "metrics": {name: values[-1] for name, values in curves(look.rows).items()},
        "troubles": list(look.troubles),
    }


def _operation(one: Operation) -> dict[str, Any]:
    said = {"seconds": one.seconds, "error": one.error}
    told = {name: value for name, value in said.items() if value is not None}
    return {"id": one.id, "operation": one.operation, "status": one.status, **told}


def lag(look: Look) -> int | None:
    """By how many steps the sampler is behind the trainer; a sampler without an adapter has version 0."""
    if look.trainer_version is None or look.sampler_state != "ACTIVE":
        return None
    return look.trainer_version - (look.sampler_version or 0)


def curves(rows: Sequence[Row]) -> dict[str, list[float]]:
    """The finite values of each number by its name: the usual ones first, then the user's own."""
    names = drawn_unasked({name for row in rows for name in row})
    found = {name: [row[name] for row in rows if _finite(row.get(name))] for name in names}
    return {name: values for name, values in found.items() if values}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# ------------------------------------------------------------------ for people


def picture(look: Look, *, width: int, ascii_only: bool = False) -> RenderableType:
    """All that is known of the run, in a few lines.

    Args:
        width: columns that there are.
        ascii_only: whether other characters cannot be shown.
    """
    parts = [_heading(look), _servers(look), _curves(look, width, ascii_only), _operations(look)]
    troubles = [Text(f"! {plain(trouble)}", style="yellow") for trouble in look.troubles]
    return Group(*[part for part in parts if part is not None], *troubles)


def _heading(look: Look) -> RenderableType:
    run, when = look.run, datetime.fromtimestamp(look.at).astimezone().strftime("%H:%M:%S")
    name = "" if run.name in ("", run.base_model) else f" ({plain(run.name)})"
    return Text.assemble(
        (plain(run.id), "bold"), f"{name}  {plain(run.base_model)}  ", _state(look.state), (f"  {when}", "dim")
    )


def _state(state: str | None) -> tuple[str, str]:
    return plain(state or "none"), _COLOURS.get(state or "", "yellow" if state else "dim")


def _servers(look: Look) -> RenderableType:
    behind = lag(look)
    said = "" if behind is None else "  as new as the trainer" if behind == 0 else f"  {behind} behind the trainer"
    sampler = [("  sampler ", "dim"), _state(look.sampler_state)]
    if look.sampler_state is not None:
        sampler += [("  version ", "dim"), (_version(look.sampler_version), ""), (said, "yellow" if behind else "dim")]
    return Text.assemble(("trainer  version ", "dim"), _version(look.trainer_version), *sampler)


def _version(version: int | None) -> str:
    return "-" if version is None else str(version)


def _curves(look: Look, width: int, ascii_only: bool) -> RenderableType | None:
    if not (shown := list(curves(look.rows).items())[:_MOST_CURVES]):
        return Text("no numbers yet: a step has to be done", style="dim") if look.state != "INACTIVE" else None
    table = Table.grid(padding=(0, 2, 0, 0))
    columns = 0 if width < _ROOM else min(_CURVE, width - _ROOM + 8)
    for name, values in shown:
        drawn = [Text(sparkline(values, columns, ascii_only=ascii_only), style="cyan", no_wrap=True)] if columns else []
        number = Text(f"{values[-1]:,.4g}" if abs(values[-1]) < 1e4 else f"{values[-1]:,.0f}", no_wrap=True)
        table.add_row(Text(plain(name), style="dim", no_wrap=True, overflow="ellipsis"), number, *drawn)
    return table


def sparkline(values: Sequence[float], columns: int, *, ascii_only: bool = False) -> str:
    """Values as a line of blocks from the least to the greatest, each the mean of its share."""
    blocks, columns = _ASCII_BLOCKS if ascii_only else _BLOCKS, min(columns, len(values))
    bounds = [index * len(values) // columns for index in range(columns + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(bounds)]
    least, greatest = min(means), max(means)
    if not greatest > least:
        return blocks[3] * columns
    scale = (len(blocks) - 1) / (greatest - least)
    return "".join(blocks[round((mean - least) * scale)] for mean in means)


def _operations(look: Look) -> RenderableType | None:
    if look.operations is None:
        return None
    of = {status: [one for one in look.operations if one.status == status] for status in ("running", "queued")}
    over = [one for one in look.operations if one.status not in of]
    table = Table.grid(padding=(0, 2, 0, 0))
    for one in of["running"]:
        table.add_row(Text("running", style="green"), *_row(one))
    for label, row in (*_queued(of["queued"], look.queued), *_over(over[:_MOST])):
        table.add_row(Text(label, style="dim"), *row)
    return table if table.row_count else Text("no operation yet", style="dim")


def _row(one: Operation) -> tuple[Text, Text]:
    took = "" if one.seconds is None else f"{one.seconds:.2f} s" if one.seconds < 10 else f"{one.seconds:.0f} s"
    text = plain(one.operation) if one.error is None else f"{plain(one.operation)}: {plain(one.error)}"
    colour = _COLOURS["error"] if one.status == "error" else ""
    return Text(text, style=colour, no_wrap=True, overflow="ellipsis"), Text(took, no_wrap=True)


def _queued(waiting: Sequence[Operation], queued: int | None) -> Iterator[tuple[str, tuple[Text, Text]]]:
    count = len(waiting) if queued is None else queued
    if count:
        names = ", ".join(plain(one.operation) for one in waiting[:_MOST])
        text = f"{count}: {names}{', ...' if count > min(_MOST, len(waiting)) else ''}"
        yield "queued", (Text(text, no_wrap=True, overflow="ellipsis"), Text(""))


def _over(over: Sequence[Operation]) -> Iterator[tuple[str, tuple[Text, Text]]]:
    for index, one in enumerate(over):
        yield "done" if index == 0 else "", _row(one)
