"""The top level of the repository is a table of contents: what is not on this list belongs inside a room."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "LICENSE",
    "README.md",
    "benchmarks",
    "loops_sdk",
    "loops_sdk_sync",
    "noxfile.py",
    "pyproject.toml",
    "tests",
}


def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_the_top_level_holds_only_what_is_listed() -> None:
    top = {Path(name).parts[0] for name in tracked()}
    assert {name for name in top if not name.startswith(".")} <= ALLOWED


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils", "helpers", "common", "manager", "base", "misc"}
    assert [name for name in tracked() if Path(name).stem in drawers] == []
