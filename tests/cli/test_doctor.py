"""Each check of `loops doctor` in a condition that makes it fail, on loopback; and what is printed of it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from loops_sdk.cli.checkup import Finding, found
from loops_sdk.cli.checkup.machine import ours

from .conftest import KEY, Done, Loops, Plane, Start, run_record, sampler_record

MACHINE = importlib.import_module("loops_sdk.cli.checkup.machine")


def of(done: Done, name: str) -> dict[str, str]:
    assert KEY not in done.out + done.err
    return next(one for one in done.json["findings"] if one["name"] == name)


@pytest.fixture(autouse=True)
def surely(monkeypatch: pytest.MonkeyPatch, plane: Plane) -> None:
    """No torch, which takes seconds to import; no proxy, and no run."""
    plane.runs = []

    async def gpu() -> AsyncIterator[Finding]:
        yield Finding("GPU", "fine", "none")

    monkeypatch.setattr(MACHINE, "_gpu", gpu)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_all_is_well(loops: Loops, plane: Plane) -> None:
    plane.runs = [run_record("r1", base_url=plane.url, sampler=sampler_record(base_url=plane.url))]
    done = await loops("doctor", "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    assert {one["state"] for one in done.json["findings"]} <= {"fine", "remark"}
    assert of(done, "key")["told"] == f"BASETEN_API_KEY is set, {len(KEY)} characters"
    assert "accepts the key" in of(done, "control plane")["told"]
    assert of(done, "clock")["told"] == "as the server's"
    assert of(done, "run r1")["told"] == "trainer and sampler can be reached"
    asked = [request for request in plane.asked if request.path == "/health"]
    assert asked
    assert all("Authorization" not in request.headers for request in asked)  # any answer will do


async def test_a_table_for_people(loops: Loops) -> None:
    done = await loops("doctor")
    assert done.code == 0
    assert "✓ control plane" in done.out
    assert done.out.endswith("\nnothing to mend\n")
    assert KEY not in done.out + done.err


async def test_a_terminal_without_the_signs(start: Start) -> None:
    process = await start("doctor", "--local", env={"PYTHONIOENCODING": "ascii"})
    out, _ = await process.communicate()
    assert out.isascii()
    assert b"\n+ port" in out


async def test_a_wrong_key(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASETEN_API_KEY", "another-key-than-that")
    done = await loops("doctor", "--json")
    assert done.code == 1
    assert "does not know the key" in of(done, "control plane")["told"]
    assert "another-key" not in done.out + done.err


async def test_a_key_that_cannot_be_one(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASETEN_API_KEY", f"{KEY}\n")
    done = await loops("doctor", "--json")
    assert done.code == 1
    assert of(done, "key")["state"] == "broken"
    assert "printable ASCII" in of(done, "key")["told"]


async def test_no_key_for_a_server(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASETEN_API_KEY")
    done = await loops("doctor", "--json")
    assert done.code == 1
    assert "is not set" in of(done, "key")["told"]
    assert "wants a key" in of(done, "control plane")["told"]


async def test_nobody_is_asked_without_key_and_address(
    loops: Loops, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BASETEN_API_KEY")
    monkeypatch.delenv("LOOPS_BASE_URL")
    done = await loops("doctor", "--json")
    assert done.code == 0
    assert of(done, "key")["state"] == "remark"
    assert "control plane" not in {one["name"] for one in done.json["findings"]}
    monkeypatch.setenv("LOOPS_BASE_URL", plane.url)
    assert (await loops("doctor", "--local", "--json")).code == 0
    assert plane.asked == []


async def test_nobody_listens(loops: Loops) -> None:
    done = await loops("doctor", "--json", "--base-url", "http://127.0.0.1:9")
    assert done.code == 1
    assert of(done, "control plane")["told"].startswith("no server answers at http://127.0.0.1:9: ")
    assert "loops doctor" not in done.out
    assert "`loops serve`" in of(done, "control plane")["advice"]


async def test_a_name_that_does_not_resolve(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_arguments: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    done = await loops("doctor", "--json", "--base-url", "https://api.example.invalid")
    assert done.code == 1
    assert "api.example.invalid does not resolve" in of(done, "name")["told"]
    assert "HTTPS_PROXY" in of(done, "name")["advice"]


@pytest.mark.parametrize(
    ("late", "state", "told"), [(100, "remark", "ahead of"), (-100, "remark", "behind"), (4000, "broken", "ahead of")]
)
async def test_the_clock(loops: Loops, plane: Plane, late: int, state: str, told: str) -> None:
    async def said(_request: web.Request) -> web.Response:
        date = format_datetime(datetime.now(UTC) - timedelta(seconds=late), usegmt=True)
        return web.json_response({"supported_models": []}, headers={"Date": date})

    plane.on["GET /v1/loops/capabilities"] = said
    done = await loops("doctor", "--json")
    assert of(done, "clock")["state"] == state
    assert told in of(done, "clock")["told"]
    assert done.code == (1 if state == "broken" else 0)


@pytest.mark.parametrize(
    ("status", "told"), [(404, "not as a control plane"), (503, "answers 503"), (403, "may not do this")]
)
async def test_other_answers(loops: Loops, plane: Plane, status: int, told: str) -> None:
    plane.answers("GET /v1/loops/capabilities", status)
    done = await loops("doctor", "--json")
    assert done.code == 1
    assert told in of(done, "control plane")["told"]


async def test_a_trainer_that_is_not_there(loops: Loops, plane: Plane) -> None:
    plane.runs = [run_record("r1"), run_record("over", "INACTIVE")]
    done = await loops("doctor", "--json")
    assert done.code == 1
    assert of(done, "run r1")["told"] == "no answer from its trainer"
    assert "run over" not in done.out


async def test_the_proxy(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:a-password@127.0.0.1:9")
    done = await loops("doctor", "--json", "--base-url", "https://api.example.invalid")
    assert done.code == 1
    assert of(done, "proxy")["told"].startswith("127.0.0.1:9 does not answer")
    assert "NO_PROXY" in of(done, "proxy")["advice"]
    assert "a-password" not in done.out
    names = {one["name"] for one in done.json["findings"]}
    assert not names & {"name", "certificate"}  # that is the proxy's business
    done = await loops("doctor", "--json")
    assert of(done, "proxy")["told"] == "none; HTTPS_PROXY play no part for this address"


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A server with a certificate that nobody has signed, and that certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    pem = tmp_path / "own.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=own -addext"
    names = ["subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key.pem"), "-out", str(pem)]
    await asyncio.to_thread(subprocess.run, [*make.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, tmp_path / "key.pem")

    async def capabilities(_request: web.Request) -> web.Response:
        return web.json_response({"supported_models": [], "runs": []})

    app = web.Application()
    app.router.add_get("/{path:.*}", capabilities)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", pem
    await runner.cleanup()


async def test_a_certificate_that_nobody_has_signed(loops: Loops, tls: tuple[str, Path]) -> None:
    done = await loops("doctor", "--json", "--base-url", tls[0])
    assert done.code == 1
    assert of(done, "certificate")["told"].startswith("not trusted: self")
    assert "SSL_CERT_FILE" in of(done, "certificate")["advice"]


async def test_an_authority_of_ones_own(start: Start, tls: tuple[str, Path]) -> None:
    url, pem = tls
    process = await start("doctor", "--json", "--base-url", url, env={"SSL_CERT_FILE": str(pem)})
    done = Done(0, (await process.communicate())[0].decode(), "")
    assert of(done, "certificate") == {
        "name": "certificate",
        "state": "remark",
        "told": "good for 2 days only",
        "advice": "tell those who run the server",
    }
    assert "accepts the key" in of(done, "control plane")["told"]


async def test_http_taken_for_https(loops: Loops, plane: Plane) -> None:
    done = await loops("doctor", "--json", "--base-url", plane.url.replace("http", "https"))
    assert done.code == 1
    assert of(done, "certificate")["advice"] == "is it an http:// address?"


async def test_packages_that_are_missing_or_old(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["attrs>=24.2", "click>=99", "nowhere-to-be-had>=1", "peft>=99; extra == 'local'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: needs)
    done = await loops("doctor", "--local", "--json")
    assert done.code == 1
    told = of(done, "packages")["told"]
    assert ">=99 is needed" in told
    assert "nowhere-to-be-had is missing" in told
    assert "attrs" not in told
    assert of(done, "extra local")["state"] == "broken"


async def test_no_torch(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    monkeypatch.setattr(MACHINE, "_requirements", lambda: ([], []))
    done = await loops("doctor", "--json")
    assert (done.code, of(done, "extra local")["state"]) == (0, "remark")
    assert of(done, "extra local")["advice"] == "pip install 'loops-sdk[local]'"
    assert (await loops("doctor", "--json", "--local")).code == 1


async def test_folders(loops: Loops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    done = await loops("doctor", "--local", "--json", "--data-dir", str(tmp_path / "file" / "below"))
    assert done.code == 1
    assert "cannot be written to" in of(done, "data directory")["told"]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=5 * 10**8))
    done = await loops("doctor", "--local", "--json", "--data-dir", str(tmp_path / "new"))
    assert of(done, "data directory")["told"].endswith("0.5 GB free")
    assert done.code == 1
    assert not (tmp_path / "new").exists()


async def test_few_open_files(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MACHINE, "most_connections", lambda: 128)
    done = await loops("doctor", "--local", "--json")
    assert of(done, "open files")["state"] == "remark"
    assert "ulimit -n" in of(done, "open files")["advice"]


async def test_no_port(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any, **_options: Any) -> Any:
        raise PermissionError("no")

    monkeypatch.setattr(socket, "create_server", refused)
    done = await loops("doctor", "--local", "--json")
    assert (done.code, of(done, "port")["state"]) == (1, "broken")


async def test_a_check_that_does_not_end_or_fails_spoils_no_other() -> None:
    async def endless() -> AsyncIterator[Finding]:
        yield Finding("first", "fine", "seen")
        await asyncio.Event().wait()

    async def failing() -> AsyncIterator[Finding]:
        raise ZeroDivisionError(KEY)
        yield

    findings = await found([("a", endless), ("b", failing), ("c", MACHINE._port)], bound=0.05)
    assert [(one.name, one.state) for one in findings] == [
        ("first", "fine"),
        ("a", "broken"),
        ("b", "remark"),
        ("port", "fine"),
    ]
    assert KEY not in str(findings)


def test_the_version_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_name: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    assert ours()
    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert ours().startswith("not installed, from ")


async def test_a_shell_completes(loops: Loops, start: Start, plane: Plane) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = await loops("completion", shell)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("# To have it in every shell:")
        assert "_LOOPS_COMPLETE" in done.out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("loops doc", {"doctor"}),
        ("loops serve --base-m", {"--base-model"}),
        ("loops serve --base-model loops/t", {"loops/tiny"}),
        ("loops examples show quick", {"quickstart"}),
        ("loops runs show r", {"r1"}),
        ("loops checkpoints list --run-id r", {"r1"}),
        ("loops checkpoints merge adap", {"adap"}),  # a folder, whose names the shell knows
        ("loops checkpoints merge adapter out --base-model loops/t", {"loops/tiny"}),
        ("loops checkpoints merge --dtype b", {"bfloat16"}),
        ("loops checkpoints p", {"push-hf"}),
    ],
)
async def test_what_is_completed(start: Start, plane: Plane, words: str, completed: set[str]) -> None:
    plane.runs = [run_record("r1")]
    env = {"_LOOPS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    process = await start(env=env, program="from loops_sdk.cli import main; import sys; sys.argv[0] = 'loops'; main()")
    out, err = await process.communicate()
    assert {line.partition(",")[2] for line in out.decode().splitlines()} >= completed
    assert err == b""


async def test_run_ids_are_not_waited_for(start: Start, plane: Plane) -> None:
    plane.answers("GET /v1/loops/runs", 503)
    env = {"_LOOPS_COMPLETE": "bash_complete", "COMP_WORDS": "loops runs show r", "COMP_CWORD": "3"}
    process = await start(env=env, program="from loops_sdk.cli import main; import sys; sys.argv[0] = 'loops'; main()")
    out, err = await process.communicate()
    assert (out.strip(), err) == (b"", b"")
