"""Which server the commands ask, with which key, and what they say when it does not work. And what they print with."""

from __future__ import annotations

import logging
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from loops_sdk.cli.output import moment_of_text, plain, size

from .conftest import KEY, Loops, Plane, Start

READS = [
    ["runs", "list"],
    ["runs", "show", "r1"],
    ["checkpoints", "list", "--run-id", "r1"],
    ["checkpoints", "files", "id-step-1"],
    ["models"],
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_option_comes_before_the_environment(
    loops: Loops, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_BASE_URL", f"http://127.0.0.1:{free_port()}")
    assert (await loops("runs", "list", "--base-url", plane.url)).code == 0
    assert len(plane.asked) == 1


@pytest.mark.parametrize("args", READS, ids=" ".join)
async def test_a_wrong_key(loops: Loops, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASETEN_API_KEY", "not-that-one")
    done = await loops(*args, "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("AuthenticationError: this key is unknown (check the API key: set BASETEN_API_KEY")
    assert done.err.count("\n") == 1
    assert "not-that-one" not in done.err


@pytest.mark.parametrize("args", READS, ids=" ".join)
async def test_no_server(loops: Loops, args: list[str], caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = await loops(*args, "--json", "--base-url", url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"ConnectionFailedError: no server answers at {url}: ")
    assert "is the server up, and are LOOPS_BASE_URL or --base-url right?" in done.err
    assert done.err.count("\n") == 1
    assert caplog.records == []  # in a process of its own they would stand on standard error too
    assert logging.getLogger("loops_sdk").level == logging.NOTSET


async def test_a_server_that_is_no_control_plane(loops: Loops, plane: Plane) -> None:
    plane.answers("GET /v1/loops/runs", 200, {"objects": []})
    done = await loops("runs", "list", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("ProtocolError: unexpected reply")


@pytest.mark.parametrize("key", ["", " padded"])
async def test_no_key_that_could_be_sent(loops: Loops, plane: Plane, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASETEN_API_KEY", key)
    done = await loops("runs", "list")
    assert (done.code, done.out, plane.asked) == (2, "", [])
    assert ("printable ASCII without spaces around" if key else "BASETEN_API_KEY is not set") in done.err
    assert "padded" not in done.err


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://me:you@x.co"])
async def test_what_is_no_address(loops: Loops, url: str) -> None:
    done = await loops("runs", "list", "--base-url", url)
    assert (done.code, done.out) == (2, "")
    assert "base_url: expected an" in done.err


async def test_there_is_no_option_for_the_key(loops: Loops, plane: Plane) -> None:
    assert (await loops("runs", "list", "--api-key", KEY)).code == 2
    assert plane.asked == []


async def test_a_process_of_its_own_prints_json_alone(start: Start, plane: Plane) -> None:
    failures = iter([503, 503])

    async def busy_at_first(_request: web.Request) -> web.Response:
        status = next(failures, 200)
        return web.json_response({"runs": []} if status == 200 else {"message": "busy"}, status=status)

    plane.on["GET /v1/loops/runs"] = busy_at_first
    process = await start("runs", "list", "--json")
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"[]\n", b"")
    assert len(plane.asked) == 3


async def test_retries_of_a_download_are_told(start: Start, plane: Plane, tmp_path: Path) -> None:
    failures = iter([503])

    async def busy_at_first(_request: web.Request) -> web.Response:
        return web.Response(status=next(failures, 200), body=plane.files["a.json"])

    plane.on["GET /store/a.json"] = busy_at_first
    process = await start("checkpoints", "download", "id-step-1", str(tmp_path / "new"), "--json")
    out, err = await process.communicate()
    assert process.returncode == 0
    assert out.startswith(b"{\n")
    assert err.startswith(b"download: attempt 1 failed, the next follows in")
    assert err.count(b"\n") == 1


@pytest.mark.parametrize("args", [[], ["runs"], ["checkpoints"], ["frobnicate"], ["runs", "list", "--frobnicate"]])
async def test_a_wrong_call(loops: Loops, args: list[str]) -> None:
    done = await loops(*args)
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    "args",
    [
        ["runs", "list"],
        ["runs", "show"],
        ["runs", "deactivate"],
        ["checkpoints", "list"],
        ["checkpoints", "files"],
        ["checkpoints", "download"],
        ["models"],
    ],
    ids=" ".join,
)
async def test_every_command_has_an_example_that_parses(loops: Loops, args: list[str]) -> None:
    done = await loops(*args, "--help")
    assert done.code == 0
    assert done.err == ""
    (example,) = (line for line in done.out.splitlines() if "Example:" in line)
    program, *words = example.split("Example:")[1].split()
    assert (program, words[: len(args)]) == ("loops", args)
    assert (await loops(*words, "--help")).code == 0
    assert "--base-url" in done.out


async def test_the_top_names_every_command(loops: Loops) -> None:
    done = await loops("--help")
    for name in ("quickstart", "run", "serve", "runs", "checkpoints", "models"):
        assert f"\n  {name} " in done.out


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (7 * 10**9, "7.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_cells() -> None:
    assert [plain(None), plain(""), plain(0), plain("a\tb"), plain("a\x07b")] == ["-", "-", "0", "a b", "a\ufffdb"]
    assert moment_of_text("yesterday") == "yesterday"
    local = datetime(2026, 1, 2, 3, 4, tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    assert moment_of_text("2026-01-02T03:04:05Z") == local
