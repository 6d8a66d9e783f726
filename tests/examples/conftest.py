"""The examples as users run them, in small, against one deployment for all tests: `example("grpo", "--steps", 3)`.

What an example prints is what its test reads: each claims something in its lines, and the test holds it to that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

import loops_sdk

from ..served import Serving, end, serving

SOURCE = Path(loops_sdk.__file__).parents[1]


@attrs.frozen
class Example:
    """Runs examples, each in a process of its own, in an empty folder."""

    serving: Serving
    cwd: Path

    def __call__(self, name: str, *args: object, timeout: float = 150.0, fails: bool = False) -> str:
        """Runs one to its end; gives what it wrote."""
        with self.started(name, *args) as process:
            try:
                said, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                pytest.fail(f"{name} did not end within {timeout} s; it wrote:\n{(error.output or b'').decode()}")
        assert (process.returncode != 0) == fails, f"{name} ended with {process.returncode}:\n{said}"
        return said

    @contextmanager
    def started(self, name: str, *args: object, **env: str) -> Iterator[subprocess.Popen[str]]:
        """One that is running, with its output in `stdout`; at the end of the block it is told to end."""
        command = [sys.executable, "-m", "loops_sdk", "examples", "run", "--service", name, *map(str, args)]
        with subprocess.Popen(
            command,
            env={**os.environ, **self.env, **env},
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                end(process)

    @property
    def env(self) -> dict[str, str]:
        """What `loops run` gives a script; lines that come as they are printed; a sampler that starts beside the
        trainer rather than after it, which is all the same to an example and takes some seconds less.
        """
        return {
            "LOOPS_BASE_URL": self.serving.base_url,
            "BASETEN_API_KEY": self.serving.api_key,
            "LOOPS_BASE_MODEL": "loops/tiny",
            "PYTHONPATH": str(SOURCE),
            "PYTHONUNBUFFERED": "1",
            "LOOPS_WARM_START_SAMPLER": "true",
        }


def numbers(said: str, name: str) -> list[float]:
    """The numbers that follow `name` in the lines of an example, in order: ``reward 0.25`` gives 0.25."""
    return [float(found) for found in re.findall(rf"\b{re.escape(name)}\s+(-?\d+(?:\.\d+)?)", said)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`loops serve` with its model `loops/tiny`, for all tests of examples."""
    with serving(tmp_path_factory.mktemp("deployment")) as server:
        yield server


@pytest.fixture
def example(deployment: Serving, tmp_path: Path) -> Iterator[Example]:
    """The deployment, for one test: whatever its examples leave running gives back its processes."""
    yield Example(deployment, tmp_path)
    deployment.end_runs()
