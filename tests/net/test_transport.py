"""One request: who sees the key, what a failure is called, what is left after close."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from loops_sdk import (
    ClientClosedError,
    ConnectionFailedError,
    InvalidInputError,
    LoopsError,
    ProtocolError,
    RequestTimeoutError,
)
from loops_sdk._net.addresses import is_loopback, may_name, origin, proxy_for
from loops_sdk._net.network import Network
from loops_sdk._net.transport import Transport, _socket

KEY = "secret-key-of-the-tests"
Serve = Callable[[web.Application], Awaitable[str]]


@pytest.fixture
def transport(network: Network) -> Transport:
    return network.transport


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response({"headers": dict(request.headers), "size": len(body), "last": body[-1:].decode()})


@pytest.fixture
async def echo_url(serve: Serve) -> str:
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", echo)
    return await serve(app)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---------------------------------------------------------------- the key


async def test_the_key_goes_to_trusted_origins_only(transport: Transport, echo_url: str) -> None:
    before = await transport.request("GET", f"{echo_url}/x", timeout=5)
    transport.trust(f"{echo_url}/some/base")
    after = await transport.request("GET", f"{echo_url}/x", timeout=5)
    assert KEY.encode() not in before.body
    assert b"Authorization" not in before.body
    assert b'"Authorization": "Bearer (the API key)"' in after.body  # blanked in what comes back, see below


async def test_an_empty_key_sends_no_header(echo_url: str) -> None:
    network = Network("")
    network.transport.trust(echo_url)
    response = await network.transport.request("GET", echo_url, timeout=5)
    assert b"Authorization" not in response.body
    await network.aclose()


async def test_a_redirect_is_an_answer_and_not_followed(transport: Transport, serve: Serve, echo_url: str) -> None:
    async def elsewhere(_request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{echo_url}/thief")

    app = web.Application()
    app.router.add_get("/x", elsewhere)
    url = await serve(app)
    transport.trust(url)
    response = await transport.request("GET", f"{url}/x", timeout=5)
    assert response.status == 302


async def test_no_cookie_is_kept(transport: Transport, serve: Serve) -> None:
    async def bake(request: web.Request) -> web.Response:
        response = web.Response(text=request.headers.get("Cookie", "none"))
        response.set_cookie("a", "b")
        return response

    app = web.Application()
    app.router.add_get("/x", bake)
    url = await serve(app)
    for _ in range(2):
        assert (await transport.request("GET", f"{url}/x", timeout=5)).body == b"none"


async def test_the_key_is_in_no_text(network: Network, raw_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)

    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    url = await raw_server(hang_up)
    network.transport.trust(url)
    with pytest.raises(ConnectionFailedError) as caught:
        await network.transport.request("GET", url, timeout=5)
    shown = [repr(network.transport), repr(network.poller), str(caught.value), repr(caught.value), caplog.text]
    shown += [repr(caught.value.__cause__), str(vars(caught.value)), pickle.dumps(caught.value).decode("latin1")]
    assert not [text for text in shown if KEY in text]


@pytest.mark.parametrize("key", ["secret\n", "секрет", " secret", "secret ", "sec\x00ret"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^api_key: expected printable ASCII") as caught:
        Network(key)
    assert "secret" not in str(caught.value)
    assert key not in str(caught.value)


def test_no_key_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv("BASETEN_API_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("BASETEN_API_KEY", value)
        with pytest.raises(InvalidInputError, match=r"BASETEN_API_KEY is not set.*loops run SCRIPT"):
            Network()


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_the_pool_size_is_checked(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_LOOPS_MAX_CONNECTIONS", value)
    with pytest.raises(InvalidInputError, match=rf"^BT_LOOPS_MAX_CONNECTIONS: .* got '{value}'"):
        Network("")


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("place", "url", "fine"),
    [
        ("https://api.x.co", "https://trainer.y.co/t", True),
        ("https://api.x.co", "http://trainer.y.co", False),
        ("https://api.x.co", "http://api.x.co:8001", False),  # that would be a step down from TLS
        ("https://api.x.co", "http://127.0.0.1:8001", True),
        ("http://10.0.0.5:8000", "http://10.0.0.5:8001", True),
        ("http://10.0.0.5:8000", "http://10.0.0.6:8001", False),
        ("http://localhost:8000", "http://sub.localhost:1", True),
        ("http://localhost:8000", "http://localhost.evil.co", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1.evil.co", False),
        ("http://127.0.0.1:8000", "http://[::1]:1", True),
    ],
)
def test_where_a_server_may_send_the_key_on_to(place: str, url: str, fine: bool) -> None:
    assert may_name(place, url) is fine
    transport = Transport(api_key="k", max_connections=1)
    if fine:
        transport.trust(url, named_by=place)
    else:
        with pytest.raises(ProtocolError, match="not https: the key is not sent there"):
            transport.trust(url, named_by=place)


def test_an_address_that_is_none() -> None:
    transport = Transport(api_key="k", max_connections=1)
    with pytest.raises(
        InvalidInputError, match=r"^trainer_url: expected an http:// or https:// address, got 'ftp://x'"
    ):
        transport.trust("ftp://x", "trainer_url")
    with pytest.raises(ProtocolError, match="named an unusable address"):
        transport.trust("", named_by="https://api.x.co")
    with pytest.raises(InvalidInputError, match="without user and password") as caught:
        transport.trust("https://me:pass@x.co")
    assert "pass@" not in str(caught.value)


def test_origins() -> None:
    assert origin("HTTPS://API.x.co/a?b") == "https://api.x.co:443"
    assert origin("http://[::1]/x") == "http://[::1]:80"
    assert is_loopback("http://127.9.9.9:1")
    assert not is_loopback("http://128.0.0.1")


def test_proxies_are_for_others_than_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.co")
    assert proxy_for("https://api.x.co") == "http://proxy:3128"
    assert proxy_for("https://a.inside.co") is None
    assert proxy_for("http://127.0.0.1:1") is None


# ---------------------------------------------------------------- what a failure is called


async def test_nobody_listens(transport: Transport) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionFailedError, match=r"^no server answers at http://127.0.0.1:") as caught:
        await transport.request("GET", f"{url}/x", timeout=5)
    assert (caught.value.code, caught.value.url) == ("unreachable", f"{url}/x")
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_name_that_does_not_resolve(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_args: Any, **_kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(
        ConnectionFailedError, match=r"^the host name of https://api.nowhere.co:443 does not resolve"
    ) as caught:
        await transport.request("GET", "https://api.nowhere.co/x", timeout=5)
    assert caught.value.code == "dns"


async def test_a_host_name_that_cannot_be_one(transport: Transport) -> None:
    with pytest.raises(LoopsError) as caught:
        await transport.request("GET", f"http://{'a' * 70}.co/x", timeout=5)
    assert caught.value.code == "dns"


async def test_tls_where_there_is_none(transport: Transport, echo_url: str) -> None:
    with pytest.raises(ConnectionFailedError, match=r"^no TLS connection to https://127.0.0.1:") as caught:
        await transport.request("GET", echo_url.replace("http:", "https:"), timeout=5)
    assert caught.value.code == "tls"


async def truncated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()


async def broken_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{")
    await writer.drain()


async def not_gzip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
    await writer.drain()


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await writer.drain()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


@pytest.mark.parametrize("script", [truncated, broken_chunks, not_gzip, no_http, reset], ids=lambda one: one.__name__)
async def test_a_broken_answer(transport: Transport, raw_server: Any, script: Any) -> None:
    url = await raw_server(script)
    with pytest.raises(ConnectionFailedError, match=r"^http://127.0.0.1:\d+ broke the connection: ") as caught:
        await transport.request("GET", url, timeout=5)
    assert caught.value.code == "reset"


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"]
)
async def test_a_server_that_stalls(transport: Transport, raw_server: Any, said: bytes) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        await asyncio.Event().wait()

    url = await raw_server(stall)
    with pytest.raises(RequestTimeoutError, match=r"^no answer from http://127.0.0.1:\d+ within 0.2 s"):
        await transport.request("GET", url, timeout=0.2)


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 20_000_000])
async def test_a_body_of_any_size_arrives_with_its_length(transport: Transport, echo_url: str, size: int) -> None:
    body = b"x" * max(0, size - 1) + b"y" * min(size, 1)
    response = await transport.request("POST", echo_url, body=body, timeout=20)
    assert f'"size": {size}, "last": "{"y" if size else ""}"'.encode() in response.body
    assert f'"Content-Length": "{size}"'.encode() in response.body
    assert b"Transfer-Encoding" not in response.body


@pytest.mark.parametrize("length", [b"Content-Length: 100\r\n", b""], ids=["announced", "until it closes"])
async def test_an_answer_that_is_too_long_is_not_read_to_its_end(
    transport: Transport, raw_server: Any, length: bytes
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + b"x" * 100)
        await writer.drain()
        writer.close()

    url = await raw_server(script)
    with pytest.raises(ProtocolError, match="longer than 99 bytes"):
        await transport.request("GET", url, timeout=5, most=99)
    assert (await transport.request("GET", url, timeout=5, most=100)).body == b"x" * 100


@pytest.mark.parametrize("length", [b"Content-Length: 50000000\r\n", b""], ids=["announced", "until it closes"])
async def test_what_comes_with_a_refusal_is_cut_and_not_lost(
    transport: Transport, raw_server: Any, length: bytes
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 No\r\n" + length + b"\r\nbecause")
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    response = await transport.request("GET", await raw_server(script), timeout=20)
    assert (response.status, response.body[:7], len(response.body)) == (503, b"because", 2**20)


async def test_a_key_that_comes_back_is_blanked(transport: Transport, raw_server: Any) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = (await reader.readuntil(b"\r\n\r\n")).partition(b"Authorization: ")[2].partition(b"\r\n")[0]
        writer.write(b"HTTP/1.1 401 No\r\nX-A: %b\r\nX-B: b\r\nConnection: close\r\n\r\n%b" % (said, said))
        await writer.drain()

    url = await raw_server(script)
    transport.trust(url)
    response = await transport.request("GET", url, timeout=5)
    assert response.body == b"Bearer (the API key)"
    assert (response.headers["x-a"], response.headers["x-b"]) == ("(the API key)", "b")


async def test_a_key_that_is_a_word_leaves_answers_as_they_are(echo_url: str) -> None:
    network = Network("headers")
    response = await network.transport.request("GET", echo_url, timeout=5)
    assert b'"headers"' in response.body
    await network.aclose()


async def test_the_cause_of_a_failure_holds_no_request(transport: Transport, raw_server: Any) -> None:
    """aiohttp's own error has the request's headers in its `repr`."""
    url = await raw_server(no_http)
    transport.trust(url)
    with pytest.raises(ConnectionFailedError, match="Bad status line") as caught:
        await transport.request("GET", url, timeout=5)
    assert type(caught.value.__cause__) is ConnectionError
    assert caught.value.__context__ is None


async def test_a_small_answer_that_unpacks_to_a_large_one_is_cut(transport: Transport, serve: Serve) -> None:
    async def bomb(_request: web.Request) -> web.Response:
        response = web.Response(body=b"0" * 2**24)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    app = web.Application()
    app.router.add_get("/", bomb)
    with pytest.raises(ProtocolError, match="longer than 1000000 bytes"):
        await transport.request("GET", await serve(app), timeout=5, most=1_000_000)


async def test_other_tasks_run_while_a_large_body_is_sent(transport: Transport, echo_url: str) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await transport.request("POST", echo_url, body=bytes(30_000_000), timeout=20)
    counter.cancel()
    assert turns > 30


def test_sockets_probe_a_silent_peer() -> None:
    with _socket((socket.AF_INET, socket.SOCK_STREAM, 0)) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20


# ---------------------------------------------------------------- life and death


async def test_construction_does_no_io_and_close_is_idempotent(transport: Transport) -> None:
    assert repr(transport) == "<Transport new, 0 origins>"
    await transport.aclose()
    await transport.aclose()
    assert repr(transport) == "<Transport closed, 0 origins>"
    with pytest.raises(ClientClosedError):
        await transport.request("GET", "http://127.0.0.1:1", timeout=1)


async def test_requests_under_way_end_with_the_client(transport: Transport, raw_server: Any) -> None:
    arrived = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.Event().wait()

    url = await raw_server(stall)
    request = asyncio.create_task(transport.request("GET", url, timeout=30))
    await arrived.wait()
    pause = asyncio.create_task(transport.pause(30))
    await asyncio.sleep(0)
    await transport.aclose()
    with pytest.raises(ClientClosedError, match="closed during the request"):
        await request
    with pytest.raises(ClientClosedError, match="closed while it waited"):
        await pause


async def test_a_cancelled_request_leaves_the_pool_usable(transport: Transport, raw_server: Any) -> None:
    arrived = asyncio.Event()
    patient = True

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        if patient:
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    url = await raw_server(script)
    request = asyncio.create_task(transport.request("GET", url, timeout=30))
    await arrived.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    patient = False
    assert (await transport.request("GET", url, timeout=5)).body == b"ok"


async def test_a_full_pool_of_one_server_does_not_hold_up_another(
    raw_server: Any, echo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_LOOPS_MAX_CONNECTIONS", "1")
    arrived = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.Event().wait()

    network = Network("")
    url = await raw_server(stall)
    under_way = asyncio.create_task(network.transport.request("GET", url, timeout=30))
    await arrived.wait()
    queued = asyncio.create_task(network.transport.request("GET", url, timeout=30))
    assert (await network.transport.request("GET", echo_url, timeout=5)).status == 200
    await network.aclose()
    for request in (under_way, queued):
        with pytest.raises(ClientClosedError):
            await request


def test_a_client_belongs_to_one_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("")

    async def first() -> None:
        network.transport.require_open()

    async def second() -> None:
        with pytest.raises(LoopsError, match="belongs to another event loop"):
            await network.transport.request("GET", "http://127.0.0.1:1", timeout=1)

    asyncio.run(first())
    asyncio.run(second())
