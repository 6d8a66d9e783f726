"""`loops checkpoints list` and `files`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ADDRESS, Loops, Plane, checkpoint_record

HEADING = ["CHECKPOINT", "ADDRESS", "BASE MODEL", "SIZE", "CREATED", "STATE"]


@pytest.mark.parametrize(
    ("option", "value", "parameter"),
    [
        ("--run-id", "r1", "run_id"),
        ("--base-model", "acme/model", "base_model"),
        ("--path", ADDRESS, "checkpoint_path"),
    ],
)
async def test_a_list_by_one_filter(loops: Loops, plane: Plane, option: str, value: str, parameter: str) -> None:
    done = await loops("checkpoints", "list", option, value)
    row = ["id-step-1", ADDRESS, "acme/model", "1.2 MB", "2026-01-02 03:04", "COMPLETE"]
    assert (done.code, done.table, done.err) == (0, [HEADING, row], "")
    assert plane.asked[0].query == {parameter: value}


async def test_json_is_the_full_records_with_their_address(loops: Loops, plane: Plane) -> None:
    plane.checkpoints.append(checkpoint_record("step-2", target="trainer", sync_status="SYNCING"))
    first, second = (await loops("checkpoints", "list", "--run-id", "r1", "--json")).json
    assert first == {
        **checkpoint_record(),
        "created_at": "2026-01-02T03:04:05+00:00",
        "sync_status": None,
        "path": ADDRESS,
    }
    assert (second["path"], second["sync_status"]) == ("bt://loops:r1/weights/step-2", "SYNCING")


async def test_an_empty_list(loops: Loops, plane: Plane) -> None:
    plane.checkpoints = []
    assert (await loops("checkpoints", "list", "--run-id", "r1")).out == "no checkpoints\n"
    assert (await loops("checkpoints", "list", "--run-id", "r1", "--json")).out == "[]\n"


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--run-id", "r1", "--base-model", "m"],
        ["list", "--path", "bt://r1/step-1"],
        ["list", "--path", "step-1"],
        ["files", "bt://r1/step-1"],
        ["files", ""],
        ["files", "a/b"],
        ["files"],
        ["download", ADDRESS],
        ["download", ADDRESS, __file__],
    ],
)
async def test_a_wrong_call_asks_nobody(loops: Loops, plane: Plane, args: list[str]) -> None:
    done = await loops("checkpoints", *args)
    assert (done.code, done.out, plane.asked) == (2, "", [])
    assert "Usage: " in done.err


async def test_files_from_all_pages(loops: Loops, plane: Plane) -> None:
    done = await loops("checkpoints", "files", "id-step-1")
    assert done.table == [
        ["FILE", "SIZE", "MODIFIED"],
        ["a.json", "2 B", "2026-01-02 03:04"],
        ["sub/b.bin", "5.0 kB", "2026-01-02 03:04"],
        ["c", "0 B", "2026-01-02 03:04"],
    ]
    assert [request.query["page_token"] for request in plane.asked] == ["0", "2"]


async def test_files_of_an_address_as_json(loops: Loops, plane: Plane) -> None:
    done = await loops("checkpoints", "files", ADDRESS, "--json")
    assert [one["relative_file_name"] for one in done.json] == ["a.json", "sub/b.bin", "c"]
    assert done.json[0]["url"] == f"{plane.url}/store/a.json?sig=good"
    assert plane.asked[0].query == {"checkpoint_path": ADDRESS}


async def test_no_files(loops: Loops, plane: Plane) -> None:
    plane.files = {}
    assert (await loops("checkpoints", "files", "id-step-1")).out == "no files\n"
    assert (await loops("checkpoints", "files", "id-step-1", "--json")).out == "[]\n"


@pytest.mark.parametrize("command", ["files", "download"])
@pytest.mark.parametrize("checkpoint", ["id-step-9", "bt://loops:r1/weights/step-1"])
async def test_an_unknown_checkpoint_is_an_error_with_a_hint(
    loops: Loops, command: str, checkpoint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    done = await loops("checkpoints", command, checkpoint, *([str(folder)] if command == "download" else []), "--json")
    assert (done.code, done.out) == (1, "")
    assert "CHECKPOINT is the first column of `loops checkpoints list`" in done.err
    assert not folder.exists()


async def test_pages_without_end_are_refused(loops: Loops, plane: Plane) -> None:
    plane.answers("GET /v1/loops/checkpoints/id-step-1/files", 200, {"presigned_urls": [], "next_page_token": 0})
    done = await loops("checkpoints", "files", "id-step-1")
    assert (done.code, done.out) == (1, "")
    assert "names page 0 as the next" in done.err
    circle = {"presigned_urls": [plane._listed("c")], "next_page_token": 0, "total_count": 0}
    plane.answers("GET /v1/loops/checkpoints/id-step-1/files", 200, circle)
    plane.asked.clear()
    assert "names page 0 as the next" in (await loops("checkpoints", "files", "id-step-1")).err
    assert len(plane.asked) == 1
    plane.answers("GET /v1/loops/checkpoints/id-step-1/files", 200, {"presigned_urls": [], "total_count": 3})
    assert "counts 3 files; after 0 of them" in (await loops("checkpoints", "files", "id-step-1")).err
