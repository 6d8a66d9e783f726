"""Curves of runs as commands find and choose them: the file of a run, and which of its numbers are worth a look.

How they are drawn is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import attrs
import click

from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation import read_metrics
from loops_sdk.instrumentation.metrics import folder_of_environment, metrics_file

#: What is drawn if it is known, in this order; then the user's own.
USUAL = (
    "loss",
    "reward",
    "grad_norm",
    "kl_sampler_trainer",
    "tokens_per_second",
    "sampled_tokens_per_second",
    "staleness",
)
#: What is drawn only when it is asked for.
_ASIDE = ("learning_rate", "tokens", "time", "step", "policy_version")

dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the metrics files are.  [default: LOOPS_METRICS_DIR]",
)


@attrs.frozen
class Curve:
    """One number of one run, at the steps where it is known and finite."""

    run: str
    steps: list[float]
    values: list[float]


@attrs.frozen
class Recorded:
    """The rows of a run under the name that it is shown by."""

    run: str
    rows: list[dict[str, float]]

    def curve(self, metric: str) -> Curve:
        """The curve of a metric, which may be empty."""
        points = [(row["step"], row[metric]) for row in self.rows if math.isfinite(row.get(metric, math.nan))]
        return Curve(self.run, [step for step, _ in points], [value for _, value in points])


def path_of(run: str, folder: Path | None) -> Path:
    """The metrics file of a run: the file itself, or that of its id in the folder, which need not be there yet.

    Raises:
        click.UsageError: no folder is known, or it is not an id.
    """
    if run.endswith(".jsonl"):
        return Path(run)
    folder = folder or folder_of_environment()
    if folder is None:
        raise click.UsageError(
            "where are the metrics files? give --dir DIR, or a path to a .jsonl file, or set LOOPS_METRICS_DIR "
            "(`loops serve` prints it; set before training, it also is where the files are written)"
        )
    try:
        return metrics_file(folder, run)
    except InvalidInputError as error:
        raise click.BadParameter(error.message, param_hint="RUN") from None


def recorded(run: str, folder: Path | None) -> Recorded:
    """The rows of a run.

    Raises:
        click.ClickException: there are none; the message says which runs have some, and what to set.
        InvalidInputError: the file is none of metrics.
    """
    path = path_of(run, folder)
    try:
        rows = read_metrics(path)
    except OSError as error:
        raise click.ClickException(_missing(path, error)) from None
    if not rows:
        raise click.ClickException(f"{path}: no step has been recorded yet")
    return Recorded(path.stem, rows)


def _missing(path: Path, error: OSError) -> str:
    """What a person does next."""
    if not isinstance(error, FileNotFoundError):
        return f"{path}: {error.strerror or error}"
    others = sorted(other.stem for other in path.parent.glob("*.jsonl"))
    there = f"runs with metrics there: {', '.join(others)}" if others else "no run has any there"
    return (
        f"there are no metrics of {path.stem} in {path.parent}; {there}. A run has metrics when its program ran with "
        "LOOPS_METRICS_DIR set (`loops run --data-dir DIR` sets it to DIR/metrics; without --data-dir they go with the "
        "deployment)"
    )


def shown(known: Set[str]) -> list[str]:
    """Of the numbers that are known, those that are drawn unasked: the usual ones, then the user's own by name."""
    return [*(name for name in USUAL if name in known), *sorted(known - {*USUAL, *_ASIDE})]


def chosen(runs: Sequence[Recorded], wanted: Sequence[str] | None) -> list[str]:
    """The metrics to draw: those that were asked for, else the usual ones and the user's own, as far as they are known.

    Raises:
        click.BadParameter: no run has one that was asked for.
    """
    known = {name: None for run in runs for row in run.rows for name in row}
    if wanted is None:
        return shown(known.keys())
    for name in wanted:
        if name not in known:
            raise click.BadParameter(f"no {name!r} was recorded; there is {', '.join(known)}", param_hint="--metrics")
    return list(wanted)


def panels(runs: Sequence[Recorded], metrics: Sequence[str]) -> Mapping[str, list[Curve]]:
    """For each metric the curves of the runs that have it."""
    return {metric: [curve for curve in (run.curve(metric) for run in runs) if curve.values] for metric in metrics}
