"""A scripted trainer on loopback, and networks that must leave nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from loops_sdk._net.channel import Channel
from loops_sdk._net.network import Network
from loops_sdk._wire.retrying import Backoff
from loops_sdk.instrumentation import Event

KEY = "secret-key-of-the-tests"
QUICK = Backoff(first=0.01, cap=0.05)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@attrs.define
class Submit:
    path: str
    key: str
    body: Any


@attrs.define(eq=False)
class Trainer:
    """Accepts operations, finishes them in order while its gate is open, and keeps books of what it saw.

    `on_submit` and `on_poll` may answer instead; `None` from them means: as usual.
    """

    url: str = ""
    submits: list[Submit] = attrs.field(factory=list)
    polls: list[str] = attrs.field(factory=list)
    gate: asyncio.Event = attrs.field(factory=asyncio.Event)
    polled: asyncio.Event = attrs.field(factory=asyncio.Event)
    submitted: asyncio.Event = attrs.field(factory=asyncio.Event)
    reads: list[str] = attrs.field(factory=list)
    read: asyncio.Event = attrs.field(factory=asyncio.Event)
    on_submit: Answer | None = None
    on_poll: Answer | None = None
    on_read: Answer | None = None
    failed: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    most_connections: int = 0
    _connections: set[Any] = attrs.field(factory=set)
    _ids: dict[str, str] = attrs.field(factory=dict)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._count], client_max_size=2**30)
        app.router.add_get("/operations/{id}", self._poll)
        app.router.add_get("/{path}", self._read)
        app.router.add_post("/{path}", self._submit)
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self._connections = {one for one in self._connections if not one.is_closing()} | {request.transport}
        self.most_connections = max(self.most_connections, len(self._connections))
        response: web.StreamResponse = await handler(request)
        return response

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.submits.append(Submit(request.path, request.headers["Idempotency-Key"], body))
        self.submitted.set()
        if self.on_submit is not None and (answer := await self.on_submit(request)) is not None:
            return answer
        operation_id = self._ids.setdefault(request.headers["Idempotency-Key"], f"op-{len(self._ids)}")
        return web.json_response({"operation_id": operation_id}, status=202)

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        operation_id = request.match_info["id"]
        self.polls.append(operation_id)
        self.polled.set()
        if self.on_poll is not None and (answer := await self.on_poll(request)) is not None:
            return answer
        await self.gate.wait()
        if operation_id in self.failed:
            return web.json_response({"status": "error", **self.failed[operation_id]})
        return web.json_response({"status": "done", "result": {"metrics": {"step": int(operation_id[3:]) + 1}}})

    async def _read(self, request: web.Request) -> web.StreamResponse:
        self.reads.append(request.path)
        self.read.set()
        if self.on_read is not None and (answer := await self.on_read(request)) is not None:
            return answer
        return web.json_response({"policy_version": len(self.submits)})


def answer(status: int, body: Any = None, **headers: str) -> web.Response:
    said = body if body is not None else {"detail": f"status {status}"}
    return web.json_response(said, status=status, headers=headers)


async def cut_short(request: web.Request) -> web.StreamResponse:
    """An answer whose connection ends before its body does."""
    response = web.StreamResponse(status=200, headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"status": "done"')
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.fixture
def cut() -> Answer:
    return cut_short


@pytest.fixture
def reply() -> Callable[..., web.Response]:
    return answer


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No task of ours outlives a test; sockets that were left open are ResourceWarnings, and those are errors."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if not task.done() and "loops_sdk" in repr(task)}
    assert not left


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[web.Application], Awaitable[str]]]:
    runners: list[web.AppRunner] = []

    async def start(app: web.Application) -> str:
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def trainer(serve: Callable[[web.Application], Awaitable[str]]) -> Trainer:
    made = Trainer()
    made.gate.set()
    made.url = await serve(made.application())
    return made


class Events(list[Event]):
    """What an observer heard, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()

    def append(self, event: Event) -> None:
        super().append(event)
        self.arrived.set()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
async def network(events: Events) -> AsyncIterator[Network]:
    made = Network(KEY, [events.append])
    made.caller._backoff = QUICK
    yield made
    await made.aclose()


@pytest.fixture
async def connect(network: Network) -> AsyncIterator[Callable[..., Channel]]:
    channels: list[Channel] = []

    def make(url: str, timeout: float = 20.0) -> Channel:
        network.transport.trust(url)
        channel = Channel(url, network.caller, network.poller, timeout=timeout)
        channel._source.polling.backoff = QUICK
        channels.append(channel)
        return channel

    yield make
    for channel in channels:
        await channel.aclose()


@pytest.fixture
def channel(connect: Callable[..., Channel], trainer: Trainer) -> Channel:
    return connect(trainer.url)
