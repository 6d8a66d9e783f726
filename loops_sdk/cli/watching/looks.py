"""What one look at a run has found, whoever was asked: values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import attrs

from loops_sdk.types import Run

__all__ = ["Look", "Operation", "Row", "Steps"]

#: The numbers of one optimizer step.
Row: TypeAlias = Mapping[str, Any]

#: Steps that are kept: what is drawn are their last ones.
_MOST = 500


@attrs.frozen
class Operation:
    """An operation of the trainer.

    Attributes:
        id: the trainer's id of it.
        operation: name of the call.
        status: ``"queued"``, ``"running"``, ``"done"`` or ``"error"``.
        seconds: how long it ran, or has been running; `None` where the trainer does not tell.
        error: what it failed with, if it did and if that is told.
    """

    id: str
    operation: str
    status: str
    seconds: float | None = None
    error: str | None = None


@attrs.frozen
class Look:
    """A run at one moment. What nobody could tell is `None`, and `troubles` says why.

    Attributes:
        at: seconds since 1970 (UTC).
        run: as the control plane knows it.
        state, sampler_state: of trainer and sampler, in the service's words; no sampler has no state.
        operations: those that run and wait, in their order, then those that are over, newest first. Long lists are cut.
        queued: how many wait.
        trainer_version: optimizer steps that the trainer has done.
        sampler_version: of the weights that the sampler answers with; `None` also when those are the base model's.
        rows: numbers of the last steps, in their order.
        troubles: who did not answer, in a few words each.
    """

    at: float
    run: Run
    state: str
    sampler_state: str | None = None
    operations: Sequence[Operation] | None = None
    queued: int | None = None
    trainer_version: int | None = None
    sampler_version: int | None = None
    rows: Sequence[Row] = ()
    troubles: Sequence[str] = ()


class Steps:
    """The last steps of a run, put together from rows that come in any number and may come again."""

    def __init__(self) -> None:
        self._steps: dict[float, dict[str, Any]] = {}

    def clear(self) -> None:
        """Begin anew."""
        self._steps.clear()

    def take(self, row: Row) -> None:
        """One more row: a later one of the same step adds to an earlier one."""
        self._steps.setdefault(row["step"], {}).update(row)
        if len(self._steps) > 2 * _MOST:
            self._steps = {step: self._steps[step] for step in sorted(self._steps)[-_MOST:]}

    def last(self) -> list[Row]:
        """By rising step, each with its ``tokens_per_second`` where that follows from its time."""
        rows = [self._steps[step] for step in sorted(self._steps)[-_MOST:]]
        return rows[:1] + [_with_speed(row, before) for before, row in pairwise(rows)]


def _with_speed(row: dict[str, Any], before: dict[str, Any]) -> Row:
    took = row.get("time", 0.0) - before.get("time", row.get("time", 0.0))
    if "tokens" not in row or "tokens_per_second" in row or took <= 0:
        return row
    return {**row, "tokens_per_second": row["tokens"] / took}
