"""Python in a process of its own, beside originals that nobody may ever see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import loops_sdk_sync

SOURCE = Path(loops_sdk_sync.__file__).parents[1]
ORIGINALS = {
    "tinker/__init__.py": "print('the original tinker')",
    "tinker/types/__init__.py": "print('the original tinker.types')",
    "tinker/cli.py": "print('the original tinker.cli')",
    "tinker/lib/__init__.py": "",
    "tinker/lib/telemetry.py": "print('the original telemetry')",
    "baseten/__init__.py": "name = 'the real baseten'",
    "baseten/other.py": "name = 'another module of it'",
    "baseten/loops/__init__.py": "print('the original baseten.loops')",
    "baseten/loops/models.py": "print('the original baseten.loops.models')",
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH in which both originals are installed."""
    for name, code in ORIGINALS.items():
        path = tmp_path / "originals" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return tmp_path / "originals"


@pytest.fixture
def python(tmp_path: Path) -> Run:
    """Run Python with `arguments` in an empty folder, with `paths` before our sources on its path."""
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()

    def run(*arguments: object, paths: tuple[Path, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, SOURCE))), **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
