"""`loops run`: what is refused before anything is started. What it starts is in tests/end_to_end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import loops_sdk
from loops_sdk.cli import orphans

from .conftest import Loops

ROOT = Path(loops_sdk.__file__).parents[1]
#: What `loops run` does with a script, without a deployment. It says the script's id once it is ready for any end.
RUN = """
import asyncio, importlib, os, sys
run = importlib.import_module("loops_sdk.cli.run")  # the package has the command by this name
run._pass_on_signals = lambda script: print(script.pid, flush=True)
sys.exit(asyncio.run(run.run_script([sys.executable, "-c", sys.argv[1]], dict(os.environ))))
"""
SCRIPT = "import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); " + SCRIPT


@pytest.mark.parametrize("options", [[], ["--tinker"]], ids=["plain", "tinker"])
async def test_a_script_that_does_not_exist(loops: Loops, options: list[str]) -> None:
    done = await loops("run", *options, "nowhere.py")
    assert (done.code, done.out) == (2, "")
    assert "SCRIPT: there is no file 'nowhere.py'" in done.err


async def test_help_says_what_the_script_is_given(loops: Loops) -> None:
    said = " ".join((await loops("run", "--help")).out.split())
    assert "[OPTIONS] SCRIPT [ARGS]" in said
    for name in ("LOOPS_BASE_URL", "BASETEN_API_KEY", "LOOPS_BASE_MODEL", "TINKER_BASE_URL", "TINKER_API_KEY"):
        assert name in said


@contextmanager
def running(script: str) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, list[psutil.Process]]]:
    """What runs a script, the script, and both children: it, and the one that waits for the end of its parent."""
    command = [sys.executable, "-c", RUN, script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        try:
            yield process, child, psutil.Process(process.pid).children()
        finally:
            process.kill()
            if child.is_running():
                child.kill()


def test_a_script_does_not_outlive_the_command_that_was_killed() -> None:
    with running(SCRIPT) as (process, _, children):
        process.kill()
        assert not psutil.wait_procs(children, timeout=30)[1]


def test_the_command_ends_with_its_script_and_leaves_nobody() -> None:
    with running(SCRIPT) as (process, script, children):
        script.terminate()
        assert process.wait(timeout=30) == 128 + 15
        assert not psutil.wait_procs(children, timeout=30)[1]


def test_a_script_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "GRACE", 0.2)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline()
        orphans.end(script.pid)
        assert script.wait(timeout=30) == -9
        orphans.end(script.pid)  # one that is gone is no error
