"""Connections on which no request comes about: cut after a while, so that silent and slow clients hold no place.

It knows when requests begin and end, and what cannot be read as one; nothing of what they ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from loops_sdk.instrumentation.redacting import logger

__all__ = ["Watch", "http_log"]

#: Seconds that a connection may stay without a whole head of a request: before the first one, and between two.
PATIENCE = 30.0


class _Discreet(logging.Filter):
    """What the parser of HTTP says of a broken request quotes it, and it may have held a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.exc_info, record.exc_text = None, None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


#: Where aiohttp says what goes wrong below the application.
http_log = logger(__name__)
http_log.addFilter(_Discreet())


class Watch:
    """Cuts the connections of one server.

    Args:
        patience: seconds that a client has for the head of a request.
    """

    def __init__(self, patience: float | None = None) -> None:
        self._patience = PATIENCE if patience is None else patience
        self._busy: set[object] = set()
        self._quiet_since: dict[web.RequestHandler, float] = {}

    @web.middleware
    async def count(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """A connection is busy from the head of a request until the last byte of the answer is written."""
        connection = request.protocol
        self._busy.add(connection)
        try:
            response = await handler(request)
            with contextlib.suppress(ConnectionError):  # aiohttp finds out for itself that the client has gone
                await response.prepare(request)
                await response.write_eof()
            return response
        finally:
            self._busy.discard(connection)
            self._quiet_since[connection] = time.monotonic()

    async def run(self, connections: Callable[[], Iterable[web.RequestHandler]]) -> None:
        """Look at the open connections until cancelled."""
        while True:
            await asyncio.sleep(self._patience / 4)
            self._cut(connections(), time.monotonic())

    def _cut(self, connections: Iterable[web.RequestHandler], now: float) -> None:
        self._quiet_since = {one: self._quiet_since.get(one, now) for one in connections}
        for connection, since in self._quiet_since.items():
            if connection not in self._busy and now - since >= self._patience:
                connection.force_close()
