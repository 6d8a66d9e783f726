"""``python -m loops_sdk_sync.tinker``: a script runs as under python itself, with our modules under the other names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SOURCE, Run

RUN = ("-m", "loops_sdk_sync.tinker")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text("import tinker\nname = tinker.__name__\n")
    return folder / "script.py"


def test_a_script_is_run_as_python_runs_it(python: Run, originals: Path, script: Path) -> None:
    script.write_text(
        "import sys, beside\n"
        "print(__name__, __spec__, __file__, sys.argv, sys.path[0], beside.name, sys.flags.dev_mode, sys.stdin.read())"
    )
    done = python("-X", "dev", *RUN, script, "--steps", "3", "-m", paths=(originals,))
    own = f"{[str(script), '--steps', '3', '-m']} {script.parent} loops_sdk_sync.tinker True"
    assert (done.stdout.strip(), done.stderr) == (f"__main__ None {script} {own}", "")


@pytest.mark.parametrize(
    "flags",
    [["-u", "-X", "utf8", RUN[0], RUN[1]], ["-u", "-Xutf8", "-mloops_sdk_sync.tinker"], ["-Xutf8", "-um", RUN[1]]],
    ids=["apart", "glued", "together"],
)
def test_options_of_python_are_kept(python: Run, script: Path, flags: list[str]) -> None:
    script.write_text("import sys\nprint(sys.stdout.write_through, sys.flags.utf8_mode, sys.argv[1:])")
    done = python(*flags, script, "-m", "x")
    assert (done.stdout, done.stderr) == ("True 1 ['-m', 'x']\n", "")


def test_it_is_there_under_its_second_name_too(python: Run, script: Path) -> None:
    script.write_text("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'tinker', *sys.argv[1:]])")
    (script.parent / "inner.py").write_text("import sys, tinker\nprint(tinker.__name__, sys.argv[1:])")
    done = python(*RUN, script, script.parent / "inner.py", "x")
    assert (done.stdout, done.stderr) == ("loops_sdk_sync.tinker ['x']\n", "")


def test_a_module_is_run_as_python_runs_it(python: Run, script: Path) -> None:
    script.write_text("import sys, beside\nprint(__name__, __spec__.name, sys.argv[1:], beside.name)")
    done = python(*RUN, "-m", "script", "--help", paths=(script.parent,))
    assert (done.stdout, done.stderr) == ("__main__ script ['--help'] loops_sdk_sync.tinker\n", "")


def test_the_exit_code_is_passed_on(python: Run, script: Path) -> None:
    script.write_text("import sys\nsys.exit(7)")
    assert python(*RUN, script).returncode == 7


def test_a_traceback_begins_in_the_script(python: Run, script: Path) -> None:
    script.write_text("import tinker\n\n1 / 0")
    done = python(*RUN, script)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "Traceback (most recent call last):",
        f'  File "{script}", line 3, in <module>',
    ]


def test_functions_of_a_script_go_to_worker_processes(python: Run, script: Path) -> None:
    script.write_text(
        "import multiprocessing, tinker\n"
        "def work(n):\n    return tinker.__name__, n + 1\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        print(pool.map(work, [1]))\n"
    )
    done = python(*RUN, script)
    assert (done.stdout, done.stderr) == ("[('loops_sdk_sync.tinker', 2)]\n", "")


def test_ctrl_c_reaches_the_script(script: Path) -> None:
    script.write_text(
        "import time, tinker\n"
        "try:\n    print('up', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen([sys.executable, *RUN, str(script)], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "interrupted\n"
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no SCRIPT was given"),
        (["nowhere.py"], "there is no file 'nowhere.py'"),
        (["-m"], "-m needs the name of a MODULE"),
        (["-c", "1"], "unknown option -c; options of python go before -m loops_sdk_sync.tinker"),
    ],
    ids=["nothing", "no such file", "no module", "an option"],
)
def test_what_cannot_be_run_is_told(python: Run, arguments: list[str], told: str) -> None:
    done = python(*RUN, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    usage, error = done.stderr.splitlines()
    assert usage == "usage: python -m loops_sdk_sync.tinker (SCRIPT | -m MODULE) [ARGS...]"
    assert error == f"error: {told}"


def test_a_python_that_ignores_its_environment_is_refused(python: Run, script: Path) -> None:
    script.write_text("")
    code = f"import runpy, sys; sys.path.insert(0, {str(SOURCE)!r}); sys.argv[1:] = [{str(script)!r}]; "
    done = python("-E", "-c", f"{code}runpy.run_module('loops_sdk_sync.tinker', run_name='__main__')")
    assert done.returncode == 2
    assert "started with -I, -E or -S, under which nothing can be redirected" in done.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(python: Run, option: str) -> None:
    done = python(*RUN, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m loops_sdk_sync.tinker")
    assert "loops run --tinker SCRIPT" in done.stdout
