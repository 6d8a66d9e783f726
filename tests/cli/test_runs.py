"""`loops runs`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest
from aiohttp import web

from .conftest import Loops, Plane, Start, checkpoint_record, run_record, sampler_record

MODULE = sys.modules["loops_sdk.cli.runs"]  # by attribute it is the command of the same name


async def test_a_list_hides_what_has_ended_and_says_so(loops: Loops, plane: Plane) -> None:
    plane.runs = [
        run_record("old", created_at="2025-12-31T23:59:00+00:00"),
        run_record("gone", "INACTIVE"),
        run_record("new", created_at="2026-02-01T05:00:00+02:00"),
    ]
    done = await loops("runs", "list")
    assert done.code == 0
    assert done.table == [
        ["RUN", "NAME", "BASE MODEL", "STATUS", "CREATED"],
        ["new", "run new", "acme/model", "ACTIVE", "2026-02-01 03:00"],
        ["old", "run old", "acme/model", "ACTIVE", "2025-12-31 23:59"],
    ]
    assert done.err == "ended runs hidden: 1 (--all shows them)\n"
    assert plane.lines() == ["GET /v1/loops/runs"]  # and no session

    done = await loops("runs", "list", "--all")
    assert [row[0] for row in done.table] == ["RUN", "new", "gone", "old"]
    assert done.err == ""


async def test_columns_are_aligned_whatever_is_in_them(loops: Loops, plane: Plane) -> None:
    plane.runs = [run_record("r1", name="模型"), run_record("longer-id", name="x"), run_record("r3", name="\x1b[2J\na")]
    done = await loops("runs", "list")
    heading, *rows = done.out.splitlines()
    where = heading.index("BASE MODEL")
    wide, *plain = (row.index("acme/model") for row in rows)
    assert [wide + 2, *plain] == [where, where, where]  # two of its characters are two columns wide
    assert "\x1b" not in done.out
    assert len(rows) == 3
    assert not any(line.endswith(" ") for line in done.out.splitlines())


async def test_filters_travel_and_the_org_has_owners(loops: Loops, plane: Plane) -> None:
    plane.runs.append(run_record("r2", user={"email": None}))
    done = await loops("runs", "list", "--org", "--base-model", "acme/model")
    assert plane.asked[0].query == {"base_model": "acme/model", "scope": "org"}
    assert [row[:2] for row in done.table] == [["RUN", "OWNER"], ["r1", "ann@acme.co"], ["r2", "-"]]


async def test_a_team_has_runs_of_its_own(loops: Loops, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPS_TEAM", "research")
    done = await loops("runs", "list", "--org")
    assert [row[0] for row in done.table] == ["RUN", "of-the-team"]
    assert plane.lines() == ["GET /v1/teams?name=research", "GET /v1/teams/t1/loops/runs?scope=org"]
    monkeypatch.setenv("LOOPS_TEAM", "sales")
    done = await loops("runs", "list")
    assert (done.code, done.out) == (1, "")
    assert "there is no team 'sales'" in done.err


async def test_json_is_the_full_records_and_nothing_else(loops: Loops, plane: Plane) -> None:
    sampler = sampler_record(model_id="m1")
    plane.runs = [run_record("r1", deployment_id="d1", sampler=sampler), run_record("gone", "INACTIVE")]
    done = await loops("runs", "list", "--json")
    (record,) = done.json
    assert record["deployment_id"] == "d1"
    assert record["user"] == {"email": "ann@acme.co"}
    assert record["created_at"] == "2026-01-02T03:04:05+00:00"
    assert record["sampler"]["model_id"] == "m1"
    assert done.err == "ended runs hidden: 1 (--all shows them)\n"


async def test_an_empty_list_says_so_in_words(loops: Loops, plane: Plane) -> None:
    plane.runs = []
    assert (await loops("runs", "list", "--all")).out == "no runs\n"
    assert (await loops("runs", "list")).out == "no active runs\n"
    assert (await loops("runs", "list", "--json")).out == "[]\n"


async def test_a_run_with_its_sampler_and_checkpoints(loops: Loops, plane: Plane) -> None:
    plane.runs = [run_record("r1", sampler=sampler_record())]
    done = await loops("runs", "show", "r1")
    assert done.code == 0
    fields = dict(line.split("  ", 1) for line in done.out.split("\n\n")[0].splitlines())
    assert fields["status"].strip() == "ACTIVE"
    assert fields["sampler"].strip().startswith("sam1, ACTIVE since 2026-01-02 03:04, http://")
    assert "id-step-1" in done.out.split("\n\n")[1]
    assert plane.lines() == ["GET /v1/loops/runs/r1", "GET /v1/loops/checkpoints?run_id=r1"]

    shown = (await loops("runs", "show", "r1", "--json")).json
    assert shown["run"]["sampler"]["id"] == "sam1"
    assert [one["path"] for one in shown["checkpoints"]] == ["bt://loops:r1/sampler_weights/step-1"]


async def test_a_run_with_neither(loops: Loops, plane: Plane) -> None:
    plane.checkpoints = []
    done = await loops("runs", "show", "r1")
    assert ["sampler", "none"] in done.table
    assert done.out.endswith("\nno checkpoints\n")


@pytest.mark.parametrize("command", ["show", "deactivate"])
async def test_an_unknown_run_is_an_error_with_a_hint(loops: Loops, command: str) -> None:
    done = await loops("runs", command, "r9", *(["--yes"] if command == "deactivate" else ["--json"]))
    assert (done.code, done.out) == (1, "")
    assert "there is no run 'r9' (`loops runs list --all` shows" in done.err
    assert done.err.count("\n") == 1


# ---------------------------------------------------------------- deactivate


async def test_a_run_is_ended_and_waited_for(loops: Loops, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_LOOK_AGAIN", 0.01)
    states = iter(["ACTIVE", "ACTIVE", "INACTIVE"])

    async def look(_request: web.Request) -> web.Response:
        return web.json_response({"run": run_record("r1", next(states))})

    plane.on["GET /v1/loops/runs/r1"] = look
    done = await loops("runs", "deactivate", "r1", "--yes")
    assert (done.code, done.out) == (0, "run r1 has ended; its checkpoints stay\n")
    assert plane.lines() == ["POST /v1/loops/runs/r1/deactivate", *["GET /v1/loops/runs/r1"] * 3]


async def test_a_run_that_is_gone_afterwards_has_ended(loops: Loops, plane: Plane) -> None:
    plane.answers("GET /v1/loops/runs/r1", 404)
    assert (await loops("runs", "deactivate", "r1", "-y")).code == 0


async def test_the_wait_is_bounded(loops: Loops, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(MODULE, "_STOPS_WITHIN", 0.1)
    plane.answers("GET /v1/loops/runs/r1", 200, {"run": run_record("r1")})
    done = await loops("runs", "deactivate", "r1", "--yes")
    assert (done.code, done.out) == (1, "")
    assert "was told to end and is still ACTIVE" in done.err


async def test_without_a_terminal_nobody_is_asked_and_nothing_is_done(start: Start, plane: Plane) -> None:
    process = await start("runs", "deactivate", "r1")
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"give --yes" in err
    assert plane.asked == []


async def _at_a_terminal(start: Start, answer: bytes) -> tuple[int | None, bytes, bytes]:
    ours, theirs = os.openpty()
    try:
        process = await start("runs", "deactivate", "r1", stdin=theirs)
        os.write(ours, answer)
        out, err = await process.communicate()
        return process.returncode, out, err
    finally:
        os.close(ours)
        os.close(theirs)


async def test_at_a_terminal_it_asks_first(start: Start, plane: Plane) -> None:
    code, out, err = await _at_a_terminal(start, b"n\n")
    assert (code, out) == (1, b"")
    assert b"End run r1 and its sampler? [y/N]" in err
    assert b"nothing was done" in err
    assert plane.asked == []
    code, out, err = await _at_a_terminal(start, b"y\n")
    assert (code, out) == (0, b"run r1 has ended; its checkpoints stay\n")
    assert plane.lines()[0] == "POST /v1/loops/runs/r1/deactivate"


async def test_ctrl_c_at_the_question(start: Start, plane: Plane) -> None:
    code, _, err = await _at_a_terminal(start, b"\x04")  # the end of input, which a test can type
    assert code == 130
    assert err.endswith(b"interrupted\n")
    assert plane.asked == []


async def test_ctrl_c_during_a_request(start: Start, plane: Plane) -> None:
    arrived = asyncio.Event()

    async def hang(_request: web.Request) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    plane.on["GET /v1/loops/runs"] = hang
    process = await start("runs", "list")
    await asyncio.wait_for(arrived.wait(), 30)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"", b"interrupted")


async def test_the_list_of_a_run_without_a_name_for_its_state(loops: Loops, plane: Plane) -> None:
    plane.runs = [run_record("r1", "HIBERNATING")]
    plane.checkpoints = [checkpoint_record(target="trainer", sync_status="SYNCING")]
    assert (await loops("runs", "list")).table[1][3] == "HIBERNATING"  # states may come that nobody knows yet
    assert "bt://loops:r1/weights/step-1" in (await loops("runs", "show", "r1")).out
