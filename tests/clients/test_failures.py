"""Whatever a server does wrong, users get one of our errors, with the address and a message that helps.

One server on loopback plays control plane, trainer and sampler. It answers properly but for one request, where it
breaks the transport, HTTP, JSON or the protocol in some way.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest

from loops_sdk import (
    AdamParams,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    LocalDeployment,
    LoopsError,
    NotFoundError,
    OperationTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RemoteOpError,
    RequestTimeoutError,
    SamplingClient,
    SamplingParams,
    ServerFailureError,
    ServerShutdownError,
    ServiceClient,
    StatusError,
    TrainingClient,
    UnknownRequestError,
    WeightsNotReadyError,
    errors,
)
from loops_sdk._net import caller, poller
from loops_sdk._wire.retrying import Backoff

PROPER: dict[str, Any] = {
    "POST /v1/loops/sessions": {"session": {"id": "s1"}},
    "GET /v1/loops/checkpoints": {"checkpoints": []},
    "POST /optim_step": {"operation_id": "op-0"},
    "GET /operations/op-0": {"status": "done", "result": {"metrics": {"step": 1.0}}},
    "GET /v1/models": {"object": "list", "data": [{"id": "base", "object": "model", "parent": None}]},
    "POST /v1/completions": {
        "choices": [{"index": 0, "finish_reason": "length", "token_ids": [7], "logprobs": {"token_logprobs": [-0.5]}}]
    },
}


#: The first byte that a client with TLS sends.
TLS = b"\x16"


@attrs.define(eq=False)
class Server:
    """Answers what is in `PROPER`, and to requests on `line` what `wrong` says, or breaks off after it."""

    port: int = 0
    line: str = ""
    wrong: bytes = b""
    end: str = "keep"  # or "close", "abort"
    seen: list[str] = attrs.field(factory=list)
    listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (first := await reader.readexactly(1)) != TLS:
                if not await self.answer(first + await reader.readuntil(b"\r\n\r\n"), reader, writer):
                    return
            writer.write(http(400, b"this is no TLS"))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = head.decode().split("\r\n")
        sizes = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")]
        await reader.readexactly(sum(sizes))
        line = " ".join(lines[0].split()[:2]).partition("?")[0]
        self.seen.append(line)
        if line != self.line:
            writer.write(http(200, json.dumps(PROPER[line]).encode()))
            return True
        writer.write(self.wrong)
        await writer.drain()
        if self.end == "abort":
            writer.transport.abort()
        return self.end == "keep"


def http(status: int, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made, tasks = Server(), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await made.serve(reader, writer)

    made.listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.port = made.listening.sockets[0].getsockname()[1]
    yield made
    made.listening.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any pauses, and two answers of 503 are enough to believe a server that it is going down."""
    monkeypatch.setattr(caller, "Backoff", lambda: Backoff(first=0.001, cap=0.002))
    monkeypatch.setattr(poller, "MOST_SHUTDOWNS", 2)


# ---------------------------------------------------------------- the calls

TIMEOUT = 0.6


async def read(url: str) -> None:
    async with ServiceClient(base_url=url) as service:
        await service.list_checkpoints_async("r1")


async def operation(url: str) -> None:
    async with TrainingClient(url, base_model="m", timeout=TIMEOUT) as training:
        await (await training.optim_step_async(AdamParams()))


async def sample(url: str) -> None:
    async with SamplingClient(base_model="m", deployment=LocalDeployment(url), timeout=TIMEOUT) as sampling:
        await sampling.sample_async([1], sampling_params=SamplingParams(max_tokens=1))


#: What users call, and the request in it that goes wrong.
CALLS: dict[str, tuple[Callable[[str], Awaitable[None]], str]] = {
    "control plane": (read, "GET /v1/loops/checkpoints"),
    "session": (read, "POST /v1/loops/sessions"),
    "submit": (operation, "POST /optim_step"),
    "poll": (operation, "GET /operations/op-0"),
    "models": (sample, "GET /v1/models"),
    "sample": (sample, "POST /v1/completions"),
}
ANY_CALL = pytest.mark.parametrize("call", CALLS)


async def failure(call: str, url: str) -> LoopsError:
    """The error that a call ends with; it has been checked for what all of them must have."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the point is which one it is
        await CALLS[call][0](url)
    error = caught.value
    assert isinstance(error, LoopsError), repr(error)
    assert type(error).__module__ == errors.__name__
    assert error.url is not None
    assert error.url.startswith(url)
    assert error.operation
    assert error.elapsed is not None
    assert "aiohttp" not in str(error)
    assert 10 < len(error.message) < 2500
    made = pickle.loads(pickle.dumps(error))
    assert (type(made), made.message, made.context()) == (type(error), error.message, error.context())
    return error


def reason(error: LoopsError) -> LoopsError:
    """What was wrong in the end: a wait that runs out tells the last trouble."""
    if isinstance(error, RequestTimeoutError) and isinstance(error.__cause__, LoopsError):
        assert error.__cause__.message in error.message
        return error.__cause__
    return error


async def test_the_calls_work_where_nothing_is_wrong(server: Server) -> None:
    for call, _line in CALLS.values():
        await call(server.url)
    assert set(server.seen) == set(PROPER)


# ---------------------------------------------------------------- the transport

HEAD = b"HTTP/1.1 200 OK\r\n"
BROKEN: dict[str, tuple[bytes, str]] = {
    "closed before the answer": (b"", "close"),
    "reset before the answer": (b"", "abort"),
    "closed within the headers": (HEAD + b"Content-Le", "close"),
    "reset within the headers": (HEAD + b"Content-Le", "abort"),
    "reset after the headers": (HEAD + b"Content-Length: 100\r\n\r\n", "abort"),
    "a truncated body": (HEAD + b'Content-Length: 100\r\n\r\n{"status":', "close"),
    "a body beyond its length": (http(200, b'{"s') + b'tatus": "done"}', "close"),
    "a truncated chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{", "close"),
    "chunks without an end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "close"),
    "a chunk without a size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", "close"),
    "gzip that is none": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "close"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close"),
    "a server that wants TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "close"),
    "a status that is no number": (b"HTTP/1.1 fine OK\r\n\r\n", "close"),
    "a length that is no number": (HEAD + b"Content-Length: many\r\n\r\n{}", "close"),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "close"),
    "a header without a name": (HEAD + b": x\r\nContent-Length: 2\r\n\r\n{}", "close"),
    "a control character in a header": (HEAD + b"X-A: a\0b\r\nContent-Length: 2\r\n\r\n{}", "close"),
    "a header that is too long": (HEAD + b"X-A: " + b"a" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n{}", "close"),
    "a reason that is too long": (b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n", "close"),
    "continue, and no more": (b"HTTP/1.1 100 Continue\r\n\r\n", "close"),
    "early hints, and no more": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "close"),
}


@ANY_CALL
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_transport(server: Server, call: str, name: str) -> None:
    server.line, (server.wrong, server.end) = CALLS[call][1], BROKEN[name]
    error = reason(await failure(call, server.url))
    assert isinstance(error, ConnectionFailedError), repr(error)
    assert error.code == "reset"
    assert error.message.startswith(f"{server.url} broke the connection: ")
    assert not re.search(r"\n|<\w+|RawResponse|Error:", error.message), "no trace of the library below"


@pytest.mark.parametrize("call", [call for call in CALLS if call != "poll"])
async def test_nobody_listens(call: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    error = await failure(call, url)
    assert isinstance(error, ConnectionFailedError)
    assert error.code == "unreachable"
    assert error.message.startswith(f"no server answers at {url}: ")


async def test_a_trainer_that_has_gone_before_its_result_is_asked_for(server: Server) -> None:
    server.line, server.wrong, server.end = "POST /optim_step", http(202, b'{"operation_id": "op-0"}'), "close"
    async with TrainingClient(server.url, base_model="m", timeout=TIMEOUT) as training:
        assert server.listening is not None
        future = await training.optim_step_async(AdamParams())
        server.listening.close()
        with pytest.raises(OperationTimeoutError, match="the last trouble was: ") as caught:
            await future
    assert isinstance(caught.value.__cause__, ConnectionFailedError)
    assert (caught.value.operation, caught.value.operation_id) == ("optim_step", "op-0")
    assert caught.value.idempotency_key == future.idempotency_key


@pytest.mark.parametrize("call", [call for call in CALLS if call != "poll"])
async def test_tls_where_there_is_none(server: Server, call: str) -> None:
    error = await failure(call, server.url.replace("http:", "https:"))
    assert isinstance(error, ConnectionFailedError)
    assert error.code == "tls"
    assert error.message.startswith(f"no TLS connection to https://127.0.0.1:{server.port}: ")
    assert error.attempts in (1, None), "trying again would not help"


@pytest.mark.parametrize("call", [call for call in CALLS if call != "poll"])
async def test_a_name_that_does_not_resolve(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_args: Any, **_kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    error = await failure(call, "http://trainer.nowhere.example:80")
    assert isinstance(error, ConnectionFailedError)
    assert error.code == "dns"
    assert error.message.startswith("the host name of http://trainer.nowhere.example:80 does not resolve: ")


# ---------------------------------------------------------------- the protocol

GARBLED: dict[str, tuple[int, bytes]] = {
    "HTML": (200, b"<html>It works!</html>"),
    "nothing": (200, b""),
    "no content": (204, b""),
    "half of it": (200, b'{"status": "do'),
    "a number": (200, b"7"),
    "a list": (200, b"[1]"),
    "text": (200, b'"done"'),
    "bytes that are no text": (200, b"\xff\xfe\x00"),
    "more brackets than anybody reads": (200, b"[" * 100_000),
}


@ANY_CALL
@pytest.mark.parametrize("name", GARBLED)
async def test_a_garbled_answer(server: Server, call: str, name: str) -> None:
    status, body = GARBLED[name]
    server.line, server.wrong = CALLS[call][1], http(status, body, "X-Request-Id: req-7")
    error = reason(await failure(call, server.url))
    assert isinstance(error, ProtocolError), repr(error)
    assert "expected" in error.message
    assert error.status == status
    assert error.request_id == "req-7"


WRONG_SHAPES: dict[str, list[Any]] = {
    "control plane": [{}, {"checkpoints": None}, {"checkpoints": [{"id": 7}]}, {"checkpoints": {"a": 1}}],
    "session": [{}, {"session": None}, {"session": {"id": None}}],
    "submit": [{}, {"operation_id": None}, {"operation_id": ["op"]}],
    "poll": [{"status": "done"}, {"status": "done", "result": {"metrics": {"step": "many"}}}],
    "models": [{}, {"data": [{"id": None}]}, {"data": [7]}],
    "sample": [{}, {"choices": []}, {"choices": [{}, {}]}, {"choices": [{"token_ids": "abc"}]}],
}


@pytest.mark.parametrize(("call", "said"), [(call, said) for call, every in WRONG_SHAPES.items() for said in every])
async def test_an_answer_of_another_shape(server: Server, call: str, said: Any) -> None:
    server.line, server.wrong = CALLS[call][1], http(200, json.dumps(said).encode())
    error = await failure(call, server.url)
    assert isinstance(error, ProtocolError), repr(error)


@ANY_CALL
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(server: Server, call: str, status: int) -> None:
    server.line, server.wrong = CALLS[call][1], http(status, b"", "Location: http://127.0.0.1:1/thief")
    error = await failure(call, server.url)
    assert type(error) is StatusError
    assert error.status == status


# ---------------------------------------------------------------- what servers say

STATUSES: dict[int, type[LoopsError]] = {
    101: StatusError,
    304: StatusError,
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: StatusError,
    409: StatusError,
    413: BadRequestError,
    415: BadRequestError,
    418: StatusError,
    422: BadRequestError,
    429: OverloadedError,
    500: ServerFailureError,
    501: ServerFailureError,
    502: ServerFailureError,
    503: ServerShutdownError,
    504: ServerFailureError,
    599: ServerFailureError,
}
SAYING: dict[str, Any] = {
    "one of OpenAI's": {"error": {"message": "no room today", "type": "x", "code": "full"}},
    "a plain one": {"message": "no room today", "code": "full"},
}


@ANY_CALL
@pytest.mark.parametrize("status", STATUSES)
async def test_a_refusal_says_all_that_the_server_said(server: Server, call: str, status: int) -> None:
    body = b"" if status in (101, 304) else json.dumps(SAYING["a plain one"]).encode()
    server.line, server.wrong = CALLS[call][1], http(status, body, "X-Request-Id: req-7")
    error = await failure(call, server.url)
    said = reason(error)
    wanted = UnknownRequestError if call == "poll" and status == 404 else STATUSES[status]
    assert type(said) is wanted, repr(said)
    assert (said.status, said.request_id) == (status, "req-7")
    if body:
        assert "no room today" in said.message
        assert said.code == "full"
    if call == "poll":
        assert (error.operation, error.operation_id) == ("optim_step", "op-0")
    if call in ("poll", "submit"):
        assert error.idempotency_key is not None


@pytest.mark.parametrize("form", SAYING)
async def test_every_form_of_an_error_body_is_read(server: Server, form: str) -> None:
    server.line, server.wrong = CALLS["sample"][1], http(422, json.dumps(SAYING[form]).encode())
    error = await failure("sample", server.url)
    assert (error.message, error.code) == ("no room today", "full")


async def test_a_failed_operation(server: Server) -> None:
    said = {"status": "error", "error": "CUDA out of memory", "error_class": "OutOfMemoryError"}
    server.line, server.wrong = CALLS["poll"][1], http(200, json.dumps(said).encode())
    error = await failure("poll", server.url)
    assert isinstance(error, RemoteOpError)
    assert (error.error_class, error.message) == ("OutOfMemoryError", "CUDA out of memory")
    assert (error.operation, error.operation_id) == ("optim_step", "op-0")
    assert error.idempotency_key


async def test_weights_that_are_not_there_yet(server: Server) -> None:
    body = json.dumps({"message": "policy version 3 is not loaded", "code": "stale"}).encode()
    server.line, server.wrong = CALLS["sample"][1], http(409, body, "X-Request-Id: req-7")
    error = await failure("sample", server.url)
    assert isinstance(error, WeightsNotReadyError)
    assert (error.status, error.code, error.request_id) == (409, "stale", "req-7")
