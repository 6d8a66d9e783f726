"""Lines in the output of a notebook's cell, in Jupyter, Colab and wherever else a kernel can update what it displays.

`rich` needs ipywidgets to draw in a notebook more than once. What it renders is HTML in the end, which every front end
can replace by itself.
"""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

from loops_sdk.instrumentation.progress.looks import drawn
from loops_sdk.instrumentation.progress.waits import Line

__all__ = ["Notebook"]

_WIDTH = 100
_PRE = '<pre style="margin:0;white-space:pre;line-height:normal;font-family:monospace">{code}</pre>'


class Notebook:
    """The output of the cell that runs: one place per cell, and the lines in it.

    Args:
        cell: says which cell runs.
    """

    pause = 0.5

    def __init__(self, cell: Callable[[], object]) -> None:
        self._running = cell
        self._place: Any = None
        self._cell: object = None
        self._there = False

    def draw(self, lines: Sequence[Line]) -> None:
        cell = self._running()
        if cell != self._cell:
            self.erase()
            self._place, self._cell = None, cell
        self._show(as_html(lines, time.monotonic()))
        self._there = True

    def erase(self) -> None:
        if self._there:
            self._show("")
            self._there = False

    def close(self) -> None:
        """Nothing was changed."""

    def _show(self, html: str) -> None:
        module = importlib.import_module("IPython.display")
        if self._place is None:
            self._place = module.display(module.HTML(html), display_id=True)
        else:
            self._place.update(module.HTML(html))


def as_html(lines: Sequence[Line], now: float) -> str:
    """Lines as HTML that needs no style sheet."""
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False, color_system="truecolor")
    console.print(drawn(lines, width=_WIDTH, ascii_only=False, now=now))
    return console.export_html(inline_styles=True, code_format=_PRE)
