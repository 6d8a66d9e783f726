"""`loops runs watch`: what it shows of a run, whom it asks, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web
from rich.cells import cell_len
from rich.console import Console

from loops_sdk._wire.codec import decode
from loops_sdk.cli.watching import Look, Operation, as_json, picture
from loops_sdk.cli.watching.looks import Steps
from loops_sdk.cli.watching.pictures import curves, lag, sparkline
from loops_sdk.types import Run

from .conftest import Loops, Plane, Start, run_record, sampler_record

MODULE = sys.modules["loops_sdk.cli.watch"]
SOON = 30.0
ROWS = [
    {"step": step, "time": 10.0 * step, "loss": 8.0 / step, "reward": step / 4, "tokens": 50, "policy_version": step}
    for step in range(1, 5)
]


def run(**fields: Any) -> Run:
    return decode(json.dumps(run_record("r1", **fields)).encode(), Run)


LOOK = Look(
    at=1_770_000_000.0,
    run=run(name="lessons"),
    state="RUNNING",
    sampler_state="ACTIVE",
    operations=[
        Operation("op-4", "forward_backward", "running", 1.25),
        Operation("op-5", "optim_step", "queued"),
        Operation("op-6", "save_state", "queued"),
        Operation("op-3", "load_state", "error", 12.0, "there is no\nsuch checkpoint"),
        Operation("op-2", "optim_step", "done", 0.05),
    ],
    queued=40,
    trainer_version=12,
    sampler_version=9,
    rows=ROWS,
)


def drawn(look: Look, width: int = 100, *, ascii_only: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(picture(look, width=width, ascii_only=ascii_only))
    return [line.rstrip() for line in captured.get().splitlines()]


# ------------------------------------------------------------------ pictures, without anybody to ask


def test_a_picture_has_run_versions_numbers_and_operations() -> None:
    heading, servers, loss, reward, *operations = drawn(LOOK)
    assert heading.startswith("r1 (lessons)  acme/model  RUNNING  ")
    assert servers == "trainer  version 12  sampler ACTIVE  version 9  3 behind the trainer"
    assert loss.split() == ["loss", "2", "█▃▂▁"]
    assert reward.split() == ["reward", "1", "▁▃▆█"]
    assert [" ".join(line.split()) for line in operations] == [
        "running forward_backward 1.25 s",
        "queued 40: optim_step, save_state, ...",
        "done load_state: there is no such checkpoint 12 s",
        "optim_step 0.05 s",
    ]


@pytest.mark.parametrize("width", [10, 20, 49, 50, 80, 300])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, ascii_only: bool) -> None:
    lines = drawn(attrs.evolve(LOOK, troubles=["trainer: no answer within 3 s"]), width, ascii_only=ascii_only)
    assert all(cell_len(line) <= width for line in lines)
    if width >= 50:
        assert ("█" in "".join(lines)) != ascii_only
    if ascii_only and width >= 80:
        assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sampler_version": 12}, "version 12  as new as the trainer"),
        ({"sampler_version": None}, "version -  12 behind the trainer"),  # the base model is version 0
        ({"sampler_state": None, "sampler_version": None}, "trainer  version 12  sampler none"),
        ({"sampler_state": "SCALED_TO_ZERO", "sampler_version": None}, "sampler SCALED_TO_ZERO  version -"),
        ({"trainer_version": None}, "trainer  version -  sampler ACTIVE  version 9"),
    ],
)
def test_versions_and_the_lag_between_them(changed: dict[str, Any], says: str) -> None:
    assert drawn(attrs.evolve(LOOK, **changed))[1].endswith(says)


def test_what_nobody_tells_is_left_out_and_said_why() -> None:
    bare = Look(at=0.0, run=run(), state="ACTIVE", troubles=["trainer: no answer", "sampler: \x1b[2Jgone"])
    _, servers, numbers, *troubles = drawn(bare)
    assert servers == "trainer  version -  sampler none"
    assert numbers == "no numbers yet: a step has to be done"
    assert troubles == ["! trainer: no answer", "! sampler: \N{REPLACEMENT CHARACTER}[2Jgone"]
    assert drawn(attrs.evolve(bare, operations=[], troubles=[]))[-1] == "no operation yet"
    assert lag(bare) is None


def test_the_document_has_the_same_with_names() -> None:
    said = as_json(LOOK)
    assert json.loads(json.dumps(said)) == said
    assert (said["policy_version"], said["sampler"]["policy_version"], said["lag"], said["queued"]) == (12, 9, 3, 40)
    assert said["metrics"] == {"loss": 2.0, "reward": 1.0}
    assert said["operations"][0] == {
        "id": "op-4",
        "operation": "forward_backward",
        "status": "running",
        "seconds": 1.25,
    }
    assert said["run"] == {"id": "r1", "name": "lessons", "base_model": "acme/model", "state": "RUNNING"}


def test_curves_are_the_usual_ones_then_the_users_own_where_they_are_finite() -> None:
    rows = [{"step": 1, "mine": 1.0, "loss": float("nan"), "grad_norm": 2}, {"step": 2, "loss": 3.0, "time": 5.0}]
    assert list(curves(rows).items()) == [("loss", [3.0]), ("grad_norm", [2]), ("mine", [1.0])]


@pytest.mark.parametrize(
    ("values", "columns", "line"),
    [
        ([1.0], 10, "▄"),
        ([2.0, 2.0, 2.0], 10, "▄▄▄"),
        ([0.0, 7.0], 10, "▁█"),
        ([0.0, 0.0, 7.0, 7.0], 2, "▁█"),
        (list(range(800)), 8, "▁▂▃▄▅▆▇█"),
    ],
)
def test_a_sparkline(values: list[float], columns: int, line: str) -> None:
    assert sparkline(values, columns) == line
    assert sparkline(values, columns, ascii_only=True).isascii()


def test_steps_are_put_together_and_have_their_speed() -> None:
    steps = Steps()
    for row in [ROWS[1], ROWS[0], {"step": 2, "grad_norm": 1.0}, {"step": 3, "tokens_per_second": 7.0}]:
        steps.take(row)
    first, second, third = steps.last()
    assert "tokens_per_second" not in first
    assert (second["grad_norm"], second["tokens_per_second"]) == (1.0, 5.0)
    assert third == {"step": 3, "tokens_per_second": 7.0}
    for step in range(5000):
        steps.take({"step": step})
    assert [row["step"] for row in steps.last()] == list(range(4500, 5000))
    steps.clear()
    assert steps.last() == []


# ------------------------------------------------------------------ a service, which has nothing but its protocol


@attrs.define(eq=False)
class Servers:
    """The trainer and the sampler of a run on the scripted control plane."""

    plane: Plane
    operations: list[dict[str, Any]] = attrs.field(factory=list)
    step: int = 7
    shows: int | None = 5

    def install(self, **fields: Any) -> None:
        sampler = sampler_record(base_url=f"{self.plane.url}/sampler")
        self.plane.runs = [run_record("r1", base_url=f"{self.plane.url}/trainer", sampler=sampler, **fields)]
        self.plane.on |= {
            "GET /trainer/operations": self._said(lambda: {"operations": self.operations}),
            "GET /trainer/status": self._said(lambda: {"step": self.step}),
            "GET /sampler/v1/models": self._said(lambda: {"object": "list", "data": self._cards()}),
        }

    def _cards(self) -> list[dict[str, Any]]:
        live = {"id": "live", "parent": "base", "policy_version": self.shows}
        return [{"id": "base"}, *([live] if self.shows is not None else [])]

    def _said(self, what: Any) -> Any:
        async def answer(_request: web.Request) -> web.Response:
            return web.json_response(what())

        return answer


@pytest.fixture
def servers(plane: Plane) -> Servers:
    made = Servers(plane)
    made.operations = [
        {"operation": name, "operation_id": f"op-{number}", "status": status}
        for number, (name, status) in enumerate(
            [("forward", "error"), ("optim_step", "done"), ("forward_backward", "running"), ("optim_step", "queued")]
        )
    ]
    made.install()
    return made


async def test_a_service_is_asked_by_its_protocol(loops: Loops, plane: Plane, servers: Servers) -> None:
    said = (await loops("runs", "watch", "r1", "--once", "--json")).json
    assert (said["policy_version"], said["sampler"], said["lag"], said["queued"]) == (
        7,
        {"state": "ACTIVE", "policy_version": 5},
        2,
        1,
    )
    assert [(one["id"], one["status"]) for one in said["operations"]] == [
        ("op-2", "running"),
        ("op-3", "queued"),
        ("op-1", "done"),
        ("op-0", "error"),
    ]
    assert said["troubles"] == []
    assert sorted(plane.lines()) == [
        "GET /local/v1/runs/r1",
        "GET /sampler/v1/models",
        "GET /trainer/operations",
        "GET /trainer/status",
        "GET /v1/loops/runs/r1",
    ]


async def test_numbers_come_from_the_metrics_file(
    loops: Loops, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*ROWS, {"step": 5, "loss": "NaN", "reward": 2.0}]
    (tmp_path / "r1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 6, "lo')
    named = await loops("runs", "watch", "r1", "--once", "--json", "--dir", str(tmp_path))
    assert named.json["metrics"] == {"loss": 2.0, "reward": 2.0, "tokens_per_second": 5.0}
    monkeypatch.setenv("LOOPS_METRICS_DIR", str(tmp_path))
    assert "reward             2" in (await loops("runs", "watch", "r1", "--once")).out


async def test_the_newest_active_run_is_watched(loops: Loops, plane: Plane, servers: Servers) -> None:
    newer = {**plane.runs[0], "id": "r2", "created_at": "2026-03-01T00:00:00Z"}
    ended = {**plane.runs[0], "id": "r3", "created_at": "2026-04-01T00:00:00Z", "status": {"name": "INACTIVE"}}
    plane.runs += [newer, ended]
    assert (await loops("runs", "watch", "--once", "--json")).json["run"]["id"] == "r2"


async def test_no_active_run_is_a_clear_text(loops: Loops, plane: Plane) -> None:
    plane.runs = [run_record("gone", "INACTIVE")]
    done = await loops("runs", "watch")
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: no run is active; `loops runs list --all` shows those that have ended\n"


async def test_an_unknown_run_and_what_is_no_run(loops: Loops) -> None:
    done = await loops("runs", "watch", "r9")
    assert (done.code, done.out) == (1, "")
    assert "there is no run 'r9' (`loops runs list --all` shows" in done.err
    done = await loops("runs", "watch", "a/b")
    assert done.code == 1
    assert "run_id" in done.err
    assert (await loops("runs", "watch", "r1", "--interval", "0")).code == 2


async def test_a_sampler_that_sleeps_is_not_woken(loops: Loops, plane: Plane, servers: Servers) -> None:
    plane.runs[0]["sampler"]["status"] = {"name": "SCALED_TO_ZERO"}
    said = (await loops("runs", "watch", "r1", "--once", "--json")).json
    assert said["sampler"] == {"state": "SCALED_TO_ZERO", "policy_version": None}
    assert said["lag"] is None
    assert "GET /sampler/v1/models" not in plane.lines()


async def test_of_a_run_that_has_ended_nobody_but_the_control_plane_is_asked(
    loops: Loops, plane: Plane, servers: Servers
) -> None:
    plane.runs[0]["status"] = {"name": "INACTIVE"}
    done = await loops("runs", "watch", "r1")
    assert (done.code, done.err) == (0, "run r1 has ended\n")
    assert "acme/model  INACTIVE" in done.out
    assert not [line for line in plane.lines() if "trainer" in line or "sampler/" in line]


async def test_it_goes_on_through_troubles_until_the_run_has_ended(
    loops: Loops, plane: Plane, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def look(request: web.Request) -> web.Response:
        nonlocal looks
        looks += 1
        if looks == 2:
            plane.answers("GET /trainer/operations", 503)
            plane.answers("GET /trainer/status", 503)
            plane.answers("GET /sampler/v1/models", 502)
        if looks == 3:
            return web.json_response({"message": "restarting"}, status=503)
        if looks == 4:
            servers.install()
        if looks == 5:
            plane.runs[0]["status"] = {"name": "INACTIVE"}
        return web.json_response({"run": plane.runs[0]})

    plane.on["GET /v1/loops/runs/r1"] = look
    done = await loops("runs", "watch", "r1", "--interval", "0.2", "--json")
    assert (done.code, done.err) == (0, "run r1 has ended\n")
    well, alone, nobody, again, over = [json.loads(line) for line in done.out.splitlines()]
    assert (well["troubles"], well["queued"]) == ([], 1)
    assert [one.split(":")[0] for one in alone["troubles"]] == ["trainer", "sampler"]
    assert alone["operations"] is None
    assert nobody["troubles"] == ["control plane: restarting"]
    assert nobody["time"] >= alone["time"]
    assert (again["troubles"], again["queued"]) == ([], 1)
    assert over["run"]["state"] == "INACTIVE"


async def test_a_control_plane_that_stays_away_is_given_up(
    loops: Loops, plane: Plane, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_GIVE_UP_AFTER", 0.0)
    looks = 0

    async def look(_request: web.Request) -> web.Response:
        nonlocal looks
        looks += 1
        return web.json_response({"run": plane.runs[0]} if looks == 1 else {}, status=200 if looks == 1 else 503)

    plane.on["GET /v1/loops/runs/r1"] = look
    done = await loops("runs", "watch", "r1", "--interval", "0.2")
    assert done.code == 1
    assert done.out.count("acme/model") == 1
    assert "503" in done.err


# ------------------------------------------------------------------ a terminal


@pytest.fixture
async def terminal() -> AsyncIterator[tuple[int, int]]:
    if not hasattr(os, "openpty"):
        pytest.skip("no pseudo-terminals here")
    ours, theirs = os.openpty()
    yield ours, theirs
    for number in (ours, theirs):
        os.close(number)


async def until(number: int, wanted: bytes) -> bytes:
    said = b""
    while wanted not in said:
        said += await asyncio.wait_for(asyncio.to_thread(os.read, number, 65536), SOON)
    return said


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_terminal_is_given_back(
    start: Start, servers: Servers, terminal: tuple[int, int], sent: signal.Signals, code: int
) -> None:
    ours, theirs = terminal
    env = {"TERM": "xterm", "COLUMNS": "70", "LINES": "20"}
    process = await start("runs", "watch", "r1", "--interval", "0.2", env=env, stdout=theirs)
    await until(ours, b"optim_step")
    process.send_signal(sent)
    rest = await until(ours, b"\x1b[?1049l")
    rest += await until(ours, b"behind the trainer") if b"behind the trainer" not in rest[-400:] else b""
    await asyncio.wait_for(process.communicate(), SOON)
    assert process.returncode == code
    assert b"\x1b[?25h" in rest  # the cursor is back
    left = rest[rest.rindex(b"\x1b[?1049l") :]
    assert b"2 behind the trainer" in left  # and the last look stays
