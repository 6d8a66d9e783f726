"""A scripted control plane with a file store, and the command `loops` run against it in this process or in one of its
own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web

import loops_sdk
from loops_sdk._net import caller, download
from loops_sdk._wire.retrying import Backoff
from loops_sdk.cli import main

KEY = "secret-key-of-the-tests"
ADDRESS = "bt://loops:r1/sampler_weights/step-1"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run_record(run_id: str, status: str = "ACTIVE", **fields: Any) -> dict[str, Any]:
    return {
        "id": run_id,
        "session_id": "s1",
        "name": f"run {run_id}",
        "base_model": "acme/model",
        "base_url": "http://127.0.0.1:9/trainer",
        "created_at": "2026-01-02T03:04:05Z",
        "status": {"name": status},
        "user": {"email": "ann@acme.co"},
        "sampler": None,
        **fields,
    }


def sampler_record(**fields: Any) -> dict[str, Any]:
    kept = ("base_url", "base_model", "created_at", "status", "user")
    return {"id": "sam1", **{name: run_record("")[name] for name in kept}, **fields}


def checkpoint_record(name: str = "step-1", **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-{name}",
        "checkpoint_id": name,
        "run_id": "r1",
        "target": "sampler",
        "checkpoint_type": "lora",
        "base_model": "acme/model",
        "lora_adapter_config": {"r": 8},
        "lora_config": None,
        "size_bytes": 1_234_567,
        "created_at": "2026-01-02T03:04:05Z",
        **fields,
    }


@attrs.define(eq=False)
class Plane:
    """What it holds can be changed; `on` has answers by request line that come before the usual ones."""

    url: str = ""
    page: int = 2
    asked: list[web.Request] = attrs.field(factory=list)
    on: dict[str, Answer] = attrs.field(factory=dict)
    runs: list[dict[str, Any]] = attrs.field(factory=lambda: [run_record("r1")])
    checkpoints: list[dict[str, Any]] = attrs.field(factory=lambda: [checkpoint_record()])
    models: list[dict[str, Any]] = attrs.field(factory=list)
    files: dict[str, bytes] = attrs.field(factory=lambda: {"a.json": b"{}", "sub/b.bin": bytes(5000), "c": b""})
    source: dict[str, Any] | None = attrs.field(factory=lambda: {"kind": "s3"})

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._book])
        router = app.router
        router.add_get("/v1/loops/runs", self._json(lambda _: {"runs": self.runs}))
        router.add_get("/v1/teams", self._json(lambda _: {"teams": [{"id": "t1", "name": "research"}]}))
        router.add_get("/v1/teams/t1/loops/runs", self._json(lambda _: {"runs": [run_record("of-the-team")]}))
        router.add_get("/v1/loops/runs/{id}", self._json(lambda request: {"run": self._run(request)}))
        router.add_post("/v1/loops/runs/{id}/deactivate", self._json(self._deactivate))
        router.add_get("/v1/loops/checkpoints", self._json(lambda _: {"checkpoints": self.checkpoints}))
        router.add_get("/v1/loops/checkpoints/{id}/files", self._json(self._files))
        router.add_get("/v1/loops/checkpoints/{id}/source", self._json(self._source))
        router.add_get("/v1/loops/capabilities", self._json(lambda _: {"supported_models": self.models}))
        router.add_get("/store/{name:.*}", self._file)
        return app

    def lines(self) -> list[str]:
        return [f"{request.method} {request.path_qs}" for request in self.asked]

    def answers(self, line: str, status: int, body: Any = None) -> None:
        async def said(_request: web.Request) -> web.Response:
            return web.json_response(body or {"message": f"status {status}"}, status=status)

        self.on[line] = said

    @web.middleware
    async def _book(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request)
        signed = request.path.startswith("/store/")
        if signed == ("Authorization" in request.headers):
            return web.json_response({"message": "a key is wanted, except for files"}, status=401)
        if not signed and request.headers["Authorization"] != f"Bearer {KEY}":
            return web.json_response({"message": "this key\nis unknown"}, status=401)
        line = f"{request.method} {request.path}"
        answer = self.on.get(line)
        response: web.StreamResponse = await (answer(request) if answer else handler(request))
        return response

    def _json(self, handler: Callable[[web.Request], Any]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            return web.json_response(handler(request))

        return handle

    def _run(self, request: web.Request) -> dict[str, Any]:
        wanted = request.match_info["id"]
        for run in self.runs:
            if run["id"] == wanted:
                return run
        raise _missing(f"there is no run {wanted!r}")

    def _deactivate(self, request: web.Request) -> dict[str, Any]:
        run = self._run(request)
        run["status"] = {"name": "INACTIVE"}
        return {"id": run["id"], "base_model": run["base_model"], "user": run["user"]}

    def _files(self, request: web.Request) -> dict[str, Any]:
        if request.match_info["id"] != "id-step-1":
            raise _missing("there is no such checkpoint")
        start = int(request.query["page_token"])
        stop = min(start + min(self.page, int(request.query["page_size"])), len(self.files))
        listed = [self._listed(name) for name in list(self.files)[start:stop]]
        following = stop if stop < len(self.files) else None
        return {"presigned_urls": listed, "next_page_token": following, "total_count": len(self.files)}

    def _listed(self, name: str) -> dict[str, Any]:
        return {
            "url": f"{self.url}/store/{name}?sig=good",
            "relative_file_name": name,
            "node_rank": 0,
            "size_bytes": len(self.files[name]),
            "last_modified": "2026-01-02T03:04:05+00:00",
        }

    def _source(self, _request: web.Request) -> dict[str, Any]:
        if self.source is None:
            raise _missing("no such route")
        return {"source": self.source}

    async def _file(self, request: web.Request) -> web.Response:
        if request.query.get("sig") != "good":
            raise web.HTTPForbidden
        return web.Response(body=self.files[request.match_info["name"]])


def _missing(message: str) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=json.dumps({"message": message}), content_type="application/json")


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    made = Plane()
    runner = web.AppRunner(made.application(), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key in the environment and nothing else of ours; a clock of a known zone; pauses that suit a test."""
    for name in ("LOOPS_BASE_URL", "LOOPS_TEAM", "S3_REGION", "BT_LOOPS_MAX_CONNECTIONS", "LOOPS_METRICS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BASETEN_API_KEY", KEY)
    monkeypatch.setattr(caller, "Backoff", lambda: Backoff(first=0.01, cap=0.02))
    monkeypatch.setattr(download, "_BACKOFF", Backoff(first=0.01, cap=0.02))
    with monkeypatch.context() as here:
        here.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@attrs.frozen
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def table(self) -> list[list[str]]:
        """Cells are two spaces apart or more."""
        return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in self.out.splitlines()]


Loops = Callable[..., Awaitable[Done]]


@pytest.fixture
def loops(plane: Plane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Loops:
    """Run the command in a thread of this process, against the scripted control plane."""
    monkeypatch.setenv("LOOPS_BASE_URL", plane.url)

    async def run(*args: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, args)
        said = capsys.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Done(code, said.out, said.err)

    return run


Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(plane: Plane) -> AsyncIterator[Start]:
    """Run the command in a process of its own."""
    started: list[asyncio.subprocess.Process] = []
    source = str(Path(loops_sdk.__file__).parents[1])

    async def run(
        *args: str, env: dict[str, str] | None = None, program: str | None = None, **streams: int
    ) -> asyncio.subprocess.Process:
        around = {**os.environ, "LOOPS_BASE_URL": plane.url, "PYTHONPATH": source, **(env or {})}
        usual = {
            "stdin": asyncio.subprocess.DEVNULL,
            "stdout": asyncio.subprocess.PIPE,
            "stderr": asyncio.subprocess.PIPE,
        }
        what = ("-m", "loops_sdk") if program is None else ("-c", program)
        command = (sys.executable, *what, *args)
        started.append(await asyncio.create_subprocess_exec(*command, env=around, **{**usual, **streams}))
        return started[-1]

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()
