"""A deployment that starts says so where somebody looks on, unless its caller shows it himself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import loops_sdk
from loops_sdk.instrumentation.progress import display, plain
from loops_sdk.local import LocalStack

DOUBLES = Path(__file__).parents[1] / "doubles"


@pytest.mark.parametrize(("shown", "own"), [(True, False), (None, False), (None, True), (False, False)])
async def test_the_start_is_a_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: bool | None, own: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(loops_sdk.__file__).parents[1]), str(DOUBLES)]))
    monkeypatch.setenv("LOOPS_PROGRESS", "1")
    monkeypatch.setattr(display, "DELAY", 0.0)
    monkeypatch.setattr(plain.Plain, "pause", 0.005)
    told: list[str] = []
    stack = LocalStack(
        "double/model",
        engine="double_engine",
        max_processes=2,
        on_progress=told.append if own else None,
        progress=shown,
    )
    async with stack:
        pass
    said = "waiting for embedded deployment" in capsys.readouterr().err
    assert said == (shown is not False and not own)
    assert bool(told) == own
    assert display._display is None
