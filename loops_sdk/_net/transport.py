"""One pool of connections: a request goes out once, a whole answer or one of our own errors comes back.

It decides who sees the key and what a transport failure is called. Whether to try again is not decided here.
"""

from __future__ import annotations

import asyncio
import platform
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import aiohttp
import attrs
from yarl import URL

from loops_sdk._net.addresses import may_name, origin, proxy_for
from loops_sdk._net.deadlines import Deadlines
from loops_sdk._net.gate import Gate, most_connections
from loops_sdk._wire.failures import request_id
from loops_sdk._wire.forms import Body
from loops_sdk.errors import (
    CLOSED,
    ClientClosedError,
    ConnectionFailedError,
    InvalidInputError,
    LoopsError,
    ProtocolError,
    RequestTimeoutError,
)

T = TypeVar("T")

_PIECE = 256 * 1024
_MOST = 64 * 2**20
_MOST_OF_REFUSAL = 2**20
_CONNECT_TIMEOUT = 10.0
#: How long a whole request may take is not aiohttp's business: see `Deadlines`.
_CONNECTING = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
#: Connections to one server before further requests wait for one of them to be free.
_USUAL = 1000
#: Seconds an idle connection is kept for the next request.
_KEEP_IDLE = 15.0
#: Most characters of a cause in a message: a parser may quote all that it was given.
_MOST_CAUSE = 300
#: First probe after 20 s of silence; three lost ones, 10 s apart, end the connection.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
#: What stands in an answer where the key stood. Keys that are shorter are words, not secrets.
_BLANK = b"(the API key)"
_SHORTEST_KEY = 16
_USER_AGENT = f"loops-sdk (Python/{platform.python_version()}; {platform.system()})"


@attrs.frozen
class Response:
    """A whole answer, whatever its status. `headers` look up case-insensitively."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def context(self) -> dict[str, Any]:
        """What an error about this answer carries."""
        return {"status": self.status, "request_id": request_id(self.headers)}


@attrs.frozen
class Stream:
    """An answer whose body is still to come: each call of `piece` brings some of it, an empty one is its end."""

    status: int
    headers: Mapping[str, str]
    piece: Callable[[], Awaitable[bytes]]


class Transport:
    """An aiohttp session that opens on first use and belongs to the event loop of that use.

    Args:
        api_key: sent as a bearer token to trusted origins only; empty means that no ``Authorization`` is sent.
        max_connections: most connections to one server; `None` means as many as gain something.
    """

    def __init__(self, *, api_key: str, max_connections: int | None = None) -> None:
        self._api_key = api_key
        self._max_connections = max_connections
        self._trusted: dict[str, str | None] = {}
        self._gates: dict[str, Gate] = {}
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines = Deadlines()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._session is None else "open"
        return f"<Transport {state}, {len(self._trusted)} origins>"

    def trust(self, url: str, argument: str = "url", *, named_by: str | None = None) -> None:
        """Allow the key to travel to the origin of `url`.

        Args:
            argument: what the user calls this address.
            named_by: the server that named this address, when it was not the user: then the key goes there only over
                TLS, on this machine, or to the host of the server that named it.

        Raises:
            InvalidInputError: not an address.
            ProtocolError: a server named what is not an address, or one that the key must not travel to.
        """
        try:
            place = origin(url, argument)
        except InvalidInputError as error:
            if named_by is None:
                raise
            raise ProtocolError(f"{named_by} named an unusable address: {error.message}") from None
        if named_by is not None and not may_name(named_by, url):
            raise ProtocolError(f"{named_by} named {place}, which is not https: the key is not sent there")
        self._trusted[place] = proxy_for(url)

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | Body | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        timeout: float,
        most: int = _MOST,
    ) -> Response:
        """Send once and read the whole answer.

        Args:
            most: bytes that the answer may have.

        Raises:
            ConnectionFailedError: `code` is ``dns``, ``tls``, ``unreachable`` (nothing was sent) or ``reset``.
            RequestTimeoutError: no whole answer within `timeout` seconds.
            ProtocolError: the answer is longer than `most`.
            ClientClosedError: the transport is closed.
        """
        session = self._open()
        place = origin(url)
        request = partial(
            session.request,
            method,
            url,
            data=_sent(body),
            headers={**self._headers(place, body), **(headers or {})},
            params=params,
            proxy=self._trusted.get(place),
            allow_redirects=False,
        )
        return await self._translating(self._answer(request, self._gate(place), most, timeout), url, timeout)

    async def _answer(
        self,
        request: Callable[[], AbstractAsyncContextManager[aiohttp.ClientResponse]],
        gate: Gate,
        most: int,
        timeout: float,
    ) -> Response:
        async with self._deadlines.within(timeout), gate, request() as response:
            whole = await _whole(response, most)
            return Response(response.status, self._blanked_headers(response), self._blanked(whole))

    @asynccontextmanager
    async def stream(self, url: str, *, headers: Mapping[str, str], idle: float) -> AsyncIterator[Stream]:
        """Ask an address that is itself the permission to read, and read the answer piece by piece.

        The key is not sent, whoever `url` belongs to. The address goes out as it was signed, and no error shows its
        query. Compression is declined, so that bytes can be counted; redirects are not followed.

        Raises:
            RequestTimeoutError: nothing came for `idle` seconds; this and the following also while reading.
            ConnectionFailedError, ClientClosedError: as `request`.
        """
        session, shown = self._open(), url.partition("?")[0]
        sent = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=idle)
        try:
            async with self._deadlines.within(), self._gate(origin(url)):
                request = session.get(
                    URL(url, encoded=True), headers=sent, proxy=proxy_for(url), timeout=timeout, allow_redirects=False
                )
                response = await self._translating(request, shown, idle)

                def piece() -> Awaitable[bytes]:
                    return self._translating(response.content.read(_PIECE), shown, idle)

                try:
                    yield Stream(response.status, response.headers, piece)
                finally:
                    response.close()
        except TimeoutError:
            if self._closed:
                raise ClientClosedError("the client was closed while it read an answer", url=shown) from None
            raise

    async def pause(self, seconds: float) -> None:
        """Sleep between two requests.

        Raises:
            ClientClosedError: the transport was closed meanwhile.
        """
        try:
            async with self._deadlines.within():
                await asyncio.sleep(seconds)
        except TimeoutError:
            raise ClientClosedError("the client was closed while it waited to try again") from None

    async def aclose(self) -> None:
        """Close the pool; requests and pauses under way end with `ClientClosedError`."""
        self._closed = True
        self._deadlines.end()  # closing the pool alone would leave them waiting until their time is up
        if self._session is not None:
            await self._session.close()

    def require_open(self) -> None:
        """Bind the client to the running event loop.

        Raises:
            ClientClosedError: the client was closed.
            LoopsError: it was first used in another event loop.
        """
        if self._closed:
            raise ClientClosedError(CLOSED)
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise LoopsError(
                "this client belongs to another event loop: make one client per loop, or use loops_sdk_sync"
            )
        self._loop = loop

    def _open(self) -> aiohttp.ClientSession:
        self.require_open()
        if self._session is None:
            # Without a limit: that is the gates' business.
            connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket, keepalive_timeout=_KEEP_IDLE)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=_CONNECTING
            )
        return self._session

    def _gate(self, place: str) -> Gate:
        """One per server, so that requests which a sampler keeps waiting never stand in a trainer's way."""
        gate = self._gates.get(place)
        if gate is None:
            limit = self._max_connections
            gate = Gate(_USUAL, most=most_connections()) if limit is None else Gate(limit, most=limit)
            self._gates[place] = gate
        return gate

    def _headers(self, place: str, body: bytes | Body | None) -> dict[str, str]:
        headers = {"User-Agent": _USER_AGENT}
        if self._api_key and place in self._trusted:
            headers["Authorization"] = f"Bearer {self._api_key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(body))
        if isinstance(body, Body):
            headers |= body.headers
        return headers

    def _hidden(self, text: str) -> str:
        return self._blanked(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _blanked(self, body: bytes) -> bytes:
        """A body as it came, but for the key: some servers repeat it when they refuse it, and what they say ends up in
        errors and logs.
        """
        key = self._api_key.encode()
        return body.replace(key, _BLANK) if len(key) >= _SHORTEST_KEY else body

    def _blanked_headers(self, response: aiohttp.ClientResponse) -> Mapping[str, str]:
        headers, key = response.headers, self._api_key
        telling = [name for name, value in headers.items() if len(key) >= _SHORTEST_KEY and key in value]
        if not telling:
            return headers
        copy = headers.copy()
        for name in telling:
            copy[name] = _BLANK.decode()
        return copy

    async def _translating(self, work: Awaitable[T], url: str, timeout: float) -> T:
        """What `work` gives, its failures under our own names."""
        try:
            return await work
        except (aiohttp.ClientError, OSError, ssl.SSLError, TimeoutError, UnicodeError) as error:
            failure, cause = self._translated(error, url, timeout), self._harmless(error)
        # Outside of the block, or what it caught would stay attached to what is raised.
        raise failure from cause

    def _translated(self, error: Exception, url: str, timeout: float) -> LoopsError:
        if self._closed:
            return ClientClosedError("the client was closed during the request", url=url)
        if isinstance(error, aiohttp.InvalidURL):
            return InvalidInputError(f"url: {url!r} is not an address")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _failed("unreachable", url, f"no connection within {min(timeout, _CONNECT_TIMEOUT):g} s")
        if isinstance(error, TimeoutError):
            return RequestTimeoutError(f"no answer from {origin(url)} within {timeout:g} s", url=url)
        return _failed(_code(error), url, self._hidden(_cause(error)))

    def _harmless(self, error: Exception) -> Exception:
        """The cause to tell. What aiohttp says of an answer quotes it, and may hold the request with its headers."""
        return error if isinstance(error, OSError | UnicodeError) else ConnectionError(self._hidden(_cause(error)))


def _code(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError | UnicodeError):  # the latter: not even a possible name
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls"
    return "unreachable" if isinstance(error, aiohttp.ClientConnectorError) else "reset"


def _cause(error: Exception) -> str:
    """What the operating system, TLS or the HTTP parser said, on one line, without aiohttp's additions."""
    if isinstance(error, aiohttp.InvalidURL):
        return "it is not an address"  # which may be a signed one, and is not repeated
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it hung up before it had answered"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    elif isinstance(error, aiohttp.ClientPayloadError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    message = getattr(error, "message", None)
    text = message if isinstance(message, str) else str(error)
    return " ".join(text.split())[:_MOST_CAUSE] or type(error).__name__


_MEANING = {
    "dns": "the host name of {place} does not resolve",
    "tls": "no TLS connection to {place}",
    "unreachable": "no server answers at {place}",
    "reset": "{place} broke the connection",
}


#: What a cause means that few people know by its name.
_KNOWN = {
    "WRONG_VERSION_NUMBER": "it speaks http, not https",
    "CERTIFICATE_VERIFY_FAILED": "SSL_CERT_FILE=FILE names the certificate of an authority of your own",
}


def _failed(code: str, url: str, cause: str) -> ConnectionFailedError:
    known = next((f"; {meaning}" for name, meaning in _KNOWN.items() if name in cause), "")
    advice = "" if code == "reset" else "; `loops doctor` looks for the reason"
    return ConnectionFailedError(
        f"{_MEANING[code].format(place=origin(url))}: {cause}{known}{advice}", code=code, url=url
    )


def _sent(body: bytes | Body | None) -> bytes | AsyncIterator[memoryview] | None:
    """What aiohttp is given; made anew for every attempt."""
    return _pieces(body) if isinstance(body, Body) or (body is not None and len(body) > _PIECE) else body


async def _pieces(body: bytes | Body) -> AsyncIterator[memoryview]:
    """A large body in pieces, so that other tasks run while it is sent."""
    for part in body.parts if isinstance(body, Body) else (body,):
        view = memoryview(part)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]


async def _whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, unless it is longer than anybody wants: a server that goes on for ever must not fill the memory. What
    comes with a refusal is cut, because its beginning says enough.
    """
    refused = not 200 <= response.status < 300
    most = min(most, _MOST_OF_REFUSAL) if refused else most
    announced = response.content_length
    if announced is not None and announced <= most and "Content-Encoding" not in response.headers:
        return await response.read()
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > most and refused:
            return b"".join([*chunks, chunk])[:most]
        if size > most:
            raise ProtocolError(
                f"the answer is longer than {most} bytes", url=str(response.url), status=response.status
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A TCP socket with keep-alive: proxies cut idle connections without telling, and a dead peer says nothing."""
    family, kind, protocol = address[:3]
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if hasattr(socket, option):  # not every platform can be told
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
