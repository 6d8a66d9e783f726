"""How many cases are drawn, what is found beside the tests, and the line at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "local" / "doubles"), str(HERE.parent / "properties")]

from fuzz_figures import CASES, figures  # noqa: E402  # found by the line above

_ALL_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
#: The small size draws the same cases every time, so that a gate says something of the change before it; larger ones
#: draw anew.
settings.register_profile(
    "fuzz",
    deadline=None,
    database=None,
    derandomize=CASES <= 500,
    suppress_health_check=_ALL_CHECKS,
    print_blob=True,
)
settings.load_profile("fuzz")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """One line that names the figures of the session."""
    if figures:
        names = ", ".join(f"{figures[name]} {name}" for name in sorted(figures))
        terminalreporter.write_line(f"fuzz: {names}; {'nothing' if exitstatus == 0 else 'something'} came through")
