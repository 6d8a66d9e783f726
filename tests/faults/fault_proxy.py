"""A proxy on loopback that does to HTTP what networks and servers do to it on a bad day, after a seeded plan.

It stands between a client and one server, reads whole requests, and lets a fault decide what becomes of each. It knows
HTTP/1.1 with ``Content-Length``, which is all that client and servers use, and nothing of training.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Self

import attrs

#: RST instead of FIN when the socket is closed.
_ABORT = struct.pack("ii", 1, 0)
_HEAD = 64 * 2**10


class Gone(Exception):
    """The connection ends here."""


@attrs.define
class Plan:
    """Which fault meets which request, drawn from a seed.

    Args:
        faults: what may happen, by name.
        rate: share of requests that meet a fault.
        only: path prefixes that may meet one; empty means all.
    """

    faults: Sequence[str]
    rate: float = 0.2
    seed: int = 0
    only: tuple[str, ...] = ()
    met: Counter[str] = attrs.field(factory=Counter, init=False)
    passed: int = attrs.field(default=0, init=False)
    _random: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self, request: Request) -> tuple[str | None, random.Random]:
        """The fault that this request meets, and the source of its details."""
        open_to = not self.only or request.path.startswith(self.only)
        if not open_to or not self.faults or self._random.random() >= self.rate:
            self.passed += 1
            return None, self._random
        name = self._random.choice(self.faults)
        self.met[name] += 1
        return name, self._random


@attrs.frozen
class Request:
    """A whole request as it came."""

    method: str
    path: str
    raw: bytes


@attrs.define(eq=False)
class Exchange:
    """One request and the ways to answer it."""

    request: Request
    writer: asyncio.StreamWriter
    proxy: FaultProxy
    random: random.Random

    async def forward(self) -> bytes:
        """What the server says. A server that is not there is a connection that breaks, as for any proxy."""
        try:
            reader, writer = await asyncio.open_connection(*self.proxy.target)
        except OSError:
            self.reset()
        try:
            writer.write(self.request.raw)
            await writer.drain()
            return await _message(reader) or b""
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.reset()
        finally:
            writer.close()

    async def answer(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(OSError):
            await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off.

        Raises:
            Gone: always.
        """
        sock: socket.socket = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.writer.transport.abort()
        raise Gone

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the proxy."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.proxy.closing.wait(), seconds)
            raise Gone

    def some_byte(self, data: bytes) -> int:
        """A place inside `data`: in the middle of its head or of its body."""
        return self.random.randrange(1, max(2, len(data)))


Fault = Callable[[Exchange], Awaitable[None]]


class FaultProxy:
    """Listens on a port of its own: ``async with FaultProxy(server_url, plan) as proxy: proxy.url``.

    Args:
        target: host and port of the server. It may be exchanged while the proxy runs.
        plan: what happens to whom; `calm` switches it off and on.
        faults: the faults that the plan names.
    """

    def __init__(self, target: tuple[str, int], plan: Plan, faults: dict[str, Fault]) -> None:
        self.target = target
        self.plan = plan
        self.calm = False
        self.closing = asyncio.Event()
        self.delivered = asyncio.Event()
        self.connections = 0
        self._faults = faults
        self._listener: socket.socket | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        self.refuse()
        await asyncio.sleep(0)  # a connection that has just been accepted gets an owner first
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _listen(self) -> None:
        """Take connections, on the same port as before.

        Without `asyncio.Server`, which loses a connection that is accepted while it closes.
        """
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(1024)
        self.port = listener.getsockname()[1]
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError):
            accepted, _ = self._listener.accept()
            self._own(self._connected(accepted))

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def refuse_for(self, seconds: float) -> None:
        """Refuse new connections for a while, unless they are refused already."""
        if self._listener is not None:
            self.refuse()
            self._own(self._listen_after(seconds))

    async def _listen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._listen()

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _connected(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=accepted, limit=_HEAD)
        self.connections += 1
        try:
            while (request := await _request(reader)) is not None:
                await self._handle(Exchange(request, writer, self, self.plan._random))
        except (Gone, OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the client has gone, or has been sent away
        finally:
            writer.close()

    async def _handle(self, exchange: Exchange) -> None:
        name, details = (None, self.plan._random) if self.calm else self.plan.draw(exchange.request)
        exchange.random = details
        if name is None:
            await exchange.answer(await exchange.forward())
        else:
            await self._faults[name](exchange)
        self.delivered.set()
        self.delivered = asyncio.Event()


async def _request(reader: asyncio.StreamReader) -> Request | None:
    raw = await _message(reader)
    if raw is None:
        return None
    method, path, _ = raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    return Request(method, path, raw)


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """A whole message; `None` when the connection ended before one began."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    return head + await reader.readexactly(_length(head))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
