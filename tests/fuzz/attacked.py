"""The three embedded servers over engines without torch, in an event loop of their own, and what lies on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import attrs
import double_engine
from aiohttp import web
from double_launcher import Launcher
from hostile_requests import KEY

from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.serving import Server
from loops_sdk.local.storage import RunRecord, SamplerRecord, Storage
from loops_sdk.local.trainer import Trainer

Name = Literal["trainer", "sampler", "control plane"]
NAMES: tuple[Name, ...] = ("trainer", "sampler", "control plane")
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
RUN = RunRecord("run7", "session", "a run", "double/model", _BEGAN, lora_rank=4)
SAMPLER = SamplerRecord("smp7", "session", "double/model", _BEGAN, run_id="run7")

_ID = "[a-z0-9]+"
_CHECKPOINT = "[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
#: Every file and folder that the servers may make below the data directory.
_OURS = re.compile(
    "|".join(
        [
            r"(sessions|runs|samplers|logs|cache|team\.json)",
            rf"sessions/{_ID}\.json",
            rf"samplers/{_ID}\.json",
            rf"runs/{_ID}(/(run\.json|live\.json|history\.jsonl|saves|weights|sampler_weights))?",
            rf"runs/{_ID}/(weights|sampler_weights)/{_CHECKPOINT}",
            rf"runs/{_ID}/progress(/(journal\.sqlite(-wal|-shm|-journal)?|states))?",
            rf"runs/{_ID}/progress/states/\.?{_ID}(/(state|adapter_config|adapter_model)\.json)?",
            rf"runs/{_ID}/saves/{_ID}(/(checkpoint|state|adapter_config|adapter_model)\.json)?",
        ]
    )
)


@attrs.frozen
class Reply:
    """An answer; `body` is what its JSON says, or the bytes where it is none."""

    status: int
    json: bool
    body: Any


class Attacked:
    """Up from construction to `close`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loop = asyncio.new_event_loop()
        self.apps: dict[Name, web.Application] = {}
        self._servers: dict[Name, Server] = {}
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        served, planned = self._storage("data"), self._storage("planned")
        trainer, sampler = Trainer(served, api_key=KEY, hold=15), Sampler(served, api_key=KEY, wait=0.01)
        # A folder of its own: it is asked to end the run, too, and cannot stop this trainer before it clears up.
        plane = ControlPlane(planned, Launcher(10**9), api_key=KEY)
        for name, app in zip(NAMES, (trainer.app, sampler.app, plane.app), strict=True):
            self.apps[name], self._servers[name] = app, Server(app)
            await self._servers[name].start()
        await trainer.open(RUN, double_engine.Trainer())
        await sampler.open(SAMPLER, double_engine.Generator())

    def _storage(self, folder: str) -> Storage:
        (self.root / folder).mkdir()
        storage = Storage.create(self.root / folder)
        storage.write_run(RUN)
        storage.write_sampler(SAMPLER)
        return storage

    def routes(self, name: Name) -> list[tuple[str, str]]:
        """Method and path of everything that a server answers."""
        return [(one.method, one.resource.canonical) for one in self.apps[name].router.routes() if one.resource]

    def ask(self, name: Name, raw: bytes, *, head: bool = False) -> Reply:
        """Send bytes and read the answer to its end; an operation that was accepted is over when this returns."""
        return self.loop.run_until_complete(asyncio.wait_for(self._ask(self._servers[name].port, raw, head), 20))

    async def _ask(self, port: int, raw: bytes, head: bool) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(raw)
            answer = await _all(reader)
        finally:
            writer.close()
        if not answer and len(raw) > 2**16:
            return Reply(
                413, False, b""
            )  # it hung up on a body that it did not want, and its answer was lost with that
        reply = _reply(answer, head)
        if reply.status == 202:
            asked = (
                f"GET /operations/{reply.body['operation_id']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            )
            finished = await self._ask(port, asked.encode() + b"Connection: close\r\n\r\n", head=False)
            assert finished.body["status"] in ("done", "error")
        return reply

    def strangers(self) -> list[str]:
        """What lies beside the data directories, and what lies in them under a name that is none of ours."""
        folders = [self.root / "data", self.root / "planned"]
        beside = [str(path) for path in self.root.iterdir() if path not in folders]
        inside = (str(path.relative_to(folder)) for folder in folders for path in folder.rglob("*"))
        return beside + [name for name in inside if not _OURS.fullmatch(name)]

    def close(self) -> None:
        async def close() -> None:
            for server in self._servers.values():
                await server.aclose()

        self.loop.run_until_complete(close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(2**16):
            answer += piece
    return answer


def _reply(answer: bytes, head: bool) -> Reply:
    first, _, body = answer.partition(b"\r\n\r\n")
    status = int(first.split(b" ", 2)[1])
    is_json = re.search(rb"(?im)^content-type: application/json", first) is not None
    return Reply(status, is_json, json.loads(body) if is_json and not head else body)
