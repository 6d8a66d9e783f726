"""`loops examples` with a deployment: what it runs, and that a copy runs, too."""

from __future__ import annotations

import subprocess
import sys

from .conftest import Example


def test_an_example_runs_against_the_service_of_the_environment(example: Example) -> None:
    said = example("quickstart")
    assert "saved: bt://loops:" in said
    assert "completion:" in said


def test_it_and_its_copy_run_against_deployments_of_their_own(example: Example) -> None:
    """That of the environment is not asked: its address leads nowhere."""
    loops = [sys.executable, "-m", "loops_sdk"]
    env = {**example.env, "LOOPS_BASE_URL": "http://127.0.0.1:9"}
    subprocess.run([*loops, "examples", "copy", "quickstart", "mine"], cwd=example.cwd, env=env, check=True, timeout=60)
    for what in (["run", "mine/quickstart.py"], ["examples", "run", "quickstart"]):
        done = subprocess.run([*loops, *what], cwd=example.cwd, env=env, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
        assert "completion:" in done.stdout
