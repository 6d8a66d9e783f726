"""``loops plot``: the curves of runs, in the terminal or as a picture.

It decides how they are drawn. The libraries that draw are imported when they draw.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from loops_sdk.cli.curves import Curve, chosen, dir_option, panels, recorded
from loops_sdk.cli.output import on_terminal

_EXTRA = "pip install 'loops-sdk[plot]'"
#: Width and height of one panel, in inches and in characters.
_INCHES = (5.5, 3.2)
_LEAST, _MOST, _HEIGHT = 40, 100, 14
#: Panels beside each other in a picture.
_COLUMNS = 2

Panels = Mapping[str, Sequence[Curve]]


def _names(_context: click.Context, _option: click.Parameter, value: str | None) -> list[str] | None:
    names = None if value is None else list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    if names == []:
        raise click.BadParameter("expected names with commas between, for example loss,reward")
    return names


@click.command(short_help="Curves of runs: loss, reward and the rest, here or as a PNG.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture: .png, .svg or .pdf.")
@click.option("--metrics", callback=_names, metavar="A,B", help="Only these.  [default: all that are worth a look]")
@dir_option
def plot(runs: tuple[str, ...], out: Path | None, metrics: list[str] | None, folder: Path | None) -> None:
    """Draw what RUN has recorded at every optimizer step: loss, reward, gradient norm, KL between sampler and trainer,
    throughput, staleness, and what you log yourself with log_metrics. Several runs are drawn over each other.

    RUN is the id of a run, whose file is looked up in --dir or LOOPS_METRICS_DIR, or a path to a .jsonl file. On a
    terminal the curves are drawn there; else, or if you like, --out names a file.

    \b
    Example:  loops plot k4q95w5 --metrics loss,reward
    Example:  loops plot k4q95w5 metrics/7x2ab1c.jsonl --out curves.png
    """
    if out is None and not on_terminal():
        raise click.UsageError("standard output is not a terminal: give --out FILE.png")
    found = [recorded(run, folder) for run in runs]
    curves = panels(found, chosen(found, metrics))
    if out is None:
        click.echo(in_terminal(curves, shutil.get_terminal_size().columns))
    else:
        as_picture(curves, out)
        click.echo(f"{out}: {', '.join(curves)}")


def _missing(package: str) -> click.ClickException:
    return click.ClickException(f"drawing needs {package}, which is not installed: {_EXTRA}")


def in_terminal(curves: Panels, columns: int) -> str:
    """All panels below each other, as text with colours.

    Raises:
        click.ClickException: plotext is not installed.
    """
    try:
        import plotext
    except ImportError:
        raise _missing("plotext") from None
    width = max(_LEAST, min(columns, _MOST))
    return "\n".join(_panel(plotext.figure, metric, drawn, width) for metric, drawn in curves.items())


def _panel(figure: Any, metric: str, drawn: Sequence[Curve], width: int) -> str:
    if not drawn:
        return f"{metric}: no finite number"
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, _HEIGHT)
    figure.title(metric)
    for curve in drawn:
        signal = figure.signal(curve.steps, curve.values)
        if len(drawn) > 1:
            signal.label(curve.run)
        if len(curve.values) > 1:
            signal.lines()
        figure.draw(signal)
    text: str = figure.build().string()
    return text


def as_picture(curves: Panels, path: Path) -> None:
    """All panels as one picture, whose format the name of the file tells.

    Raises:
        click.ClickException: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise _missing("matplotlib") from None
    columns = min(_COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(_INCHES[0] * columns, _INCHES[1] * rows), layout="constrained")
    for index, (metric, drawn) in enumerate(curves.items(), 1):
        _axes(figure.add_subplot(rows, columns, index), metric, drawn)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: a format that nobody knows
        raise click.ClickException(f"{path}: {error}") from None


def _axes(axes: Any, metric: str, drawn: Sequence[Curve]) -> None:
    axes.set_title(metric, fontsize=10)
    axes.set_xlabel("optimizer step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    for curve in drawn:
        axes.plot(curve.steps, curve.values, label=curve.run, marker="." if len(curve.values) < 30 else None)
    if len(drawn) > 1:
        axes.legend(fontsize=8)
