"""What all servers of the deployment share: the key on routes, bodies, errors as JSON, start and stop.

It decides how a server says no and how it ends. It knows HTTP, and nothing of training, sampling or runs.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import re
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Literal, TypeVar

import aiohttp
from aiohttp import web

from loops_sdk._wire.codec import decode_request, dumps
from loops_sdk._wire.failures import status_of
from loops_sdk.errors import (
    AuthenticationError,
    BadRequestError,
    DeploymentFailedError,
    InvalidInputError,
    LoopsError,
    RequestTimeoutError,
)
from loops_sdk.instrumentation.redacting import keep_out_of_logs, logger
from loops_sdk.local.connections import Watch, http_log

__all__ = [
    "WATCHING",
    "ErrorForm",
    "Handler",
    "Server",
    "application",
    "cannot_listen",
    "json_reply",
    "query",
    "read_body",
    "read_request",
    "whole_number",
]

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: How an error body looks: FastAPI's, OpenAI's, or the control plane's.
ErrorForm = Literal["detail", "openai", "plain"]

#: Below this path are the questions of who only watches: they are no use of a server and keep no run awake.
WATCHING = "/local/v1/watching"
BODY_LIMIT = 512 * 2**20
#: Above this size a body is decoded in a thread, so that the event loop goes on.
LARGE = 64 * 2**10
_BODY_IDLE = 30.0
#: Bytes per second that a body must come with on the whole, after the first half a minute.
_LEAST_RATE = 4 * 2**10
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CODES = {
    400: "VALIDATION_ERROR",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TIMEOUT",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    422: "VALIDATION_ERROR",
    429: "TOO_MANY_REQUESTS",
    503: "UNAVAILABLE",
}

_log = logger(__name__)


def application(
    *, api_key: str, form: ErrorForm, body_limit: int = BODY_LIMIT, keyless: Collection[str] = ()
) -> web.Application:
    """An application without routes that wants the key on all of them and answers every failure in `form`.

    Args:
        keyless: names of the routes that want no key, because what they serve is protected in another way.
    """
    keep_out_of_logs(api_key)
    wants = [_answer_always(form), _want_key(api_key, keyless), _want_host]
    return web.Application(middlewares=wants, client_max_size=body_limit)


def json_reply(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A reply whose body is JSON already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def read_request(request: web.Request, kind: type[T]) -> T:
    """The request's body as a value, decoded off the event loop when it is large.

    Raises:
        InvalidInputError: not JSON, not of this shape, or an unknown field.
    """
    body = await read_body(request)
    if len(body) < LARGE:
        return decode_request(body, kind)
    return await asyncio.to_thread(decode_request, body, kind)


async def read_body(request: web.Request) -> bytes:
    """The whole body, within the application's limit and while bytes keep coming.

    Raises:
        BadRequestError: 413, more than the limit; 400, a body that broke off or cannot be decompressed.
        RequestTimeoutError: no byte came for 30 s, or all of them too slowly.
    """
    limit = request.client_max_size
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    began = time.monotonic()
    while chunk := await _next_chunk(request, began + _BODY_IDLE + size / _LEAST_RATE):
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def _next_chunk(request: web.Request, deadline: float) -> bytes:
    try:
        async with asyncio.timeout(min(_BODY_IDLE, max(0.0, deadline - time.monotonic()))):
            return await request.content.readany()
    except TimeoutError:
        text = f"body: nothing came for {_BODY_IDLE:.0f} s, or less than {_LEAST_RATE} bytes a second on the whole"
        raise RequestTimeoutError(text, status=408) from None
    except (web.RequestPayloadError, aiohttp.ClientError, ValueError) as error:
        raise BadRequestError(f"body: {error}", status=400) from None


def _too_large(limit: int) -> BadRequestError:
    return BadRequestError(f"body: larger than the {limit} bytes that this server takes", status=413)


def query(request: web.Request, *allowed: str) -> dict[str, str]:
    """The query parameters, none of them unknown or repeated.

    Raises:
        InvalidInputError: one that is; the message names it.
    """
    for name in request.query:
        if name not in allowed:
            raise InvalidInputError(f"{name}: no such query parameter (known: {', '.join(allowed) or 'none'})")
        if len(request.query.getall(name)) > 1:
            raise InvalidInputError(f"{name}: given more than once")
    return dict(request.query)


def whole_number(name: str, text: str, least: int) -> int:
    """The value of a query parameter, which is text.

    Raises:
        InvalidInputError: not a whole number of at most nine digits, or less than `least`.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= least):
        raise InvalidInputError(f"{name}: expected a whole number >= {least}, got {text[:80]!r}")
    return int(text)


# ---------------------------------------------------------------- middlewares


def _want_key(api_key: str, keyless: Collection[str]) -> Callable[..., Any]:
    expected = api_key.encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name in keyless:
            return await handler(request)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        key = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() not in ("bearer", "api-key") or not hmac.compare_digest(key, expected):
            raise AuthenticationError("the Authorization header holds no valid key", status=401)
        return await handler(request)

    return check


@web.middleware
async def _want_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a client calls this server comes back to it in addresses, so it must be a host."""
    host = request.headers.get("Host", "localhost")
    match = _HOST.fullmatch(host)
    if match is None or int((match[2] or ":0")[1:]) > 65535:
        raise BadRequestError(f"Host: expected the name of a host, with or without port, got {host[:80]!r}", status=400)
    return await handler(request)


def _answer_always(form: ErrorForm) -> Callable[..., Any]:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = _request_id(request)
        try:
            response = await handler(request)
        except LoopsError as error:
            response = _error_reply(form, _status(error), error.message, error.retry_after)
        except web.HTTPException as error:
            response = _error_reply(form, error.status, f"{error.reason}: {request.method} {request.path}", None)
            response.headers.update({"Allow": error.headers["Allow"]} if "Allow" in error.headers else {})
        except Exception:
            _log.exception("%s %s failed (request %s)", request.method, request.path, request_id)
            message = f"an error of the server's own; its log has more about request {request_id}"
            response = _error_reply(form, 500, message, None)
        response.headers["X-Request-Id"] = request_id
        return response

    return answer


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _status(error: LoopsError) -> int:
    return error.status or status_of(error)


def _error_reply(form: ErrorForm, status: int, message: str, retry_after: float | None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return json_reply(dumps(_error_body(form, status, message)), status=status, headers=headers)


def _error_body(form: ErrorForm, status: int, message: str) -> dict[str, Any]:
    code = _CODES.get(status, "ERROR" if status < 500 else "INTERNAL_ERROR")
    # A lone surrogate, which a client may well have sent and a message may quote, has no UTF-8.
    text = message.encode("utf-8", "replace").decode()
    if form == "openai":
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": text, "type": kind, "code": code.lower()}}
    return {"detail": text} if form == "detail" else {"code": code, "message": text}


# ---------------------------------------------------------------- start and stop


def cannot_listen(host: str, port: int, error: OSError) -> DeploymentFailedError:
    """What is said of an address that cannot be bound."""
    taken = error.errno == errno.EADDRINUSE
    cause = "another program listens there; choose another port, 0 takes any that is free" if taken else error
    return DeploymentFailedError(f"cannot listen on {host}:{port} ({cause})")


class Server:
    """An application on a port.

    Args:
        app: what answers.
        host: address to bind.
        port: port to bind; 0 means any that is free.
        listener: a socket that listens already, in place of host and port.
        cancel_on_disconnect: whether a handler is cancelled when its client goes away.
        grace: seconds that running handlers have when the server stops, before they are cancelled.
        head_timeout: seconds that a client has for the head of a request; default 30.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        listener: socket.socket | None = None,
        cancel_on_disconnect: bool = False,
        grace: float = 1.0,
        head_timeout: float | None = None,
    ) -> None:
        self._host, self._wanted, self._listener = host, port, listener
        self._watch = Watch(head_timeout)
        app.middlewares.insert(0, self._watch.count)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=http_log,
            handler_cancellation=cancel_on_disconnect,
            shutdown_timeout=grace,
        )
        self._watching: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        address = self._runner.addresses[0]
        return int(address[1])

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            DeploymentFailedError: the address cannot be bound. Nothing is left open then.
        """
        try:
            await self._runner.setup()
            await self._site().start()
        except OSError as error:
            await self._runner.cleanup()
            raise cannot_listen(self._host, self._wanted, error) from error
        listening = self._runner.server
        assert listening is not None  # `setup` made it
        watch = self._watch.run(lambda: listening.connections)
        self._watching = asyncio.create_task(watch, name="watch the connections")

    def _site(self) -> web.BaseSite:
        if self._listener is not None:
            return web.SockSite(self._runner, self._listener)
        return web.TCPSite(self._runner, self._host, self._wanted)

    async def aclose(self) -> None:
        """Stop listening, let handlers finish within the grace, close every connection."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._runner.cleanup()
