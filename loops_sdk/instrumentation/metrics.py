"""`MetricsObserver`: one row of numbers per optimizer step, in a file per run; and reading such a file.

It decides which numbers stand in a row and under which names. When rows are written, and what becomes of errors, is
the background thread's.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation.background import Background
from loops_sdk.instrumentation.events import Event, MetricsLogged, OperationMeasured, SampleFinished
from loops_sdk.instrumentation.jsonl import append
from loops_sdk.instrumentation.steps import Step, Steps
from loops_sdk.types.checkpoints import check_name

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["RESERVED", "MetricsObserver", "folder_of_environment", "metrics_file", "read_metrics"]

#: Names that say where a row belongs: nothing else may be logged under them.
RESERVED = ("time", "step", "policy_version")

_METRICS_DIR = "LOOPS_METRICS_DIR"
#: Under this name go the steps of clients that know no run.
_NO_RUN = "local"


def folder_of_environment() -> Path | None:
    """The folder that ``LOOPS_METRICS_DIR`` names, if it names one."""
    value = os.environ.get(_METRICS_DIR)
    return Path(value).expanduser().absolute() if value else None


def metrics_file(folder: str | os.PathLike[str], run_id: str | None) -> Path:
    """Where the rows of a run lie.

    Raises:
        InvalidInputError: the run's id is no name of a file.
    """
    return Path(folder) / f"{check_name('run_id', run_id or _NO_RUN)}.jsonl"


class MetricsObserver:
    """An observer that appends one row per optimizer step to ``<folder>/<run_id>.jsonl``.

    A row is a flat JSON object. It holds, as far as they are known:

    * ``time``: when the step's result arrived, in seconds since 1970 (UTC);
    * ``step`` and ``policy_version``: the number of optimizer steps, this one counted in;
    * ``loss``: of all passes of the step, per position that carries loss; the plain sum where the number of those is
      not known, and for a loss of the user's own;
    * ``grad_norm``, ``learning_rate``: as the trainer reports them;
    * ``tokens``: positions in the passes; ``tokens_per_second``: the same per second since the step before;
    * ``kl_sampler_trainer``: see `OperationMeasured`;
    * ``sampled_tokens_per_second``: new tokens of the samples that arrived since the step before, from clients that
      this run's training client made;
    * ``staleness``: by how many steps the policies of these samples were behind the trainer's, on average. It is an
      estimate: nobody says which samples a datum was made of. Log a ``"staleness"`` of your own if you know better;
    * what `TrainingClient.log_metrics` was given, under the names that it was given; the user has the last word.

    A row is written again, and longer, when a pass is overtaken by its step; `read_metrics` puts such rows together.
    Numbers that JSON does not know are written as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

        with MetricsObserver("metrics") as observer:
            async with ServiceClient(observers=[observer]) as service:
                ...

    Where the environment variable ``LOOPS_METRICS_DIR`` names a folder every `ServiceClient` has such an observer by
    itself. Nothing is opened before there is something to write. An error of the disk gives one warning of the logger
    ``loops_sdk`` and ends the recording, never the training.

    Args:
        folder: where the files go; it is made when it does not exist.
    """

    #: Asks for `OperationMeasured.kl_sampler_trainer`.
    draws_curves = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._background: Background | None = None
        self._closed = False
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"<MetricsObserver {self._folder}>"

    def __call__(self, event: Event) -> None:
        if isinstance(event, OperationMeasured | MetricsLogged | SampleFinished):
            with self._opening:
                if self._background is None and not self._closed:
                    self._background = Background(f"MetricsObserver({str(self._folder)!r})", _Rows(self._folder))
            if self._background is not None:
                self._background.put(event)

    def close(self) -> None:
        """Return when everything so far is in the files. What comes later is ignored."""
        if (background := self._end()) is not None:
            background.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        if (background := self._end()) is not None:
            await background.aclose()

    def _end(self) -> Background | None:
        with self._opening:
            self._closed = True
            return self._background

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Rows:
    """The files, each opened with its first row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str | None, Steps] = {}
        self._files: dict[str | None, IO[bytes]] = {}

    def open(self) -> None:
        """Nothing yet."""

    def write(self, event: Event, at: float) -> None:
        if isinstance(event, SampleFinished) and event.run_id is None:
            return  # of a sampler that belongs to no run, a judge or a reference
        if not isinstance(event, OperationMeasured | MetricsLogged | SampleFinished):
            return
        if isinstance(event, MetricsLogged) and event.step is not None:
            self._append(event.run_id, {"time": at, "step": event.step, **event.metrics})
        step = self._runs.setdefault(event.run_id, Steps()).take(event, at)
        if step is not None:
            self._append(event.run_id, row_of(step))

    def close(self) -> None:
        try:
            for run_id, steps in self._runs.items():
                if (left := steps.left()) is not None:
                    number, step = left
                    self._append(run_id, {"time": step.logged_at, "step": number, **step.logged})
        finally:
            for file in self._files.values():
                file.close()

    def _append(self, run_id: str | None, row: dict[str, Any]) -> None:
        if run_id not in self._files:
            path = metrics_file(self._folder, run_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[run_id] = path.open("ab", buffering=0)
        append(self._files[run_id], row)


def row_of(step: Step) -> dict[str, Any]:
    """What is known of a finished step, and nothing else."""
    version, speed = step.version, 1 / step.seconds if step.seconds > 0 else None
    row = {
        "time": step.over_at,
        "step": version,
        "loss": step.mean_loss if step.tokens else None,
        "grad_norm": step.result.get("grad_norm"),
        "learning_rate": step.result.get("learning_rate"),
        "tokens": step.tokens or None,
        "tokens_per_second": step.tokens * speed if step.tokens and speed else None,
        "policy_version": version,
        "kl_sampler_trainer": step.kl_sampler_trainer,
        "staleness": step.staleness,
        "sampled_tokens_per_second": step.samples.tokens * speed if step.samples.tokens and speed else None,
    }
    return {name: value for name, value in row.items() if value is not None} | step.logged


# ------------------------------------------------------------------ reading


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of a file that a `MetricsObserver` writes or has written, one per step, by rising ``step``.

    Rows of one step are put together; a later one has the last word, also where training went back to an earlier
    checkpoint and took the same step again. A last line that is still being written is left out.

    Args:
        path: the file.

    Returns:
        The numbers by name, ``step`` in each row. What JSON does not know, such as NaN, is a float again.

    Raises:
        InvalidInputError: a line that is no row of numbers, with its place.
        OSError: the file cannot be read.
    """
    *lines, _unfinished = Path(path).read_bytes().split(b"\n")
    rows: dict[float, dict[str, float]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, f"{path}:{number}")
            rows.setdefault(row["step"], {}).update(row)
    return [rows[step] for step in sorted(rows)]


def _row(line: bytes, where: str) -> dict[str, float]:
    try:
        said = json.loads(line)
        row = {name: _number(value) for name, value in said.items()} if isinstance(said, Mapping) else {}
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{where}: expected a JSON object of numbers ({error})") from None
    if not math.isfinite(row.get("step", math.nan)):
        raise InvalidInputError(f"{where}: expected a JSON object of numbers with a step")
    return row


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"not a number: {value!r:.60}")
    return float(value) if isinstance(value, str) else value
