"""`Ports`: where trainers and samplers listen. The sockets are this process's, so a child that dies takes none with it.

It decides that an address stays: over the death of a child, and, where ports are recorded, over that of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Collection
from pathlib import Path

from loops_sdk._wire.codec import decode, encode
from loops_sdk.errors import ProtocolError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.serving import cannot_listen
from loops_sdk.local.storage.files import read_if_there, write_atomically

__all__ = ["Ports", "require_free"]

_BACKLOG = 1024
#: Seconds that the children of a deployment that has just died may take to let go of their ports.
_PATIENCE = 5.0
_LOOK_AGAIN = 0.1

_log = logger(__name__)


class Ports:
    """Listening sockets by the id of what is served on them.

    Args:
        host: address to bind.
        record: file that remembers the ports for the next deployment; `None` when there is to be none.
    """

    def __init__(self, host: str, record: Path | None) -> None:
        self._host, self._record = host, record
        self._ports: dict[str, int] = {}
        self._kept: dict[str, socket.socket] = {}

    @property
    def recorded(self) -> Collection[str]:
        """The ids of what is being served, or was when an earlier deployment ended."""
        return self._ports.keys()

    async def reclaim(self) -> None:
        """Listen where an earlier deployment did: whoever connects from now on waits instead of being refused."""
        self._ports = _read(self._record)
        end = time.monotonic() + _PATIENCE
        for serve, port in self._ports.items():
            listener = self._try(port)
            while listener is None and time.monotonic() < end:
                await asyncio.sleep(_LOOK_AGAIN)
                listener = self._try(port)
            if listener is not None:
                self._kept[serve] = listener

    def _try(self, port: int) -> socket.socket | None:
        try:
            return _listener(self._host, port)
        except OSError:
            return None

    def open(self, serve: str) -> socket.socket:
        """A socket that listens for what is served, at the port it had before if that is free.

        Raises:
            DeploymentFailedError: the address cannot be bound.
        """
        listener = self._kept.pop(serve, None)
        if listener is None:
            try:
                listener = _listener(self._host, 0)
            except OSError as error:
                raise cannot_listen(self._host, 0, error) from error
        port = int(listener.getsockname()[1])
        if (before := self._ports.get(serve, port)) != port:
            _log.warning("port %d is taken: %s is served at %d from now on", before, serve, port)
        self._ports[serve] = port
        self._write()
        return listener

    def forget(self, serve: str) -> None:
        """What is not to be served again."""
        if self._ports.pop(serve, None) is not None:
            self._write()

    def release(self) -> None:
        """Close what `reclaim` opened and nobody asked for."""
        while self._kept:
            self._kept.popitem()[1].close()

    def _write(self) -> None:
        if self._record is not None:
            write_atomically(self._record, encode(self._ports))


def require_free(host: str, port: int) -> None:
    """Refuse a port that is taken before anything is loaded; 0 is always free.

    Raises:
        DeploymentFailedError: the address cannot be bound.
    """
    try:
        _listener(host, port).close()
    except OSError as error:
        raise cannot_listen(host, port, error) from error


def _read(record: Path | None) -> dict[str, int]:
    body = None if record is None else read_if_there(record)
    with contextlib.suppress(ProtocolError):
        return {} if body is None else decode(body, dict[str, int])
    _log.warning("%s is left aside: it does not say which ports there were", record)
    return {}


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
