"""`Process`: a child from the outside. It starts one, hears its reports, and ends it in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from loops_sdk.errors import DeploymentFailedError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.control_plane import State

__all__ = ["Process"]

_log = logger(__name__)
_TAIL_LINES, _TAIL_BYTES = 15, 8192
#: A thread of OpenMP that waits for the others sleeps. By default it spins, and keeps those from the core that it waits
#: for when trainer, sampler and user share the cores: steps took ten times as long then.
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}


class Process:
    """One child process.

    Args:
        name: for messages and the name of its log.
        module: what ``python -m`` runs.
        log: where its standard error goes.
        data_dir: the data directory.
        temporary: whether the child removes it when its parent dies.
    """

    def __init__(self, name: str, module: str, *, log: Path, data_dir: Path, temporary: bool) -> None:
        self.name = name
        self._arguments = (sys.executable, "-P", "-m", module, str(data_dir), "temporary" if temporary else "kept")
        # torch makes a folder for what it compiles when it is imported; in the temporary one if nothing is said.
        self._scratch = {"TORCHINDUCTOR_CACHE_DIR": str(data_dir / "cache" / "torchinductor")}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._heard: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()
        self._orders: socket.socket | None = None
        self._used_at = time.monotonic()
        self._ready_at: float | None = None
        self._ended_at: float | None = None
        self._stopping = False
        self._ended = False

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else None
        return f"<{self.name} pid={pid} {self.state}>"

    @property
    def state(self) -> State:
        """What it is up to, as the control plane calls it."""
        if self._stopping:
            return "stopped"
        if self._ended or "failed" in self._heard:
            return "failed"
        return "ready" if "ready" in self._heard else "starting"

    @property
    def idle(self) -> float:
        """Seconds since a client last asked anything of it, at most a few too many; since it was given something to
        serve when none has.
        """
        return time.monotonic() - self._used_at

    @property
    def ended(self) -> bool:
        """Whether the process has been and is gone."""
        return self._ended

    @property
    def refused(self) -> bool:
        """Whether it said itself that it cannot serve, so that another one like it could not either."""
        return "failed" in self._heard

    @property
    def served_for(self) -> float | None:
        """Seconds from its being ready to its end, or until now; `None` when it has not been ready."""
        return None if self._ready_at is None else (self._ended_at or time.monotonic()) - self._ready_at

    async def start(self, settings: dict[str, Any]) -> None:
        """Start it. It begins to load at once.

        Raises:
            OSError: the machine refuses another process.
        """
        self._orders, theirs = socket.socketpair()
        self._orders.setblocking(False)
        try:
            self._process = await self._spawn(theirs)
        except BaseException:
            self._close_orders()
            raise
        finally:
            theirs.close()
        self._listener = asyncio.create_task(self._listen(self._process), name=f"listen to {self.name}")
        self._send(settings)

    async def _spawn(self, line: socket.socket) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=line.fileno(),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**_PATIENT, **self._scratch, **os.environ, "PYTHONPATH": _import_path()},
                start_new_session=True,  # Ctrl-C is for its parent; uvloop knows no process_group
            )

    def _close_orders(self) -> None:
        if self._orders is not None:
            self._orders.close()

    def assign(self, serve: str, listener: socket.socket) -> None:
        """Tell it what to serve, and on which socket. However long it has waited for that, it counts as used now."""
        self._used_at = time.monotonic()
        self._send({"serve": serve}, listener)

    async def reassign(self, serve: str, listener: socket.socket, timeout: float) -> None:
        """Tell one that is ready to serve something else, and wait until it listens again.

        Raises:
            DeploymentFailedError: it ended instead, or took longer than `timeout` seconds.
        """
        for event in ("listening", "ready"):
            self._heard.pop(event, None)
        self.assign(serve, listener)
        await self.hear("listening", timeout)

    def _send(self, order: dict[str, Any], *sockets: socket.socket) -> None:
        """Send a line; a child that is gone misses it, and its state says so."""
        assert self._orders is not None  # started
        line = orjson.dumps(order) + b"\n"
        with contextlib.suppress(OSError):  # it reads at once, always: short lines never fill the socket
            if sockets:
                socket.send_fds(self._orders, [line], [one.fileno() for one in sockets])
            else:
                self._orders.sendall(line)

    async def gone(self) -> None:
        """Wait for its end."""
        assert self._listener is not None  # started
        await asyncio.wait((self._listener,))

    async def hear(self, event: str, timeout: float) -> dict[str, Any]:
        """Wait for a report.

        Raises:
            DeploymentFailedError: the child failed or ended first; the message has the last lines of its log.
        """
        try:
            async with asyncio.timeout(timeout):
                while event not in self._heard:
                    if self._ended:
                        raise DeploymentFailedError(self._obituary())
                    await self._news.wait()
        except TimeoutError:
            text = f"the {self.name} was not {event} within {timeout:g} s; the last lines of its log:\n{self._tail()}"
            raise DeploymentFailedError(text) from None
        return self._heard[event]

    async def stop(self, grace: float = 2.5) -> None:
        """Ask it to end, wait `grace` seconds, make it end. A process that has ended is no error."""
        self._stopping = True
        if self._process is None:
            return
        try:
            self._signal("terminate")
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            _log.info("the %s did not end within %.1f s and is killed", self.name, grace)
        finally:
            self.kill()
        if self._listener is not None:
            await self._listener

    def kill(self) -> None:
        """End it now."""
        self._stopping = True
        self._signal("kill")

    def _signal(self, how: str) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                getattr(self._process, how)()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # started with a pipe
        while line := await process.stdout.readline():
            report = orjson.loads(line)
            self._heard[report["event"]] = report
            if report["event"] in ("listening", "used"):
                self._used_at = time.monotonic()
            if report["event"] == "ready":
                self._ready_at = time.monotonic()
            self._tell()
        await process.wait()
        if not self._stopping:
            _log.error("%s", self._obituary())
        self._close_orders()
        self._ended, self._ended_at = True, time.monotonic()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _obituary(self) -> str:
        if "failed" in self._heard:
            return f"the {self.name} failed: {self._heard['failed']['message']}"
        code = self._process.returncode if self._process else None
        return f"the {self.name} ended with exit code {code}; the last lines of its log, {self._log}:\n{self._tail()}"

    def _tail(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
            return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
        return "  (none)"


def _import_path() -> str:
    """Where the child finds this very package, whatever its current folder holds."""
    root = str(Path(__file__).resolve().parents[3])
    return os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
