"""Servers in this process, on loopback, over engines without torch; and a bare HTTP peer to talk to them."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings

# Hypothesis' two clocks are off: on a busy machine they measure the neighbours.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

DOUBLES = Path(__file__).parent / "doubles"
sys.path.insert(0, str(DOUBLES))

import double_engine  # noqa: E402  # found by the line above

from loops_sdk.local.sampler import Sampler  # noqa: E402
from loops_sdk.local.serving import Server  # noqa: E402
from loops_sdk.local.storage import RunRecord, SamplerRecord, Storage  # noqa: E402
from loops_sdk.local.trainer import Trainer  # noqa: E402

KEY = "the-key"
RUN = RunRecord("run7", "session", "a run", "double/model", datetime(2026, 1, 1, tzinfo=UTC), lora_rank=4)
SAMPLER = SamplerRecord("smp7", "session", "double/model", datetime(2026, 1, 1, tzinfo=UTC), run_id="run7")


@attrs.frozen
class Answer:
    status: int
    headers: Any
    json: Any


class Peer:
    """Speaks to one server, with the right key unless told otherwise."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.json())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.send("GET", path, **options)

    async def post(self, path: str, body: Any = None, *, key: str | None = None, **options: Any) -> Answer:
        headers = {**options.pop("headers", {}), **({"Idempotency-Key": key} if key else {})}
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        return await self.send("POST", path, headers=headers, data=data, **options)

    async def submit(self, path: str, body: Any, *, key: str | None = None) -> str:
        answer = await self.post(path, body, key=key)
        assert answer.status == 202, answer
        return str(answer.json["operation_id"])

    async def result(self, operation_id: str) -> Any:
        answer = await self.get(f"/operations/{operation_id}")
        assert answer.json["status"] == "done", answer
        return answer.json["result"]

    async def do(self, path: str, body: Any) -> Any:
        return await self.result(await self.submit(path, body))


def batch(*tokens: int) -> dict[str, Any]:
    """A body of `forward_backward` with one datum that predicts each next token."""
    chunk = {"type": "encoded_text", "tokens": list(tokens)}
    return {"data": [{"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {}}], "loss_fn": "cross_entropy"}


Serve = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Put an application on a port for the length of the test."""
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(aiohttp.ClientSession())

        async def one(app: web.Application, **options: Any) -> Peer:
            server = Server(app, **options)
            await server.start()
            opened.push_async_callback(server.aclose)
            return Peer(session, f"http://127.0.0.1:{server.port}")

        yield one


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage.create(tmp_path)
    storage.write_run(RUN)
    storage.write_sampler(SAMPLER)
    return storage


@pytest.fixture
def engine() -> double_engine.Trainer:
    return double_engine.Trainer()


@pytest.fixture
async def trainer(storage: Storage, engine: double_engine.Trainer, serve: Serve) -> Callable[..., Awaitable[Peer]]:
    async def make(run: RunRecord = RUN, **options: Any) -> Peer:
        server = Trainer(storage, api_key=KEY, **options)
        peer = await serve(server.app)
        await server.open(run, engine)
        return peer

    return make


@pytest.fixture
def generator() -> double_engine.Generator:
    return double_engine.Generator()


@pytest.fixture
async def sampler(storage: Storage, generator: double_engine.Generator, serve: Serve) -> Callable[..., Awaitable[Peer]]:
    async def make(record: SamplerRecord = SAMPLER, **options: Any) -> Peer:
        server = Sampler(storage, api_key=KEY, **{"interval": 0.005, **options})
        peer = await serve(server.app, cancel_on_disconnect=True)
        await server.open(record, generator)
        return peer

    return make


async def until(reached: Callable[[], Any], seconds: float = 20) -> None:
    """Look again and again until something has come about that tells nobody; the look may be a coroutine."""
    async with asyncio.timeout(seconds):
        while True:
            result = reached()
            if await result if inspect.isawaitable(result) else result:
                return
            await asyncio.sleep(0.005)


async def acquired(semaphore: Any) -> None:
    """Wait until another thread has released a semaphore."""
    assert await asyncio.to_thread(semaphore.acquire, True, 10)
