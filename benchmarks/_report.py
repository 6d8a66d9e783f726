"""What all benchmarks share: their arguments, the spread of repeats, the file they write."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any


def arguments(about: str | None, repeats: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--repeats", type=int, default=repeats, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(figures: dict[str, float], digits: int) -> str:
    return f"{figures['median']:.{digits}f} ({figures['min']:.{digits}f}-{figures['max']:.{digits}f})"


def conclude(file: Path | None, name: str, goal: float, measured: float, details: Any) -> None:
    """Print the verdict of a row whose figure should not exceed its goal, and write it if a file is wanted."""
    print(f"{name}: {measured:.2f}, goal at most {goal}: {'met' if measured <= goal else 'NOT met'}")
    if file:
        row = {"goal": goal, "measured": measured, "met": measured <= goal}
        file.write_text(json.dumps({"rows": {name: row}, "details": details}, indent=2) + "\n")
