"""Finds the modules of this folder and the engines without torch; makes rigs in folders of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "local" / "doubles")]

from fault_rig import Behind, figures, trainer_behind  # noqa: E402  # found by the line above


@pytest.fixture
def behind(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Behind]]:
    """`trainer_behind` in a new folder at every call."""
    numbers = count()

    def make(*arguments: Any, **options: Any) -> AbstractAsyncContextManager[Behind]:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return trainer_behind(folder, *arguments, **options)

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """One line that names the figures of the session."""
    if figures:
        names = ", ".join(f"{count} {name}" for name, count in sorted(figures.items()))
        terminalreporter.write_line(
            f"faults: {names}; {'nothing' if exitstatus == 0 else 'something'} lost or repeated"
        )
