"""What the tests of several folders share: a server that speaks bytes, and a Ctrl-C that is heard."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a shell (`pytest &`), and so would be what the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[[Script], Awaitable[str]]]:
    """A server that speaks bytes: the script gets every connection, and ends it by returning."""
    servers: list[asyncio.Server] = []
    under_way: set[asyncio.Task[None]] = set()

    async def start(script: Script) -> str:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            under_way.add(task)
            try:
                await script(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
