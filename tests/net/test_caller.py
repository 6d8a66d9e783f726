"""Retries of one logical request: how many, how long between, and what the error tells at the end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from loops_sdk import errors
from loops_sdk._net.caller import Patience
from loops_sdk._net.network import Network
from loops_sdk._wire.endpoints import CREATE_TRAINER, GET_SESSION, HEALTH, POLICY_VERSION
from loops_sdk._wire.retrying import Backoff
from loops_sdk.instrumentation import Event, RequestRetried

Serve = Callable[[web.Application], Awaitable[str]]


class Server:
    """Answers with what `script` says, one entry per request, and remembers when each came."""

    def __init__(self, script: list[web.Response | str]) -> None:
        self.script = script
        self.times: list[float] = []
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.times.append(time.monotonic())
        self.requests.append(request)
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(said, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=said.status, body=said.body, headers=said.headers)


@pytest.fixture
def scripted(serve: Serve, network: Network) -> Callable[..., Awaitable[tuple[Server, str]]]:
    async def start(*script: web.Response | str) -> tuple[Server, str]:
        server = Server(list(script))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        url = await serve(app)
        network.transport.trust(url)
        return server, url

    return start


def unused() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(
    network: Network, scripted: Any, reply: Any, events: list[Event], status: int
) -> None:
    server, url = await scripted(reply(status), reply(status), reply(200, 7))
    assert await network.caller.call(POLICY_VERSION, f"{url}/policy_version") == 7
    assert len(server.times) == 3
    assert [event.attempt for event in events if isinstance(event, RequestRetried)] == [1, 2]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 501, 302])
async def test_what_does_not_pass_is_told_at_once(network: Network, scripted: Any, reply: Any, status: int) -> None:
    server, url = await scripted(reply(status))
    with pytest.raises(errors.StatusError) as caught:
        await network.caller.call(POLICY_VERSION, f"{url}/policy_version")
    assert (caught.value.status, caught.value.attempts, len(server.times)) == (status, 1, 1)


async def test_a_broken_connection_is_tried_again(network: Network, scripted: Any, reply: Any) -> None:
    server, url = await scripted("abort", "abort", reply(200, 7))
    assert await network.caller.call(POLICY_VERSION, f"{url}/policy_version") == 7
    assert len(server.times) == 3


async def test_attempts_are_bounded_and_the_error_tells_the_whole_story(
    network: Network, scripted: Any, reply: Any
) -> None:
    server, url = await scripted(reply(500, {"detail": "disk full"}))
    with pytest.raises(errors.ServerFailureError, match=r"^disk full ") as caught:
        await network.caller.call(POLICY_VERSION, f"{url}/policy_version", patience=Patience(total=30, attempts=4))
    error = caught.value
    assert len(server.times) == error.attempts == 4
    assert (error.operation, error.url, error.status) == ("policy_version", f"{url}/policy_version", 500)
    assert error.elapsed is not None
    assert error.elapsed > 0


async def test_time_is_bounded_too(network: Network, scripted: Any, reply: Any) -> None:
    _, url = await scripted(reply(500))
    start = time.monotonic()
    with pytest.raises(errors.ServerFailureError) as caught:
        await network.caller.call(HEALTH, f"{url}/health", patience=Patience(total=0.3, attempts=1000))
    assert time.monotonic() - start < 2
    assert caught.value.attempts is not None
    assert caught.value.attempts > 1


async def test_a_server_that_always_fails_is_not_hammered(network: Network, scripted: Any, reply: Any) -> None:
    """The default back-off, a hundred times as fast: at most ten requests in what would be the first five seconds."""
    network.caller._backoff = Backoff(first=0.005, cap=0.2)
    server, url = await scripted(reply(500))
    with pytest.raises(errors.ServerFailureError):
        await network.caller.call(HEALTH, f"{url}/health", patience=Patience(total=0.05, attempts=1000))
    assert len(server.times) <= 10


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(network: Network, scripted: Any, reply: Any, status: int) -> None:
    server, url = await scripted(reply(status, **{"Retry-After": "0.3"}), reply(200, 7))
    await network.caller.call(POLICY_VERSION, f"{url}/policy_version")
    assert server.times[1] - server.times[0] >= 0.3


async def test_a_retry_after_beyond_the_budget_ends_it_now(network: Network, scripted: Any, reply: Any) -> None:
    _, url = await scripted(reply(429, **{"Retry-After": "3600"}))
    start = time.monotonic()
    with pytest.raises(errors.OverloadedError) as caught:
        await network.caller.call(HEALTH, f"{url}/health")
    assert caught.value.retry_after == 3600
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("trouble", ["abort", 502, 500, 408])
async def test_what_must_not_be_sent_twice_is_sent_once(
    network: Network, scripted: Any, reply: Any, trouble: Any
) -> None:
    server, url = await scripted(trouble if trouble == "abort" else reply(trouble))
    with pytest.raises(errors.LoopsError):
        await network.caller.call(CREATE_TRAINER, f"{url}/trainers", body=b"{}")
    assert len(server.times) == 1


async def test_an_unreachable_server_is_reported_soon_with_address_and_cause(network: Network) -> None:
    url = unused()
    start = time.monotonic()
    with pytest.raises(errors.ConnectionFailedError, match=f"^no server answers at {url}: .*onnect") as caught:
        await network.caller.call(HEALTH, f"{url}/health", patience=Patience(3600, attempts=10**6, unreachable=0.3))
    assert time.monotonic() - start < 2
    assert caught.value.url == f"{url}/health"
    assert caught.value.attempts is not None
    assert caught.value.attempts > 1


async def test_a_server_that_comes_up_late_is_waited_for(network: Network, serve: Serve, events: Any) -> None:
    """Also by what must not be sent twice: where no connection was made, nothing was sent."""
    url = unused()
    call = asyncio.create_task(network.caller.send(CREATE_TRAINER, f"{url}/trainers", body=b"{}"))
    await events.arrived.wait()

    async def ok(_request: web.Request) -> web.Response:
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_post("/trainers", ok)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(url.rsplit(":", 1)[1])).start()
    assert (await call).status == 200
    await runner.cleanup()


@pytest.mark.parametrize("code", ["dns", "tls"])
async def test_names_and_certificates_are_not_tried_again(
    network: Network, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    calls = 0

    async def request(*_args: Any, **_kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        raise errors.ConnectionFailedError("x", code=code)

    monkeypatch.setattr(network.transport, "request", request)
    with pytest.raises(errors.ConnectionFailedError):
        await network.caller.call(HEALTH, "https://api.nowhere.co/health")
    assert calls == 1


async def test_an_unexpected_reply_names_the_call(network: Network, scripted: Any, reply: Any) -> None:
    _, url = await scripted(reply(200, {"session": {"id": 5}}, **{"X-Request-Id": "req-7"}))
    with pytest.raises(
        errors.ProtocolError, match=r"unexpected reply: expected str \(got 5\) @ \$.session.id"
    ) as caught:
        await network.caller.call(GET_SESSION, f"{url}/s")
    said = caught.value.context()
    assert said.pop("elapsed") > 0
    assert said == {"operation": "get_session", "url": f"{url}/s", "status": 200, "request_id": "req-7"}


@pytest.mark.parametrize("body", ["", "OK", {"status": "healthy"}])
async def test_health_may_say_anything(network: Network, scripted: Any, body: Any) -> None:
    said = web.Response(text=body) if isinstance(body, str) else web.json_response(body)
    _, url = await scripted(said)
    await network.caller.call(HEALTH, f"{url}/health")


async def test_closing_ends_a_pause_between_attempts(network: Network, scripted: Any, reply: Any, events: Any) -> None:
    _, url = await scripted(reply(503, **{"Retry-After": "30"}))
    call = asyncio.create_task(network.caller.call(HEALTH, f"{url}/health"))
    await events.arrived.wait()
    await network.aclose()
    with pytest.raises(errors.ClientClosedError):
        await call
