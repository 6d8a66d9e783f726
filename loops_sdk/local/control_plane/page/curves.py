"""The rows of a run's curves, one per optimizer step: those that a client wrote into its metrics file, and where there
is none those that the trainer's own history gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from loops_sdk._wire import endpoints
from loops_sdk.local.control_plane.page.lines import parsed, read_after, size

__all__ = ["Curves", "Source", "read_curves"]

Source: TypeAlias = Literal["metrics", "operations"]

#: Names of one row; what a client logs beyond them is not drawn.
_MOST_NAMES = 64
#: Bytes.
_MOST_WITHOUT_STEP = _MUCH = 2**17


@attrs.frozen
class Curves:
    """Some rows of a run.

    Attributes:
        source: where they come from: the client's metrics, or the trainer's operations.
        rows: flat, with ``step``; a later row of a step adds to an earlier one.
        offset: from where to go on reading `source`.
        more: whether so much is left that it pays to go on at once.
        restart: whether these rows replace all that were read before, because the source is another one, or a new one.
    """

    source: Source
    rows: list[dict[str, Any]]
    offset: int
    more: bool
    restart: bool


def read_curves(metrics: Path, history: Path, source: str | None, offset: int) -> Curves:
    """The next rows.

    Args:
        metrics, history: files, which need not be there.
        source, offset: what the last reading gave; `None` and 0 at first.
    """
    best: Source = "metrics" if size(metrics) else "operations"
    path, read = (metrics, _rows) if best == "metrics" else (history, _steps)
    restart = best != source or offset > size(path)
    rows, end = read(path, 0 if restart else offset)
    return Curves(best, rows, end, more=size(path) - end > _MUCH, restart=restart)


def _rows(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    lines, end = read_after(path, offset)
    rows = (parsed(line) for line, _ in lines)
    return [_few(row) for row in rows if isinstance(row.get("step"), int)], end


def _few(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: value for name, value in row.items() if not isinstance(value, str)}
    return dict(list(numbers.items())[:_MOST_NAMES])


def _steps(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A step, with the passes before it. The passes after the last one are read again next time."""
    lines, end = read_after(path, offset)
    rows: list[dict[str, Any]] = []
    passes: list[dict[str, Any]] = []
    taken = offset
    for line, at in lines:
        row = parsed(line)
        if row.get("operation") == endpoints.FORWARD_BACKWARD.name and "loss" in row:
            passes.append(row)
        elif row.get("operation") == endpoints.OPTIM_STEP.name:
            rows += [_step(row, passes)] if row.get("policy_version") else []
            passes, taken = [], at
    # As many passes without a step are given up, or nothing would ever be read after them.
    return rows, end if end - taken > _MOST_WITHOUT_STEP else taken


def _step(step: dict[str, Any], passes: list[dict[str, Any]]) -> dict[str, Any]:
    row = {"step": step["policy_version"], "time": step["finished_at"]}
    row |= {name: step[name] for name in ("grad_norm", "learning_rate") if name in step}
    tokens = sum(one.get("tokens", 0) for one in passes)
    if passes:
        row["loss"] = sum(one["loss"] for one in passes) / (tokens or 1)
    return row | ({"tokens": tokens} if tokens else {})
