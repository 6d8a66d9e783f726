"""`loops plot`: the curves of runs in the terminal and as pictures; what is missing is said with what to do."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from loops_sdk.cli.curves import Recorded, chosen, panels
from loops_sdk.cli.plot import as_picture, in_terminal

ROWS: list[dict[str, Any]] = [
    {"time": 1.0, "step": 1, "policy_version": 1, "loss": 3.0, "tokens": 8, "mine": 1.0},
    {"time": 2.0, "step": 2, "policy_version": 2, "loss": 1.0, "tokens": 8, "reward": 0.5, "grad_norm": "NaN"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for run in ("r1", "r2"):
        (tmp_path / f"{run}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["loops_sdk.cli.plot"], "on_terminal", lambda: True)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def drawn(*runs: str, rows: Any = ROWS, metrics: list[str] | None = None) -> Any:
    recorded = [Recorded(run, [{name: float(value) for name, value in row.items()} for row in rows]) for run in runs]
    return panels(recorded, chosen(recorded, metrics))


# ---------------------------------------------------------------- what is drawn


def test_the_usual_ones_come_first_then_the_users_own() -> None:
    assert list(drawn("r1")) == ["loss", "reward", "grad_norm", "mine"]
    assert list(drawn("r1", metrics=["tokens", "mine"])) == ["tokens", "mine"]


def test_a_curve_holds_what_is_known_and_finite() -> None:
    curves = drawn("r1", "r2")
    assert [(curve.run, curve.steps, curve.values) for curve in curves["loss"]] == [
        ("r1", [1, 2], [3, 1]),
        ("r2", [1, 2], [3, 1]),
    ]
    assert curves["reward"][0].steps == [2]
    assert curves["grad_norm"] == []


def test_in_the_terminal_every_metric_has_a_panel() -> None:
    pytest.importorskip("plotext")
    text = plain(in_terminal(drawn("r1", "r2"), 70))
    lines = text.splitlines()
    for title in ("loss", "reward", "mine"):
        assert any(line.strip() == title for line in lines)
    assert "grad_norm: no finite number" in lines
    assert "r2" in text
    assert max(map(len, lines)) <= 70
    assert "r1" not in plain(in_terminal(drawn("r1"), 70))


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_in_the_format_that_its_name_tells(tmp_path: Path, suffix: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    as_picture(drawn("r1", "r2"), tmp_path / f"curves.{suffix}")
    assert (tmp_path / f"curves.{suffix}").read_bytes().startswith(start)


# ---------------------------------------------------------------- the command


async def test_runs_are_looked_up_or_named_by_their_files(
    loops: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    out = folder / "curves.png"
    done = await loops("plot", "r1", str(folder / "r2.jsonl"), "--dir", str(folder), "--out", str(out))
    assert (done.code, done.out) == (0, f"{out}: loss, reward, grad_norm, mine\n")
    monkeypatch.setenv("LOOPS_METRICS_DIR", str(folder))
    done = await loops("plot", "r1", "--metrics", "loss, loss,mine", "--out", str(out))
    assert (done.code, done.out) == (0, f"{out}: loss, mine\n")


async def test_on_a_terminal_it_draws_there(loops: Any, folder: Path, terminal: None) -> None:
    pytest.importorskip("plotext")
    done = await loops("plot", "r1", "--dir", str(folder), "--metrics", "loss")
    assert done.code == 0
    assert plain(done.out).splitlines()[0].strip() == "loss"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["r1"], 2, r"where are the metrics files\? give --dir DIR, or a path .* or set LOOPS_METRICS_DIR"),
        (
            ["r3", "--dir", "."],
            1,
            r"no metrics of r3 in .*; runs with metrics there: empty, notes, r1, r2\. .*LOOPS_METRICS_DIR",
        ),
        (["r3", "--dir", "none"], 1, r"no metrics of r3 in none; no run has any there"),
        (["empty", "--dir", "."], 1, r"empty\.jsonl: no step has been recorded yet"),
        (["../r1", "--dir", "."], 2, r"run_id: expected 1 to 255 letters"),
        (["r1", "--dir", ".", "--metrics", "lost"], 2, r"no 'lost' was recorded; there is time, step, .*loss"),
        (["r1", "--dir", ".", "--metrics", ","], 2, r"expected names with commas between"),
        (["r1", "--dir", ".", "--out", "curves.doc"], 1, r"curves\.doc: Format 'doc' is not supported"),
        (["r1", "--dir", ".", "--out", "no/such/x.png"], 1, r"no/such/x\.png: .*No such file"),
        (["notes.jsonl"], 1, r"notes\.jsonl:1: expected a JSON object of numbers"),
        ([], 2, r"Missing argument 'RUN\.\.\.'"),
    ],
)
async def test_what_goes_wrong_says_what_to_do(
    loops: Any,
    folder: Path,
    terminal: None,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    pytest.importorskip("matplotlib")
    (folder / "empty.jsonl").write_text("")
    (folder / "notes.jsonl").write_text("dear diary\n")
    monkeypatch.chdir(folder)
    done = await loops("plot", *arguments)
    assert done.code == code
    assert re.search(message, " ".join(done.err.split()))


async def test_without_a_terminal_a_file_is_wanted(loops: Any, folder: Path) -> None:
    done = await loops("plot", "r1", "--dir", str(folder))
    assert done.code == 2
    assert "give --out FILE.png" in done.err


@pytest.mark.parametrize(("package", "more"), [("plotext", []), ("matplotlib", ["--out", "curves.png"])])
async def test_without_the_extra_the_line_to_install_it(
    loops: Any, folder: Path, terminal: None, monkeypatch: pytest.MonkeyPatch, package: str, more: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.figure", None)
    done = await loops("plot", "r1", "--dir", str(folder), *more)
    assert done.code == 1
    assert f"{package}, which is not installed: pip install 'loops-sdk[plot]'" in done.err
