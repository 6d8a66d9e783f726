"""What the servers share: the key on every route of each, errors in each one's own form, bodies, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.serving import ErrorForm, Server, application, json_reply, read_body
from loops_sdk.local.storage import Storage
from loops_sdk.local.trainer import Trainer

from .conftest import KEY, Serve
from .doubles.double_launcher import Launcher


def applications(storage: Storage) -> list[web.Application]:
    return [
        Trainer(storage, api_key=KEY).app,
        Sampler(storage, api_key=KEY).app,
        ControlPlane(storage, Launcher(), api_key=KEY).app,
    ]


FILE = re.compile("/files/[^/]+/[^/]+/.+")
#: The page's own files, which hold nothing of the deployment (tests/local/test_page.py).
PAGE = re.compile("/|/page/[^/]+")


def routes(app: web.Application) -> list[tuple[str, str]]:
    """All of them but those of the page's files, each with a path that it matches."""
    found = [(route.method, str(route.resource.canonical)) for route in app.router.routes() if route.resource]
    paths = [(method, re.sub(r"{\w+}", "x", path)) for method, path in found]
    return [(method, path) for method, path in paths if not (method in ("GET", "HEAD") and PAGE.fullmatch(path))]


@pytest.mark.parametrize(
    "authorization",
    [None, "", KEY, "Bearer", "Bearer ", "Bearer other", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer \udcff", "Bearer é"],
)
async def test_every_route_wants_the_key(storage: Storage, serve: Serve, authorization: str | None) -> None:
    for app in applications(storage):
        paths = [(method, path) for method, path in routes(app) if not FILE.fullmatch(path)]
        assert len(paths) > 4
        paths += [
            ("GET", "/nothing"),
            ("POST", "/"),
            ("POST", "/files/x/x/x"),
            ("GET", "/files/x/x"),
            ("GET", "/files"),
        ]
        peer = await serve(app)
        for method, path in paths:
            headers = {} if authorization is None else {"Authorization": authorization}
            async with peer.session.request(method, peer.url + path, headers=headers) as response:
                assert response.status == 401, (method, path)
                assert KEY not in await response.text()


async def test_files_alone_are_asked_for_without_the_key(storage: Storage, serve: Serve) -> None:
    for app in applications(storage):
        peer = await serve(app)
        for method, path in routes(app):
            async with peer.session.request(method, peer.url + path) as response:
                assert response.status == (403 if FILE.fullmatch(path) else 401), (method, path)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Api-Key"])
async def test_both_schemes_are_known(storage: Storage, serve: Serve, scheme: str) -> None:
    for app in applications(storage):
        peer = await serve(app)
        answer = await peer.get("/nothing", headers={"Authorization": f"{scheme} {KEY}"})
        assert answer.status == 404


def failing(form: ErrorForm) -> web.Application:
    app = application(api_key=KEY, form=form, body_limit=1000)

    async def fail(request: web.Request) -> web.Response:
        raise ZeroDivisionError("secret detail")

    async def echo(request: web.Request) -> web.Response:
        return json_reply(b'"%b"' % await read_body(request))

    app.router.add_get("/fail", fail)
    app.router.add_post("/echo", echo)
    return app


@pytest.mark.parametrize(
    ("form", "text_of"),
    [
        ("detail", lambda body: body["detail"]),
        ("openai", lambda body: body["error"]["message"]),
        ("plain", lambda body: body["message"]),
    ],
)
async def test_errors_have_the_servers_form(serve: Serve, form: ErrorForm, text_of: Any) -> None:
    peer = await serve(failing(form))
    missing = await peer.get("/nothing")
    assert missing.status == 404
    assert "/nothing" in text_of(missing.json)
    wrong = await peer.get("/echo")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    failed = await peer.get("/fail", headers={"X-Request-Id": "mine-1"})
    assert failed.status == 500
    assert "mine-1" in text_of(failed.json)
    assert "secret" not in text_of(failed.json)
    assert (await peer.get("/nothing", headers={"Authorization": "Bearer x"})).status == 401


async def test_requests_have_ids(serve: Serve) -> None:
    peer = await serve(failing("plain"))
    assert (await peer.get("/nothing", headers={"X-Request-Id": "abc"})).headers["X-Request-Id"] == "abc"
    made = (await peer.get("/nothing", headers={"X-Request-Id": "a b"})).headers["X-Request-Id"]
    assert len(made) == 32


async def test_a_body_has_a_limit_also_when_it_is_compressed(serve: Serve) -> None:
    peer = await serve(failing("plain"))
    assert (await peer.post("/echo", b"x" * 1000)).status == 200
    assert (await peer.post("/echo", b"x" * 1001)).status == 413
    zipped = {"Content-Encoding": "gzip"}
    assert (await peer.post("/echo", gzip.compress(b"x" * 900), headers=zipped)).json == "x" * 900
    assert (await peer.post("/echo", gzip.compress(b"x" * 10**6), headers=zipped)).status == 413
    assert (await peer.post("/echo", b"no gzip at all", headers=zipped)).status == 400


async def test_a_body_that_stalls_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loops_sdk.local.serving._BODY_IDLE", 0.05)
    peer = await serve(failing("plain"))
    port = int(peer.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\nabc".encode()
    )
    async with asyncio.timeout(10):
        assert b"408" in await reader.readline()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_port_in_use_is_named(serve: Serve) -> None:
    peer = await serve(failing("plain"))
    port = int(peer.url.rsplit(":", 1)[1])
    with pytest.raises(DeploymentFailedError, match=str(port)):
        await Server(failing("plain"), port=port).start()


async def test_stopping_cancels_what_outlives_the_grace() -> None:
    started, ended = asyncio.Event(), asyncio.Event()
    app = application(api_key=KEY, form="plain")

    async def hang(request: web.Request) -> web.Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    app.router.add_get("/hang", hang)
    server = Server(app, grace=0.01)
    await server.start()

    async def ask() -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{server.port}/hang", headers=headers),
        ):
            pass

    asking = asyncio.create_task(ask())
    await started.wait()
    await asyncio.wait_for(server.aclose(), 5)
    assert ended.is_set()
    with pytest.raises(aiohttp.ClientError):
        await asking
