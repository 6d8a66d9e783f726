"""The embedded servers and clients that are slow on purpose, strange hosts, and who can reach them at all."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from loops_sdk.local import LocalStack, serving
from loops_sdk.local.serving import Server, application, json_reply, read_body
from loops_sdk.local.stack import local_stack

from .conftest import KEY

HEAD = f"POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server with a quarter of a second of patience."""
    app = application(api_key=KEY, form="plain", body_limit=10**6)

    async def echo(request: web.Request) -> web.Response:
        return json_reply(b'"%d"' % len(await read_body(request)))

    async def think(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.8)
        return json_reply(b'"thought"')

    app.router.add_post("/echo", echo)
    app.router.add_get("/think", think)
    server = Server(app, head_timeout=0.25)
    await server.start()
    yield server.port
    await server.aclose()


async def dripped(port: int, data: bytes, *, pause: float = 0.01, first: bytes = b"") -> bytes:
    """All that a server says to a client that sends byte by byte, until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(_all(reader))
    try:
        async with asyncio.timeout(20):
            writer.write(first)
            for byte in data:
                if answer.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(pause)
            return await answer
    finally:
        answer.cancel()
        writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):  # it hung up while something was still on the way to it
        while piece := await reader.read(1000):
            said += piece
    return said


@pytest.mark.parametrize("data", [b"", b"G", b"GET /" + b"x" * 4000, HEAD.encode() + b"X: " + b"x" * 4000])
async def test_a_client_that_never_finishes_a_head_is_cut(port: int, data: bytes) -> None:
    assert await dripped(port, data) == b""


async def test_an_idle_connection_is_cut_after_its_request(port: int) -> None:
    request = HEAD.replace("POST /echo", "GET /nothing").encode() + b"\r\n"
    assert (await dripped(port, b"", first=request)).startswith(b"HTTP/1.1 404")


async def test_one_that_waits_for_its_answer_is_not(port: int) -> None:
    request = HEAD.replace("POST /echo", "GET /think").encode() + b"\r\n"
    assert (await dripped(port, b"", first=request)).endswith(b'"thought"')


async def test_one_that_asks_again_in_time_is_not_either(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(6):
        writer.write(HEAD.encode() + b"Content-Length: 2\r\n\r\n{}")
        assert b"200 OK" in await reader.readuntil(b"\r\n")
        await reader.readuntil(b'"2"')
        await asyncio.sleep(0.1)
    writer.close()


async def test_a_body_that_comes_too_slowly_is_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes keep coming, so that no single wait is a long one."""
    monkeypatch.setattr(serving, "_BODY_IDLE", 0.3)
    first = HEAD.encode() + b"Content-Length: 5000\r\nConnection: close\r\n\r\n"
    assert (await dripped(port, b"x" * 5000, first=first)).startswith(b"HTTP/1.1 408")


async def test_a_body_that_is_large_and_comes_steadily_is_read(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_BODY_IDLE", 0.3)
    monkeypatch.setattr(serving, "_LEAST_RATE", 10)
    first = HEAD.encode() + b"Content-Length: 100\r\nConnection: close\r\n\r\n"
    assert (await dripped(port, b"x" * 100, first=first)).endswith(b'"100"')


@pytest.mark.parametrize("host", ["", "[", "a b", "x:99999", "x:0x1", "a:b:c", "x/y", "a@b", "x?y", "\xff", "x" * 300])
async def test_a_host_that_is_none_is_refused(port: int, host: str) -> None:
    request = HEAD.replace("Host: x", f"Host: {host}").replace("POST /echo", "GET /think").encode("latin-1")
    answer = await dripped(port, b"", first=request + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"message":"Host: expected' in answer


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8000", "a-b.example", "Host_1"])
async def test_hosts(port: int, host: str) -> None:
    request = HEAD.replace("Host: x", f"Host: {host}").replace("POST /echo", "GET /nothing").encode("latin-1")
    assert (await dripped(port, b"", first=request + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("broken", [f"Authorization: Bearer {KEY}\0", f"Authorization {KEY}", f"A: {KEY * 300}"])
async def test_a_request_that_is_no_http_is_not_quoted_in_a_log(
    port: int, broken: str, everything_logged: pytest.LogCaptureFixture
) -> None:
    answer = await dripped(port, b"", first=f"GET / HTTP/1.1\r\nHost: x\r\n{broken}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 400")
    assert KEY not in everything_logged.text


def test_they_listen_on_this_machine_alone_unless_told_otherwise() -> None:
    for made in (Server, LocalStack):
        assert inspect.signature(made).parameters["host"].default == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("::", True)]
)
def test_and_say_so_when_they_do_not(host: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    local_stack._warn_unless_loopback(host)
    assert [record.levelname for record in caplog.records] == (["WARNING"] if warned else [])
