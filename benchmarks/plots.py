"""Draws what the rows wrote: `growth.png`, and `peers.png` with sampling and operations against other clients.

    nox -s bench -- --json benchmarks/figures.json
    nox -s bench -- plots

Figures and pictures lie beside this file, where the README shows them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent
_OURS, _LIMIT, _OTHERS = "#2b6cb0", "#a0aec0", "#dd8452"
_NAMES = {"raw": "bare aiohttp + orjson", "ours": "loops_sdk", "facade": "loops_sdk_sync"}
#: Row, case and title of each group of bars.
_GROUPS = (
    ("op", "all", "one operation"),
    ("sample-seq", "all", "one sample"),
    ("sample-1000", "cold plain", "1,000 samples at once"),
)


def growth(details: dict[str, Any], file: Path) -> None:
    """CPU time against size, on two logarithmic axes, with a line that shows what linear would be."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    labels = {"outstanding": "outstanding operations", "datum": "tokens in a datum"}
    for axis, (case, label) in zip(axes, labels.items(), strict=True):
        figures = details[case]["figures"]["ours"]
        points = sorted((int(name[6:]), spread) for name, spread in figures.items() if name.startswith("ms at "))
        sizes, costs = [size for size, _ in points], [spread["median"] for _, spread in points]
        errors = [[abs(spread[end] - spread["median"]) for _, spread in points] for end in ("min", "max")]
        axis.errorbar(sizes, costs, yerr=errors, marker="o", color=_OURS, label="loops_sdk")
        axis.plot(sizes, [costs[-1] * size / sizes[-1] for size in sizes], ":", color="grey", label="linear")
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_title(f"slope {figures['slope']['median']:.2f}", fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[0].set_ylabel("client CPU, ms")
    figure.savefig(file, dpi=110)


def peers(details: dict[str, Any], file: Path) -> None:
    """CPU time of each client, as a multiple of the limit."""
    groups = [group for group in _GROUPS if group[0] in details]
    figure, axes = plt.subplots(1, len(groups), figsize=(9, 3.2), layout="constrained", squeeze=False)
    for axis, (row, case, title) in zip(axes[0], groups, strict=True):
        figures = details[row][case]["figures"]
        limit = figures["raw"]["cpu_s"]["median"]
        names = sorted(figures, key=lambda name: figures[name]["cpu_s"]["median"], reverse=True)
        values = [figures[name]["cpu_s"]["median"] / limit for name in names]
        colours = [{"raw": _LIMIT, "ours": _OURS, "facade": _OURS}.get(name, _OTHERS) for name in names]
        bars = axis.barh([_NAMES.get(name, name) for name in names], values, color=colours)
        axis.bar_label(bars, fmt=" %.1f", fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.supxlabel("client CPU, as a multiple of the limit", fontsize=9)
    figure.savefig(file, dpi=110)


def main() -> None:
    details = json.loads((FOLDER / "figures.json").read_text())["details"]
    growth(details["growth"], FOLDER / "growth.png")
    peers(details, FOLDER / "peers.png")
    print(f"drew {FOLDER / 'growth.png'} and {FOLDER / 'peers.png'}")


if __name__ == "__main__":
    main()
