"""What each mistake of a newcomer says, word by word. ``LOOPS_SNAPSHOTS=write pytest tests/errors`` writes the texts
anew; read the difference before it is committed.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import inspect
import io
import os
import shlex
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loops_sdk
import loops_sdk_sync
import loops_sdk_sync.local
from loops_sdk._net import caller
from loops_sdk._wire.retrying import Backoff
from loops_sdk.cli import main

from .cases import FOLDER, Case, settled
from .surroundings import GIVEN, World, environment

CASES = [Case.read(path) for path in sorted(FOLDER.glob("*.txt"))]
ENGINES = (Path(__file__).parent / "engines", Path(__file__).parents[1] / "local" / "doubles")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = os.pathsep.join([*map(str, ENGINES), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as here:
        here.setenv("PYTHONPATH", path)
        with loops_sdk_sync.local.LocalStack(engine="lesson_engine") as stack:
            yield World(stack, tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_says(case: Case, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    monkeypatch.setattr("click.core._detect_program_name", lambda: "loops")
    monkeypatch.setattr(caller, "Backoff", lambda: Backoff(first=0.01, cap=0.02))
    with environment(), asyncio.Runner() as runner:
        said = _said(case, world, runner)
    says = settled(said, HOME=str(world.folder), KEY=world.stack.api_key)
    assert world.stack.api_key not in said
    if os.environ.get("LOOPS_SNAPSHOTS") == "write":
        case.write(says)
    else:
        assert says == case.says


def _said(case: Case, world: World, runner: asyncio.Runner) -> str:
    """What the case comes to. Commands have an event loop of their own, and want the main thread."""
    there = contextlib.AsyncExitStack()

    async def enter() -> dict[str, Any]:
        return {name: await there.enter_async_context(GIVEN[name](world)) for name in case.given}

    try:
        names = runner.run(enter())
        if case.code.startswith("$ "):
            return _commanded(case.code.format(**names))
        return runner.run(_raised(case.code, names))
    finally:
        runner.run(there.aclose())


def _commanded(code: str) -> str:
    """What the command says on both streams."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main(shlex.split(code.removeprefix("$ loops ").strip()))
    return said.getvalue()


async def _raised(code: str, given: dict[str, Any]) -> str:
    """What the code warns of, and the last line of the traceback that it ends in. Blocking code runs in a thread."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    program = compile(code, "script.py", "exec", flags=flags, dont_inherit=True)
    house = loops_sdk_sync if "loops_sdk_sync" in code else loops_sdk
    names = {**{name: getattr(house, name) for name in house.__all__}, **given}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            if program.co_flags & inspect.CO_COROUTINE:
                await eval(program, names)
            elif house is loops_sdk_sync:
                await asyncio.to_thread(exec, program, names)
            else:
                exec(program, names)
            ended = ""
        except Exception as error:
            ended = "".join(traceback.format_exception_only(error))
        names.clear()
        gc.collect()  # what was never awaited is told when it is collected
    return "".join(f"{_line(one)}\n" for one in warned) + ended


def _line(warned: warnings.WarningMessage) -> str:
    where = f"script.py:{warned.lineno}: " if warned.filename == "script.py" else ""
    return f"{where}{warned.category.__name__}: {warned.message}"


def test_every_snapshot_is_a_case() -> None:
    assert len(CASES) > 40
    assert {path.name for path in FOLDER.iterdir()} == {f"{case.name}.txt" for case in CASES}
