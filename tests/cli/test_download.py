"""`loops checkpoints download`, and what may be in the folder it writes to."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from loops_sdk._clients import checkpoint_folder
from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.downloads import download_checkpoint
from loops_sdk._net.network import Network
from loops_sdk.errors import ClientClosedError, InvalidInputError, PermissionDeniedError

from .adapter_files import adapter_files
from .conftest import ADDRESS, Loops, Plane, Start, checkpoint_record

FILES = "GET /v1/loops/checkpoints/id-step-1/files"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some" / "where"


def content(folder: Path) -> dict[str, bytes]:
    """What a user sees in it; hidden files are ours."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def is_there(folder: Path) -> bool:
    return folder.exists()


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("checkpoint", ["id-step-1", ADDRESS])
async def test_all_files_of_all_pages(loops: Loops, plane: Plane, folder: Path, checkpoint: str) -> None:
    done = await loops("checkpoints", "download", checkpoint, str(folder))
    assert (done.code, done.out, done.err) == (0, f"3 files, 5.0 kB, in {folder}\n", "")
    assert content(folder) == plane.files
    asked = [line for line in plane.lines() if "checkpoint_path" not in line]
    assert asked[0] == "GET /v1/loops/checkpoints/id-step-1/source"
    stored = [request for request in plane.asked if request.path.startswith("/store/")]
    assert sorted(request.path for request in stored) == ["/store/a.json", "/store/sub/b.bin"]
    assert not any("Authorization" in request.headers for request in stored)


async def test_json_names_the_files(loops: Loops, folder: Path) -> None:
    done = await loops("checkpoints", "download", "id-step-1", str(folder), "--json")
    paths = [str(folder / name) for name in ("a.json", "sub/b.bin", "c")]
    assert done.json == {"checkpoint": "id-step-1", "folder": str(folder), "files": paths}


@pytest.mark.parametrize(("status", "fine"), [(404, True), (405, True), (501, True), (403, False)])
async def test_a_service_that_does_not_tell_the_source(
    loops: Loops, plane: Plane, folder: Path, status: int, fine: bool
) -> None:
    plane.answers("GET /v1/loops/checkpoints/id-step-1/source", status)
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert (done.code == 0) is fine
    assert is_there(folder) is fine


async def test_files_in_a_volume_are_unsupported(loops: Loops, plane: Plane, folder: Path) -> None:
    plane.source = {"kind": "volume", "volume_ref": "bdn:acme/runs:1", "path": "r1/step-1"}
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert done.code == 1
    assert done.err.startswith("UnsupportedError: the files of id-step-1 are in directory 'r1/step-1' of the volume")
    assert "mount or pull that volume instead" in done.err
    plane.source = {"kind": "tape"}
    assert "kept in a 'tape'" in (await loops("checkpoints", "download", "id-step-1", str(folder))).err
    assert not is_there(folder)


async def test_a_checkpoint_that_is_not_all_stored_yet(loops: Loops, plane: Plane, folder: Path) -> None:
    plane.checkpoints = [checkpoint_record(sync_status="SYNCING")]
    done = await loops("checkpoints", "download", ADDRESS, str(folder))
    assert (done.code, is_there(folder)) == (1, False)
    assert "still on their way to the store" in done.err


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "..\\x", "C:x", "a\nb", "a\x00"]
)
async def test_a_name_that_leads_out_is_refused_before_anything_is_written(
    loops: Loops, plane: Plane, folder: Path, name: str
) -> None:
    plane.files = {"fine": b"1", name: b"2"}
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert done.code == 1
    assert done.err.startswith(f"ProtocolError: the service named a file {name!r}, which is no path inside a folder")
    assert not is_there(folder)
    assert not any("/store/" in line for line in plane.lines())


@pytest.mark.parametrize("names", [["a", "a.part"], ["a", "a/b"], ["a/b/c", "a/b"], [".loops-checkpoint.json"]])
async def test_names_that_do_not_fit_beside_each_other(
    loops: Loops, plane: Plane, folder: Path, names: list[str]
) -> None:
    plane.files = dict.fromkeys(names, b"x")
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert (done.code, is_there(folder)) == (1, False)
    assert "ProtocolError: the service named " in done.err


async def test_one_name_twice(loops: Loops, plane: Plane, folder: Path) -> None:
    twice = [{**plane._listed("a.json"), "node_rank": rank} for rank in (0, 1)]
    plane.answers(FILES, 200, {"presigned_urls": twice, "total_count": 2})
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert (done.code, is_there(folder)) == (1, False)
    assert "both want to be called 'a.json'" in done.err


# ---------------------------------------------------------------- what is there already


async def test_a_second_download_keeps_what_is_whole(loops: Loops, plane: Plane, folder: Path) -> None:
    await loops("checkpoints", "download", "id-step-1", str(folder))
    (folder / "a.json").unlink()
    (folder / "sub" / "b.bin").write_bytes(b"cut")
    plane.asked.clear()
    assert (await loops("checkpoints", "download", "id-step-1", str(folder))).code == 0
    assert content(folder) == plane.files
    assert sum("/store/" in line for line in plane.lines()) == 2
    plane.asked.clear()
    assert (await loops("checkpoints", "download", ADDRESS, str(folder))).code == 0
    assert not any("/store/" in line for line in plane.lines())


async def test_a_partial_file_of_an_earlier_download_is_gone_on_with(loops: Loops, plane: Plane, folder: Path) -> None:
    await loops("checkpoints", "download", "id-step-1", str(folder))
    (folder / "sub" / "b.bin").rename(folder / "sub" / "b.bin.part")
    plane.asked.clear()
    assert (await loops("checkpoints", "download", "id-step-1", str(folder))).code == 0
    assert content(folder) == plane.files
    assert not any("/store/" in line for line in plane.lines())  # it was whole, but for its name


async def _refusal(loops: Loops, plane: Plane, folder: Path) -> str:
    before = content(folder)
    plane.asked.clear()
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert (done.code, done.out) == (1, "")
    assert content(folder) == before
    assert not any("/store/" in line for line in plane.lines())
    assert done.err.startswith(f"InvalidInputError: folder: {folder} ")
    return done.err


async def test_a_folder_with_anything_else_in_it_is_refused(loops: Loops, plane: Plane, folder: Path) -> None:
    (made(folder / "sub") / "b.bin").write_bytes(
        plane.files["sub/b.bin"]
    )  # whoever put it there: it was not this command
    assert "holds 'sub/b.bin', which no download of this checkpoint" in await _refusal(loops, plane, folder)


async def test_a_stranger_among_our_files_is_refused(loops: Loops, plane: Plane, folder: Path) -> None:
    await loops("checkpoints", "download", "id-step-1", str(folder))
    (folder / "sub" / "notes.txt").write_text("mine")
    assert "holds 'sub/notes.txt'" in await _refusal(loops, plane, folder)


async def test_another_checkpoint_of_the_same_names_and_sizes_is_refused(
    loops: Loops, plane: Plane, folder: Path
) -> None:
    await loops("checkpoints", "download", "id-step-1", str(folder))
    record = folder / ".loops-checkpoint.json"
    record.write_text(record.read_text().replace("id-step-1", "id-step-0"))
    assert "holds another checkpoint, id-step-0" in await _refusal(loops, plane, folder)


async def test_a_checkpoint_whose_files_have_changed_is_refused(loops: Loops, plane: Plane, folder: Path) -> None:
    await loops("checkpoints", "download", "id-step-1", str(folder))
    plane.files["a.json"] = b"[1]"
    assert "holds an earlier state of this checkpoint" in await _refusal(loops, plane, folder)


async def test_a_record_that_is_not_legible_is_refused(loops: Loops, plane: Plane, folder: Path) -> None:
    (made(folder) / ".loops-checkpoint.json").write_text("{")
    assert "not legible" in await _refusal(loops, plane, folder)


async def test_a_link_that_leads_elsewhere_is_refused(loops: Loops, plane: Plane, folder: Path, tmp_path: Path) -> None:
    (made(folder) / "sub").symlink_to(tmp_path)
    assert "holds 'sub', a link" in await _refusal(loops, plane, folder)
    assert not (tmp_path / "b.bin").exists()


async def test_a_file_where_a_folder_should_be(loops: Loops, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = await loops("checkpoints", "download", "id-step-1", str(tmp_path / "file" / "new"))
    assert done.code == 1
    assert "LoopsError: folder: " in done.err
    assert "Not a directory" in done.err


# ---------------------------------------------------------------- trouble on the way


async def test_expired_addresses_are_renewed_one_by_one(loops: Loops, plane: Plane, folder: Path) -> None:
    expired = [{**plane._listed(name), "url": f"{plane.url}/store/{name}?sig=old"} for name in plane.files]

    async def old_at_first(request: web.Request) -> web.Response:
        start, count = int(request.query["page_token"]), int(request.query["page_size"])
        if count == 1000:
            return web.json_response({"presigned_urls": expired, "total_count": 3})
        return web.json_response(plane._files(request) | {"total_count": 3, "next_page_token": start + 1})

    plane.on[FILES] = old_at_first
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert (done.code, content(folder)) == (0, plane.files)
    renewals = [line for line in plane.lines() if "page_size=1&" in line]
    assert sorted(line.rsplit("=", 1)[1] for line in renewals) == ["0", "1"]


async def test_an_address_that_stays_refused(loops: Loops, plane: Plane, folder: Path) -> None:
    plane.answers("GET /store/sub/b.bin", 403)
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert (done.code, done.out) == (1, "")
    assert "presigned address of sub/b.bin was refused: it has expired or was altered" in done.err
    assert "sig=" not in done.err
    assert not (folder / "sub" / "b.bin").exists()


async def test_files_that_change_on_the_way(loops: Loops, plane: Plane, folder: Path) -> None:
    async def changed(_request: web.Request) -> web.Response:
        plane.files["a.json"] = b"other"
        return web.Response(status=403)

    plane.on["GET /store/a.json"] = changed
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert done.code == 1
    assert "have changed while a.json was on its way" in done.err


async def test_a_file_that_is_not_what_it_is_called(loops: Loops, plane: Plane, folder: Path) -> None:
    """Of the announced size, and yet cut or something else: tensors say themselves where they are."""
    plane.files = adapter_files()
    whole = plane.files["adapter_model.safetensors"]
    for damaged in (whole[:-8], whole[:8] + b" " * (len(whole) - 8), b""):
        plane.files["adapter_model.safetensors"] = damaged
        shutil.rmtree(folder, ignore_errors=True)
        done = await loops("checkpoints", "download", "id-step-1", str(folder), "--parallel", "1")
        assert (done.code, list(content(folder))) == (1, ["adapter_config.json"])
        assert "adapter_model.safetensors has come as announced and is no whole safetensors file" in done.err
        assert "the checkpoint itself is damaged" in done.err
    plane.files["adapter_model.safetensors"] = whole
    shutil.rmtree(folder)
    assert (await loops("checkpoints", "download", "id-step-1", str(folder))).code == 0


async def test_no_room_on_the_disk(loops: Loops, plane: Plane, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await loops("checkpoints", "download", "id-step-1", str(folder))
    (folder / "sub" / "b.bin").rename(folder / "sub" / "b.bin.part")
    os.truncate(folder / "sub" / "b.bin.part", 4000)
    (folder / "a.json").unlink()
    plane.asked.clear()
    free = 1001
    monkeypatch.setattr(checkpoint_folder.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free))  # type: ignore[attr-defined]
    done = await loops("checkpoints", "download", "id-step-1", str(folder))
    assert done.code == 1
    assert f"folder: 1,002 bytes are still to come, 1,001 are free in {folder}" in done.err
    assert not any("/store/" in line for line in plane.lines())
    free = 1002  # what is there already is not wanted again
    assert (await loops("checkpoints", "download", "id-step-1", str(folder))).code == 0


async def test_what_has_come_is_told_with_the_command_that_goes_on(loops: Loops, plane: Plane, tmp_path: Path) -> None:
    folder = tmp_path / "to here"
    plane.answers("GET /store/sub/b.bin", 404)
    done = await loops("checkpoints", "download", ADDRESS, str(folder))
    assert done.code == 1
    told = done.err.splitlines()[0]
    assert told == f"2 B are in {folder}; to go on from there: loops checkpoints download {ADDRESS} '{folder}'"
    del plane.on["GET /store/sub/b.bin"]
    assert (await loops(*shlex.split(told.partition(": ")[2])[1:])).code == 0
    assert content(folder) == plane.files


async def test_nothing_is_told_where_nothing_has_come(loops: Loops, folder: Path) -> None:
    done = await loops("checkpoints", "download", "id-step-9", str(folder))
    assert (done.code, "to go on" in done.err) == (1, False)
    (made(folder) / "notes.txt").write_text("of somebody else")
    done = await loops("checkpoints", "download", "id-step-9", str(folder))
    assert (done.code, "to go on" in done.err) == (1, False)


async def test_ctrl_c_leaves_what_has_come_and_says_how_to_go_on(start: Start, plane: Plane, folder: Path) -> None:
    plane.files["sub/b.bin"] = bytes(500_000)

    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "500000"})
        await response.prepare(request)
        await response.write(bytes(250_000))
        await asyncio.Event().wait()
        return response

    plane.on["GET /store/sub/b.bin"] = stalls
    process = await start("checkpoints", "download", "id-step-1", str(folder))
    await asyncio.to_thread(wait_for_half, folder)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    command = f"loops checkpoints download id-step-1 {folder}"
    assert (process.returncode, out) == (130, b"")
    told = err.decode().splitlines()
    assert told[0].endswith(f"kB are in {folder}; to go on from there: {command}")
    assert told[-1] == "interrupted"
    del plane.on["GET /store/sub/b.bin"]
    plane.asked.clear()
    again = await start(*command.split()[1:])
    assert await again.wait() == 0
    assert content(folder) == plane.files
    (rest,) = [request.headers["Range"] for request in plane.asked if request.path == "/store/sub/b.bin"]
    assert 200_000 < int(rest.removeprefix("bytes=").removesuffix("-")) <= 250_000


def wait_for_half(folder: Path) -> None:
    """Until a good part of it is on the disk: another process writes it, and tells nobody."""
    path, end = folder / "sub" / "b.bin.part", time.monotonic() + 30
    while not (path.exists() and path.stat().st_size > 200_000):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
async def control(plane: Plane) -> AsyncIterator[ControlPlane]:
    network = Network()
    yield ControlPlane(plane.url, network)
    await network.aclose()


class Crowd:
    """Holds every file until it is let go, and counts how many are on their way."""

    def __init__(self, plane: Plane) -> None:
        self.now = self.most = 0
        self.reached = asyncio.Semaphore(0)
        self.go = asyncio.Event()
        for name in plane.files:
            plane.on[f"GET /store/{name}"] = self._hold

    async def _hold(self, request: web.Request) -> web.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        self.reached.release()
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return web.Response(body=request.path.encode())


@pytest.fixture
def crowd(plane: Plane) -> Crowd:
    plane.files = {f"f{index}": f"/store/f{index}".encode() for index in range(9)}
    return Crowd(plane)


async def test_so_many_at_the_same_time_and_no_more(
    control: ControlPlane, plane: Plane, crowd: Crowd, folder: Path
) -> None:
    told: list[tuple[int, int]] = []
    going = asyncio.create_task(
        download_checkpoint(control, "id-step-1", folder, parallel=3, on_progress=lambda *both: told.append(both))
    )
    for _ in range(3):
        await asyncio.wait_for(crowd.reached.acquire(), 10)
    crowd.go.set()
    paths = await going
    assert crowd.most == 3
    assert [path.read_bytes() for path in paths] == list(plane.files.values())
    assert (told[0], told[-1]) == ((0, 81), (81, 81))
    assert [there for there, _ in told] == sorted(there for there, _ in told)


async def test_as_many_as_the_command_is_told(loops: Loops, crowd: Crowd, folder: Path) -> None:
    going = asyncio.create_task(loops("checkpoints", "download", "id-step-1", str(folder), "--parallel", "7"))
    for _ in range(7):
        await asyncio.wait_for(crowd.reached.acquire(), 10)
    crowd.go.set()
    assert ((await going).code, crowd.most) == (0, 7)


@pytest.mark.parametrize("parallel", ["0", "33", "many"])
async def test_too_few_and_too_many_at_the_same_time(loops: Loops, plane: Plane, folder: Path, parallel: str) -> None:
    done = await loops("checkpoints", "download", "id-step-1", str(folder), "--parallel", parallel)
    assert (done.code, plane.asked) == (2, [])


async def test_only_what_is_wanted_now(control: ControlPlane, plane: Plane, folder: Path) -> None:
    """The rest may come later, into the same folder."""
    paths = await download_checkpoint(control, "id-step-1", folder, only=["c", "sub/b.bin", "none"])
    assert [path.name for path in paths] == ["b.bin", "c"]
    assert list(content(folder)) == ["c", "sub/b.bin"]
    await download_checkpoint(control, "id-step-1", folder)
    assert content(folder) == plane.files


async def test_one_failure_ends_the_others(
    control: ControlPlane, plane: Plane, crowd: Crowd, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()

    async def refuse(_request: web.Request) -> web.Response:
        await refused.wait()
        return web.Response(status=403)

    plane.on["GET /store/f2"] = refuse
    going = asyncio.create_task(download_checkpoint(control, "id-step-1", folder))
    for _ in range(3):
        await asyncio.wait_for(crowd.reached.acquire(), 10)
    refused.set()
    with pytest.raises(PermissionDeniedError):
        await going
    assert content(folder) == {}


async def test_cancelling_ends_all_of_it(control: ControlPlane, crowd: Crowd, folder: Path) -> None:
    going = asyncio.create_task(download_checkpoint(control, "id-step-1", folder))
    for _ in range(4):
        await asyncio.wait_for(crowd.reached.acquire(), 10)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert content(folder) == {}


async def test_closing_the_client_ends_all_of_it(control: ControlPlane, crowd: Crowd, folder: Path) -> None:
    going = asyncio.create_task(download_checkpoint(control, "id-step-1", folder))
    await asyncio.wait_for(crowd.reached.acquire(), 10)
    await control._network.aclose()
    with pytest.raises(ClientClosedError):
        await going


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"parallel": 0}, "parallel"),
        ({"checkpoint": ""}, "checkpoint_id"),
        ({"checkpoint": 7}, "checkpoint_id"),
        ({"checkpoint": "bt://loops:r1/step-1"}, "checkpoint_id"),
        ({"folder": ""}, "folder"),
        ({"folder": 7}, "folder"),
    ],
)
async def test_a_wrong_argument_is_named_before_anything_is_asked(
    control: ControlPlane, plane: Plane, folder: Path, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{named}: "):
        await download_checkpoint(control, **{"checkpoint": "id-step-1", "folder": folder, **arguments})
    assert plane.asked == []


async def test_a_bar_where_there_is_a_terminal(start: Start, plane: Plane, folder: Path) -> None:
    shown = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await shown.wait()
        return await plane._file(request)

    plane.on = {f"GET /store/{name}": slow for name in plane.files}
    ours, theirs = os.openpty()
    env = {"CI": "", "LOOPS_PROGRESS": "", "TERM": "xterm"}
    try:
        process = await start("checkpoints", "download", "id-step-1", str(folder), "--json", env=env, stderr=theirs)
        said = b""
        while b"of 5.0 kB" not in said:
            said += await asyncio.wait_for(asyncio.to_thread(os.read, ours, 65536), 30.0)
        shown.set()
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert out.startswith(b"{\n")
    finally:
        os.close(ours)
        os.close(theirs)
