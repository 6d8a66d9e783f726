"""Answers that would fill the memory, or go on for ever: cut, and paid for with little more than what was allowed."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

import attrs
import pytest
from client_calls import DATA, training
from fuzz_figures import figures

from loops_sdk import LoopsError, ProtocolError, TrainingClient
from loops_sdk._net import poller

MIB = 2**20
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@asynccontextmanager
async def server(script: Script) -> AsyncIterator[str]:
    """Accepts operations; everything else is answered by the script."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                writer.write(HEAD + b"Content-Length: 22\r\n\r\n" + b'{"operation_id": "op"}')
            else:
                await script(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has seen enough
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"\r\n[")
    while True:
        writer.write(b"1," * (MIB // 8))
        await writer.drain()


async def endless_refusal(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 No\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"no, " * (MIB // 16))
        await writer.drain()


async def endless_head(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b"X-More: and more\r\n" * 1000)
        await writer.drain()


async def endless_hundreds(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        await writer.drain()


def _packed(mebibytes: int) -> bytes:
    """That many zeros, a thousandth of the size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(mebibytes)) + packer.flush()


BOMB = _packed(192)


async def bomb(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB)
    await writer.drain()


async def bomb_in_pieces(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Encoding: gzip\r\n\r\n")
    for start in range(0, len(BOMB), 1000):
        writer.write(BOMB[start : start + 1000])
        await writer.drain()


async def deep(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"\r\n" + b"[" * 10**6)


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def result(client: TrainingClient) -> object:
    return await (await client.forward_backward_async(DATA))


CALLS: dict[str, Callable[[TrainingClient], Coroutine[object, object, object]]] = {
    "policy_version": TrainingClient.policy_version_async,
    "result": result,
}


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(
    "script",
    [endless, endless_refusal, endless_head, endless_hundreds, bomb, bomb_in_pieces, deep, drip],
    ids=lambda script: script.__name__,
)
async def test_an_answer_without_end_is_cut(script: Script, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 64 * MIB  # what reads may have; results may have more, and get less here
    monkeypatch.setattr(poller, "RETRIEVE", attrs.evolve(poller.RETRIEVE, most=most))
    monkeypatch.setattr(poller, "POLL_TIMEOUT", 0.3)
    figures["answers without end"] += 1
    async with server(script) as url, training(url) as client:
        tracemalloc.start()
        try:
            with pytest.raises(LoopsError) as caught:
                await asyncio.wait_for(CALLS[call](client), 60)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * most  # what was read, what is joined of it, and the piece that was too much
    if script is deep:
        assert isinstance(caught.value, ProtocolError) or "JSON" in str(caught.value)
