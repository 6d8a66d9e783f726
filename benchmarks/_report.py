"""How figures are summed up and shown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

#: `median`, `min` and `max` of the rounds.
Spread = dict[str, float]


def spread(values: list[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(figures: Spread) -> str:
    """Three significant digits: `1.23 (1.1-1.4)`."""
    return f"{figures['median']:.3g} ({figures['min']:.3g}-{figures['max']:.3g})"


def table(title: str, rows: Mapping[str, Mapping[str, Spread]]) -> str:
    """Contestants down, figures across; each as median (min-max)."""
    names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    cells = [[title, *names]]
    cells += [
        [row, *(shown(figures[name]) if name in figures else "" for name in names)] for row, figures in rows.items()
    ]
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
