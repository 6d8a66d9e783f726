"""A cheap server in a process of its own that speaks the wire of trainer and sampler, so that the client is measured.

It reads no body and works nothing out: answers are made once, and go out after the delay that was set. What is asked of
it is told from the address alone:

    POST /forward_backward, /forward, /optim_step, ...   202 and an operation, one finished after another
    GET  /operations/ID                                  the result, held until it is there
    POST /hold, /release                                 operations begin with the latter; earlier ones are forgotten
    GET  /v1/models, POST /v1/completions                a sampler that always says the same
    POST /api/v1/asample, /api/v1/retrieve_future, ...   the same for the tinker SDK, on its own wire
    GET  /connections                                    how many connections are open, and were at most
    GET  /...                                            200 {}
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import orjson
from _contest import listening

MODEL = "mock/model"
_LONGEST_POLL = 30.0


@attrs.frozen
class Mock:
    """How the server behaves.

    Attributes:
        delay: seconds an operation, or a completion, takes.
        datums, length, arrays: of the result of a pass: so many arrays per datum, log-probabilities first.
        prompt, tokens: of a completion.
        tls: with a certificate made for the occasion, to which `SSL_CERT_FILE` of this process and its children points.
    """

    delay: float = 0.0
    datums: int = 1
    length: int = 16
    arrays: int = 1
    prompt: int = 16
    tokens: int = 64
    tls: bool = False

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address of a server of its own, until the block is left."""
        with tempfile.TemporaryDirectory() as folder:
            told = json.dumps({**attrs.asdict(self), "certificate": _certificate(Path(folder)) if self.tls else ""})
            with listening(__file__, told) as port:
                yield f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"


def _certificate(folder: Path) -> str:
    """A file with key and certificate for this machine, which everybody who looks at `SSL_CERT_FILE` trusts."""
    file = str(folder / "mock.pem")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mock"
    command = [*make.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out", f"{file}.crt"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    certificate = Path(f"{file}.crt").read_text()
    Path(file).write_text(Path(file).read_text() + certificate)
    os.environ["SSL_CERT_FILE"] = f"{file}.crt"
    return file


# ---------------------------------------------------------------- what it says


def _answer(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _completion(prompt: int, tokens: int) -> bytes:
    """As vLLM writes it."""
    ids = [1000 + place * 37 % 50000 for place in range(tokens)]
    logprobs = {
        "text_offset": [place * 4 for place in range(tokens)],
        "token_logprobs": [-0.0123456789 - place * 0.001234567 for place in range(tokens)],
        "tokens": [f"token_id:{one}" for one in ids],
        "top_logprobs": None,
    }
    choice = {
        "index": 0,
        "text": "word " * tokens,
        "logprobs": logprobs,
        "finish_reason": "length",
        "stop_reason": None,
        "prompt_logprobs": None,
        "token_ids": ids,
        "prompt_token_ids": list(range(1, prompt + 1)),
    }
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + tokens, "completion_tokens": tokens}
    reply = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": MODEL, "choices": [choice]}
    return orjson.dumps({**reply, "usage": usage})


def _passed(datums: int, length: int, arrays: int) -> bytes:
    """All of a result but the time at which it was finished, which takes the place of the last metric."""
    numbers = np.random.default_rng(0)

    def output() -> dict[str, object]:
        names = ["logprobs", *(f"extra_{number}" for number in range(1, arrays))]
        values = {name: -numbers.exponential(size=length).astype(np.float32) for name in names}
        return {name: {"data": data, "dtype": "float32", "shape": [length]} for name, data in values.items()}

    outputs = [output() for _ in range(datums)]
    result = {"loss": 1.5, "loss_fn_outputs": outputs, "loss_fn_output_type": "x", "metrics": {"loss:sum": 1.5}}
    return orjson.dumps({"status": "done", "result": result}, option=orjson.OPT_SERIALIZE_NUMPY)


_STEPPED = b'{"status":"done","result":{"metrics":{"step":1.0,"learning_rate":0.001,"lr":0.001,"grad_norm":1.0}}}'


def _of_tinker(tokens: int) -> dict[str, bytes]:
    """What the tinker SDK is told on its own wire; a sample is retrieved under the id that `asample` gives."""
    replies = {
        "client/config": {},
        "client/dynamic_config": {},
        "create_session": {"session_id": "s"},
        "session_heartbeat": {},
        "create_sampling_session": {"sampling_session_id": "s:sample:0"},
        "asample": {"request_id": "r", "sample_sequence_ids": ["q"]},
        "telemetry": {"status": "accepted"},
    }
    answers = {f"/api/v1/{name}": _answer(orjson.dumps(reply)) for name, reply in replies.items()}
    ids = array("i", [1000 + place * 37 % 50000 for place in range(tokens)])
    logprobs = array("f", [-0.0123456789 - place * 0.001234567 for place in range(tokens)])
    # Protocol buffers: sequences (1) with stop_reason (1), tokens (2) and logprobs (3), arrays as their bytes.
    sequence = b"\x08\x01" + _field(2, ids.tobytes()) + _field(3, logprobs.tobytes())
    answers["/api/v1/retrieve_future"] = _answer(_field(1, sequence), kind="application/x-protobuf")
    return answers


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


# ---------------------------------------------------------------- the server


class Server:
    """What all connections share."""

    def __init__(self, mock: Mock) -> None:
        self.mock = mock
        self.models = _answer(orjson.dumps({"object": "list", "data": [{"id": MODEL, "max_model_len": 1 << 20}]}))
        self.of_tinker = _of_tinker(mock.tokens)
        self.completion = _answer(_completion(mock.prompt, mock.tokens))
        self.results = {"optim_step": _STEPPED}
        self.passed = _passed(mock.datums, mock.length, mock.arrays)
        self.kinds: list[str] = []  # of the operations, whose ids are their places
        self.held = False
        self.finish_at: list[float] = []
        self.waiting: list[Callable[[], None]] = []
        self.open = self.most = 0

    def accept(self, kind: str) -> bytes:
        operation_id = len(self.kinds)
        self.kinds.append(kind)
        if not self.held:
            self._begin(operation_id)
        return _answer(b'{"operation_id":"op-%d"}' % operation_id, "202 Accepted")

    def _begin(self, operation_id: int) -> None:
        """The operation takes its time once those before it are finished."""
        before = self.finish_at[-1] if self.finish_at else 0.0
        self.finish_at.append(max(before, time.monotonic()) + self.mock.delay)

    def hold(self) -> None:
        self.held = True
        for forgotten in (self.kinds, self.finish_at, self.waiting):
            forgotten.clear()

    def release(self) -> None:
        self.held = False
        for operation_id in range(len(self.finish_at), len(self.kinds)):
            self._begin(operation_id)
        for ask_again in self.waiting:
            ask_again()
        self.waiting.clear()

    def result(self, operation_id: int) -> bytes:
        """Finished operations say when that was, on the clock of `time.monotonic`, which all processes share."""
        body = self.results.get(self.kinds[operation_id], self.passed)
        at = self.finish_at[operation_id]
        return _answer(body[:-3] + b',"finished_at":%.6f' % at + body[-3:])


class Connection(asyncio.Protocol):
    """HTTP/1.1, as much of it as clients use: requests one after another, bodies of a known length or in chunks."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = bytearray()
        self._request = ""  # whose body is still to come
        self._left = 0  # bytes of it, or of its present chunk
        self._chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        server = self._server
        server.open += 1
        server.most = max(server.most, server.open)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.open -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._received and (self._body_ended() if self._request else self._head_ended()):
            pass

    def _head_ended(self) -> bool:
        """Whether a whole head was there and has been dealt with."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._received[:end]).lower()
        self._request = self._received[: self._received.index(b"\r\n")].decode()
        del self._received[: end + 4]
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        self._left = int(length or 0)
        if not self._chunked and not self._left:
            self._ended()
        return True

    def _body_ended(self) -> bool:
        """Whether some of a body was there and has been thrown away."""
        if self._left:
            taken = min(self._left, len(self._received))
            del self._received[:taken]
            self._left -= taken
            if not self._left and not self._chunked:
                self._ended()
            return True
        end = self._received.find(b"\r\n", 1)
        if end < 0:
            return False
        size = int(self._received[:end].split(b";")[0], 16)
        if size:
            del self._received[: end + 2]
            self._left = size + 2
            return True
        if len(self._received) < end + 4:
            return False
        del self._received[: end + 4]
        self._ended()
        return True

    def _ended(self) -> None:
        method, path, _ = self._request.split(" ")
        self._request = ""
        server = self._server
        if path == "/v1/completions":
            self._later(server.mock.delay, server.completion)
        elif path.startswith("/operations/op-"):
            self._retrieve(int(path[len("/operations/op-") :]), time.monotonic() + _LONGEST_POLL)
        elif path == "/v1/models":
            self._say(server.models)
        elif path in server.of_tinker:
            self._later(server.mock.delay if path.endswith("/retrieve_future") else 0.0, server.of_tinker[path])
        elif path == "/connections":
            self._say(_answer(b'{"open":%d,"most":%d}' % (server.open, server.most)))
        elif path in ("/hold", "/release"):
            (server.hold if path == "/hold" else server.release)()
            self._say(_answer(b"{}"))
        else:
            self._say(server.accept(path[1:]) if method == "POST" else _answer(b"{}"))

    def _retrieve(self, operation_id: int, until: float) -> None:
        """The result when it is there, 408 when it is not by `until`."""
        server, now = self._server, time.monotonic()
        if operation_id >= len(server.finish_at):
            if now >= until:
                return self._say(_answer(b"{}", "408 Request Timeout"))
            timer = self._loop.call_later(until - now, self._retrieve, operation_id, until)

            def ask_again() -> None:
                if not timer.cancelled() and now < until:
                    timer.cancel()
                    self._retrieve(operation_id, until)

            server.waiting.append(ask_again)
            return None
        at = server.finish_at[operation_id]
        if at <= now:
            self._say(server.result(operation_id))
        elif at <= until:
            self._loop.call_later(at - now, self._say_result, operation_id)
        else:
            self._later(until - now, _answer(b"{}", "408 Request Timeout"))
        return None

    def _say_result(self, operation_id: int) -> None:
        self._say(self._server.result(operation_id))

    def _later(self, delay: float, answer: bytes) -> None:
        if delay:
            self._loop.call_later(delay, self._say, answer)
        else:
            self._say(answer)

    def _say(self, answer: bytes) -> None:
        self._transport.write(answer)


async def _serve(mock: Mock, certificate: str) -> None:
    server = Server(mock)
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    serving = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=8192, ssl=context)
    print(serving.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until whoever started this closes it, or dies


def _main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    told = json.loads(sys.argv[1])
    certificate = told.pop("certificate")
    asyncio.run(_serve(Mock(**told), certificate))


if __name__ == "__main__":
    _main()
