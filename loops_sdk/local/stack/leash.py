"""`Leash`: a child's tie to its parent. Standard input is a socket that brings orders, one of them with the socket to
listen on, and its end means that the parent is gone.

It decides how a child ends: whatever it is doing, within about a second. Reports go to the parent over what was
standard output; everything that libraries print goes to the log instead.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import orjson

from loops_sdk.local.storage import detach_and_remove

__all__ = ["Leash"]

_LOOK_FOR_PARENT = 1.0


class Leash:
    """Taken once, first thing in a child's life.

    Args:
        temporary: folder to remove when the parent has gone without a word; `None` when nothing is to be removed.
    """

    def __init__(self, temporary: Path | None) -> None:
        self._temporary = temporary
        self._parent = os.getppid()
        self._line = socket.socket(fileno=0)
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listeners: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._reports = os.dup(1)
        os.dup2(2, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
        threading.Thread(target=self._watch, name="leash", daemon=True).start()

    def report(self, event: str, **fields: Any) -> None:
        """Tell the parent; a parent that is gone hears nothing."""
        try:
            os.write(self._reports, orjson.dumps({"event": event, **fields}) + b"\n")
        except OSError:
            self._let_go()

    def next_order(self) -> dict[str, Any]:
        """Wait for the parent's next line. Blocks: ask in a thread."""
        return self._orders.get()

    def next_listener(self) -> socket.socket:
        """The socket that came with an order: the parent's, which outlives this process."""
        return self._listeners.get()

    def _watch(self) -> None:
        pending = b""
        try:
            while chunk := self._read():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._orders.put(orjson.loads(line))
        finally:
            self._let_go()

    def _read(self) -> bytes:
        """The next bytes; none when the parent is gone, also when a process that it forked still holds the pipe."""
        while os.getppid() == self._parent:
            if select.select([self._line], [], [], _LOOK_FOR_PARENT)[0]:
                return self._receive()
        return b""

    def _receive(self) -> bytes:
        received, descriptors, _, _ = socket.recv_fds(self._line, 65536, 8)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._listeners.put(socket.socket(fileno=descriptor))
        return received

    def _let_go(self) -> None:
        if self._temporary is not None:
            detach_and_remove(self._temporary)
        os._exit(0)
