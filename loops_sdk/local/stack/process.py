"""`Process`: a child from the outside. It starts one, hears its reports, and ends it in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local.control_plane import State

__all__ = ["Process"]

_log = logging.getLogger(__name__)
_TAIL_LINES, _TAIL_BYTES = 15, 8192


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
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._heard: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()
        self._used_at = time.monotonic()
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
    def port(self) -> int:
        """Where it listens."""
        return int(self._heard["listening"]["port"])

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

    async def start(self, settings: dict[str, Any], timeout: float) -> None:
        """Start it and wait until it listens.

        Raises:
            DeploymentFailedError: it ended instead, or took longer than `timeout` seconds.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": _import_path()},
                process_group=0,
            )
        self._listener = asyncio.create_task(self._listen(self._process), name=f"listen to {self.name}")
        await self.send(settings)
        await self.hear("listening", timeout)

    async def assign(self, serve: str) -> None:
        """Tell it what to serve. However long it has waited for that, it counts as used just now."""
        self._used_at = time.monotonic()
        await self.send({"serve": serve})

    async def reassign(self, serve: str, timeout: float) -> None:
        """Tell one that is ready to serve something else, and wait until it listens again, at another port.

        Raises:
            DeploymentFailedError: it ended instead, or took longer than `timeout` seconds.
        """
        for event in ("listening", "ready"):
            self._heard.pop(event, None)
        await self.assign(serve)
        await self.hear("listening", timeout)

    async def send(self, order: dict[str, Any]) -> None:
        """Send a line; a child that is gone misses it, and its state says so."""
        assert self._process is not None  # started
        assert self._process.stdin is not None  # with a pipe
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(orjson.dumps(order) + b"\n")
            await self._process.stdin.drain()

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
            self._tell()
        await process.wait()
        if not self._stopping:
            _log.error("%s", self._obituary())
        self._ended = True
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
