"""The import contracts bite: a violation planted in a copy of the tree is refused, each by its own contract."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.jsonl")
    for package in ("loops_sdk", "loops_sdk_sync"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--no-cache", "--no-logo"]
    env = {"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin", "COLUMNS": "300"}
    return subprocess.run(command, cwd=house, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_tree_as_it_is_holds(house: Path) -> None:
    done = lint(house)
    assert done.returncode == 0, done.stdout + done.stderr


VIOLATIONS = {
    "the ground floor climbs": ("loops_sdk/types/_checks.py", "import loops_sdk._wire.codec", "floors of loops_sdk"),
    "errors know values": ("loops_sdk/errors.py", "import loops_sdk.types", "floors of loops_sdk"),
    "an unlisted room": ("loops_sdk/utilities.py", "", "floors of loops_sdk"),
    "the async house knows the sync house": (
        "loops_sdk/errors.py",
        "def late():\n    import loops_sdk_sync",
        "the async house does not know the sync house",
    ),
    "the sync house climbs in by the window": (
        "loops_sdk_sync/_futures.py",
        "import loops_sdk._wire",
        "the sync house enters by the front door",
    ),
    "one namespace of others leans on the other": (
        "loops_sdk_sync/baseten/models.py",
        "import loops_sdk_sync.tinker.loader",
        "floors of the sync house",
    ),
    "the annex borrows the client's pipes": (
        "loops_sdk/local/engine/protocol.py",
        "import loops_sdk._net",
        "server and client share the wire, not the pipes",
    ),
    "values do I/O": ("loops_sdk/types/_checks.py", "import asyncio", "sans-I/O floors"),
    "torch on the wire": ("loops_sdk/_wire/codec.py", "import torch", "torch lives in one room"),
    "torch for the type checker only": (
        "loops_sdk/_net/transport.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import peft",
        "torch lives in one room",
    ),
    "siblings in a circle": ("loops_sdk/errors.py", "import loops_sdk.types", "no cycles between siblings"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_refused(house: Path, name: str) -> None:
    where, code, contract = VIOLATIONS[name]
    with (house / where).open("a") as file:
        file.write(f"\n\n{code}\n")
    done = lint(house)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
