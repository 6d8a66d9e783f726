"""Programs as users of tinker-cookbook write them, run by `python -m loops_sdk_sync.tinker` against a deployment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import loops_sdk

from ..served import Serving, serving

PROGRAMS = Path(__file__).parent / "programs"
#: The base model that ships with the package, as a folder like any other.
MODEL = Path(loops_sdk.__file__).parent / "local" / "engine" / "tiny" / "weights"
ISLAND = Path(loops_sdk.__file__).parent / "examples" / "data" / "pebble_island.train.jsonl"

#: There is no hub and no price list here; what asks all the same is told so at once, by a port where nobody listens.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
    "WANDB_MODE": "disabled",
}


@attrs.frozen
class Cookbook:
    """Runs programs in a folder against one deployment."""

    serving: Serving
    cwd: Path
    hf_home: Path

    def run(self, program: Path, *, fails: bool = False, **options: object) -> str:
        """Runs a program to its end; gives what it wrote."""
        command = [sys.executable, "-m", "loops_sdk_sync.tinker", str(program)]
        env = {
            "LOOPS_BASE_URL": self.serving.base_url,
            "BASETEN_API_KEY": self.serving.api_key,
            "HF_HOME": str(self.hf_home),  # what `datasets` keeps from earlier sessions would be taken for today's
        }
        done = subprocess.run(
            [*command, *(f"{name}={value}" for name, value in options.items())],
            env={**os.environ, **OFFLINE, **env},
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=170,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{program.name} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout


def rows(log_path: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (log_path / name).read_text().splitlines()]


def column(log_path: Path, name: str) -> list[float]:
    """A metric of the steps that have it, in the order in which they were logged."""
    return [row[name] for row in rows(log_path) if name in row]


def write_rows(path: Path, found: Iterator[Any] | list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cookbook]:
    """A deployment that serves a model folder by its absolute path."""
    with serving(tmp_path_factory.mktemp("data"), "--base-model", str(MODEL)) as server:
        yield Cookbook(server, PROGRAMS, tmp_path_factory.mktemp("hf"))


@pytest.fixture
def cookbook(deployment: Cookbook) -> Iterator[Cookbook]:
    """The deployment, for one test: its programs end without a word to the service, as most do."""
    yield deployment
    deployment.serving.end_runs()
