"""The example `webservice` as it runs, and a client of its own: answers event by event."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import attrs

from .conftest import Example


@attrs.frozen
class WebService:
    """A running service: its address, and what it has printed."""

    process: subprocess.Popen[str]
    url: str

    async def post(self, session: aiohttp.ClientSession, path: str, **data: Any) -> tuple[int, dict[str, Any]]:
        async with session.post(self.url + path, json=data) as response:
            return response.status, await response.json()

    async def status(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        async with session.get(f"{self.url}/status") as response:
            assert response.status == 200
            told: dict[str, Any] = await response.json()
            return told

    async def ask(self, session: aiohttp.ClientSession, question: str) -> list[tuple[str, dict[str, Any]]]:
        """All events of an answer."""
        async with session.post(f"{self.url}/ask", json={"question": question}) as response:
            assert response.status == 200, await response.text()
            return [event async for event in events(response)]

    async def until(self, session: aiohttp.ClientSession, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which `reached` says so. Nothing tells of it, so it is asked for now and then."""
        while True:
            status = await self.status(session)
            if reached(status):
                return status
            await asyncio.sleep(0.02)

    async def learned(self, session: aiohttp.ClientSession, *, above: int) -> dict[str, Any]:
        """The status once a newer policy answers and nothing waits to be learned."""
        return await self.until(session, lambda status: status["policy_version"] > above and not status["pending"])


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Server-sent events, as they come."""
    kind = ""
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


@contextmanager
def webservice(example: Example, *args: object) -> Iterator[WebService]:
    """The example on a port of its own, once it listens."""
    with example.started("webservice", "--port", 0, *args) as process:
        assert process.stdout is not None
        said = ""
        while "listening on" not in said:
            line = process.stdout.readline()
            assert line, f"the service ended with {process.wait()} after: {said}"
            said += line
        yield WebService(process, said.split("listening on ")[1].strip())
