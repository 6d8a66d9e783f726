"""Large bodies on their way: nothing but JSON until the server offers more, and the same bytes at every attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import numpy as np
import pytest
from aiohttp import web

from loops_sdk import Datum, ForwardBackwardOutput, errors
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import OperationFuture
from loops_sdk._net.network import Network
from loops_sdk._wire import codec
from loops_sdk._wire.bodies import ForwardBackwardBody
from loops_sdk._wire.endpoints import FORWARD_BACKWARD
from loops_sdk._wire.packing import MEDIA_TYPE, pack

from .conftest import KEY, QUICK

LENGTH = 50_000
BATCH = ForwardBackwardBody([Datum(np.arange(LENGTH), {"weights": np.linspace(0, 1, LENGTH)})] * 2, "ppo")
VALUES = -np.linspace(0, 9, LENGTH, dtype=np.float32)
RESULT = {"loss": 1.0, "loss_fn_outputs": [{"logprobs": {"data": VALUES, "dtype": "float32", "shape": [LENGTH]}}]}
BOTH = {"Accept": f"application/json, {MEDIA_TYPE}"}


@attrs.define
class Server:
    """Keeps what it was sent, and answers with what it was given."""

    offer: dict[str, str] = attrs.field(factory=dict)
    reply: bytes = codec.dumps({"status": "done", "result": RESULT})
    refusals: list[int] = attrs.field(factory=list)
    sent: list[tuple[dict[str, str], bytes]] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/{path}", self._submit)
        app.router.add_get("/operations/{id}", self._retrieve)
        return app

    async def _submit(self, request: web.Request) -> web.Response:
        self.sent.append((dict(request.headers), await request.read()))
        if self.refusals:
            return web.json_response({}, status=self.refusals.pop(0))
        return web.json_response({"operation_id": f"op{len(self.sent)}"}, status=202, headers=self.offer)

    async def _retrieve(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Accept"])
        return web.Response(body=self.reply)


Line = Callable[[Server], Awaitable[Channel]]


@pytest.fixture
async def line(serve: Any) -> Any:
    networks: list[Network] = []

    async def to(server: Server) -> Channel:
        network = Network(KEY)
        network.caller._backoff = QUICK
        networks.append(network)
        url = await serve(server.application())
        network.transport.trust(url)
        return Channel(url, network.caller, network.poller, timeout=20)

    yield to
    for network in networks:
        await network.aclose()


async def submit(channel: Channel) -> OperationFuture[ForwardBackwardOutput]:
    return await channel.submit(FORWARD_BACKWARD, BATCH, size=4 * LENGTH)


async def test_who_offers_nothing_is_sent_json_and_asked_for_anything(line: Line) -> None:
    server = Server()
    channel = await line(server)
    for _ in range(2):
        output = await (await submit(channel))
        assert np.array_equal(output.loss_fn_outputs[0]["logprobs"].data, VALUES)
    for headers, body in server.sent:
        assert (headers["Content-Type"], body) == ("application/json", codec.encode(BATCH))
        assert headers["Content-Length"] == str(len(body))
        assert "Content-Encoding" not in headers
    assert set(server.asked) == {"*/*"}
    await channel.aclose()


async def test_the_binary_form_once_it_was_offered_and_while_it_is(line: Line) -> None:
    server = Server(offer=BOTH, reply=pack({"status": "done", "result": RESULT}))
    channel = await line(server)
    for _ in range(2):
        output = await (await submit(channel))
        assert np.array_equal(output.loss_fn_outputs[0]["logprobs"].data, VALUES)
    server.offer = {}
    await (await submit(channel))
    await (await submit(channel))
    assert [headers["Content-Type"] for headers, _ in server.sent] == [
        "application/json",
        MEDIA_TYPE,
        MEDIA_TYPE,
        "application/json",
    ]
    assert codec.decode_request(server.sent[1][1], ForwardBackwardBody).data == BATCH.data
    assert [MEDIA_TYPE in asked for asked in server.asked] == [True, True, False, False]
    await channel.aclose()


@pytest.mark.parametrize("offer", [{}, BOTH, {"Accept-Encoding": "zstd"}], ids=["json", "binary", "zstd"])
async def test_every_attempt_sends_the_same_bytes_under_the_same_key(line: Line, offer: dict[str, str]) -> None:
    if "Accept-Encoding" in offer:
        pytest.importorskip("backports.zstd")
    server = Server(offer=offer)
    channel = await line(server)
    await (await submit(channel))
    server.refusals = [500, 503, 429]
    await (await submit(channel))
    attempts = server.sent[1:]
    assert len(attempts) == 4
    assert len({body for _, body in attempts}) == 1
    assert len({headers["Idempotency-Key"] for headers, _ in attempts}) == 1
    assert attempts[0][0].get("Content-Encoding") == offer.get("Accept-Encoding")
    await channel.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        pack({"status": "done", "result": {**RESULT, "loss": "much"}}),
        codec.dumps({"status": "done", "result": RESULT}).replace(b"[-0.0,", b'["a",'),
        codec.dumps({"status": "done", "result": RESULT}).replace(b'"shape":[50000]', b'"shape":[50001]'),
    ],
    ids=["binary", "numbers", "shape"],
)
async def test_a_malformed_result_is_an_error_when_it_comes(line: Line, reply: bytes) -> None:
    channel = await line(Server(offer=BOTH, reply=reply))
    future = await submit(channel)
    with pytest.raises(errors.ProtocolError, match="unexpected reply"):
        await future
    await channel.aclose()
