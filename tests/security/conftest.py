"""A key that must not be found, everything that is logged while a test runs, and servers that speak bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

KEY = "sk-of-the-security-tests-0123456789"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BASETEN_API_KEY", KEY)
    for name in ("LOOPS_BASE_URL", "LOOPS_TEAM", "S3_REGION"):
        monkeypatch.delenv(name, raising=False)
    return KEY


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All levels of all loggers."""
    caplog.set_level(0)
    for name in ("asyncio", "aiohttp.client", "aiohttp.internal", "loops_sdk"):
        caplog.set_level(1, logger=name)
    return caplog


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[[Script], Awaitable[str]]]:
    """The script gets every connection, and ends it by returning."""
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
