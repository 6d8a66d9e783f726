"""A child knows whether it is in use, and its parent hears of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local.serving import WATCHING, Server
from loops_sdk.local.stack.child import Use
from loops_sdk.local.stack.process import Process


async def test_a_request_is_use_from_its_beginning_to_its_end() -> None:
    use, begun, finish = Use(), asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        begun.set()
        await finish.wait()
        return web.Response()

    app = web.Application(middlewares=[use.count])
    app.router.add_get("/", slow)
    server = Server(app)
    await server.start()
    try:
        assert not use.since_last_look()
        async with asyncio.timeout(5), aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            asking = group.create_task(session.get(f"http://127.0.0.1:{server.port}/"))
            await begun.wait()
            assert use.since_last_look()
            assert use.since_last_look()  # still waiting for its answer
            finish.set()
            (await asking).release()
        assert not use.since_last_look()
    finally:
        await server.aclose()


async def test_who_only_watches_makes_no_use() -> None:
    use = Use()

    async def watched(_request: web.Request) -> web.Response:
        return web.Response(text="seen")

    app = web.Application(middlewares=[use.count])
    app.router.add_get(f"{WATCHING}/operations", watched)
    server = Server(app)
    await server.start()
    try:
        url = f"http://127.0.0.1:{server.port}{WATCHING}/operations"
        async with asyncio.timeout(5), aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.text() == "seen"
        assert not use.since_last_look()
    finally:
        await server.aclose()


class _Child:
    """What `Process` sees of a child whose reports the test writes."""

    def __init__(self) -> None:
        self.stdout = asyncio.StreamReader()
        self.returncode = None

    async def wait(self) -> int:
        return 0


async def test_the_parent_hears_of_use(tmp_path: Path) -> None:
    trainer = Process("trainer 1", "module", log=tmp_path / "log", data_dir=tmp_path, temporary=False)
    talking = _Child()
    listening = asyncio.create_task(trainer._listen(talking))  # type: ignore[arg-type]
    trainer._used_at -= 90
    assert trainer.idle >= 90
    talking.stdout.feed_data(b'{"event":"used"}\n')
    while "used" not in trainer._heard:
        await trainer._news.wait()
    assert trainer.idle < 90
    trainer._stopping = True
    talking.stdout.feed_eof()
    await listening


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of the line on which a child hears orders."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def _process(tmp_path: Path, orders: socket.socket) -> tuple[Process, _Child]:
    process = Process("trainer 1", "module", log=tmp_path / "log", data_dir=tmp_path, temporary=False)
    talking = _Child()
    process._process = talking  # type: ignore[assignment]
    process._orders = orders
    return process, talking


def _heard(theirs: socket.socket) -> tuple[bytes, list[int]]:
    """An order, and the ports of the sockets that came with it."""
    order, descriptors, _, _ = socket.recv_fds(theirs, 1000, 8)
    ports = []
    for descriptor in descriptors:
        with socket.socket(fileno=descriptor) as came:
            ports.append(came.getsockname()[1])
    return order, ports


async def test_waiting_to_be_given_something_is_not_idleness(
    tmp_path: Path, line: tuple[socket.socket, socket.socket], listener: socket.socket
) -> None:
    ours, theirs = line
    spare, _ = _process(tmp_path, ours)
    spare._used_at -= 3600
    spare.assign("run7", listener)
    assert spare.idle < 60
    assert _heard(theirs) == (b'{"serve":"run7"}\n', [listener.getsockname()[1]])


async def test_a_child_that_is_gone_misses_its_orders(
    tmp_path: Path, line: tuple[socket.socket, socket.socket], listener: socket.socket
) -> None:
    ours, theirs = line
    gone, _ = _process(tmp_path, ours)
    theirs.close()
    gone.assign("run7", listener)
    ours.close()
    gone.assign("run7", listener)


async def test_one_that_serves_something_else_listens_and_gets_ready_again(
    tmp_path: Path, line: tuple[socket.socket, socket.socket], listener: socket.socket
) -> None:
    ours, theirs = line
    trainer, talking = _process(tmp_path, ours)
    listening = asyncio.create_task(trainer._listen(talking))  # type: ignore[arg-type]
    talking.stdout.feed_data(b'{"event":"listening"}\n{"event":"ready"}\n')
    await trainer.hear("ready", 5)
    reassigning = asyncio.create_task(trainer.reassign("run8", listener, 5))
    await asyncio.sleep(0)
    assert (trainer.state, reassigning.done()) == ("starting", False)
    assert _heard(theirs) == (b'{"serve":"run8"}\n', [listener.getsockname()[1]])
    talking.stdout.feed_data(b'{"event":"listening"}\n')
    await reassigning
    assert trainer.state == "starting"
    talking.stdout.feed_data(b'{"event":"ready"}\n')
    await trainer.hear("ready", 5)
    again = asyncio.create_task(trainer.reassign("run9", listener, 5))
    talking.stdout.feed_data(b'{"event":"failed","message":"still busy"}\n')
    talking.stdout.feed_eof()
    with pytest.raises(DeploymentFailedError, match="still busy"):
        await again
    await listening
    assert trainer.refused
