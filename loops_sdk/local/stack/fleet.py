"""`Fleet`: the processes of a deployment. One trainer and one sampler are loaded before any run asks for them.

It decides how many processes there may be, and that all of them are gone at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Literal, cast

import attrs

from loops_sdk.local.control_plane import Deployed, Full
from loops_sdk.local.stack.child import Settings
from loops_sdk.local.stack.ports import Ports
from loops_sdk.local.stack.process import Process
from loops_sdk.local.stack.supervised import Supervised
from loops_sdk.local.storage import Storage

__all__ = ["Fleet"]

Kind = Literal["trainer", "sampler"]
#: More than a child takes to close its server and to wait for what it is doing.
_LET_GO = 30.0


class Fleet:
    """A `Launcher` whose trainers and samplers are child processes.

    Args:
        storage: the data directory.
        settings: what every child is told.
        temporary: whether the children remove the data directory when this process dies.
        most: most child processes at the same time.
        load_timeout: seconds that the base model may take to load.
        on_progress: called with one line for people now and then.
    """

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        *,
        temporary: bool,
        most: int,
        load_timeout: float,
        on_progress: Callable[[str], None],
    ) -> None:
        self._storage, self._settings, self._temporary = storage, settings, temporary
        self._most, self._load_timeout, self._progress = most, load_timeout, on_progress
        lasting = settings.durable and not temporary
        self._ports = Ports(settings.host, storage.root / "ports.json" if lasting else None)
        self._served: list[Supervised] = []
        self._spares: dict[Kind, Process] = {}
        self._count = 0
        self._max_seq_len = 0

    @property
    def base_model(self) -> str:
        """The base model they all have."""
        return self._settings.base_model

    @property
    def max_seq_len(self) -> int:
        """Longest sequence it takes, in tokens; known from `start` on."""
        return self._max_seq_len

    @property
    def left(self) -> Collection[str]:
        """What an earlier deployment was serving when it ended; see `Launcher`."""
        return frozenset(self._ports.recorded)

    async def start(self) -> None:
        """Load one trainer and one sampler, at the same time.

        Raises:
            DeploymentFailedError: one of them failed; the message says why. The other one is left to `aclose`.
        """
        await self._ports.reclaim()
        self._progress(f"loading {self.base_model}")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._load_spare(kind)) for kind in ("trainer", "sampler")]
        self._max_seq_len = min(task.result() for task in tasks)

    async def _load_spare(self, kind: Kind) -> int:
        process = self._spares[kind] = self._new(kind)
        await process.start(attrs.asdict(self._settings))
        loaded = await process.hear("loaded", self._load_timeout)
        self._progress(f"{kind} loaded")
        return int(loaded["max_seq_len"])

    async def launch_trainer(self, run_id: str) -> Deployed:
        """A trainer for a recorded run; see `Launcher`."""
        return await self._serve("trainer", run_id, partial(self._take, "trainer") if self._settings.durable else None)

    async def launch_sampler(self, sampler_id: str) -> Deployed:
        """A recorded sampler; see `Launcher`."""
        return await self._serve("sampler", sampler_id, partial(self._take, "sampler"))

    async def reassign(self, deployed: Deployed, serve: str) -> None:
        """Have a process serve something else; see `Launcher`."""
        served = cast("Supervised", deployed)
        if serve != served.serve:
            self._ports.forget(served.serve)
        await served.reassign(serve, self._ports.open(serve), _LET_GO)

    async def _serve(self, kind: Kind, serve: str, successor: Callable[[], Awaitable[Process]] | None) -> Deployed:
        self._require_room(kind)
        recorded = serve in self._ports.recorded
        listener = self._ports.open(serve)
        try:
            served = Supervised(await self._take(kind), serve, listener, successor)
        except BaseException:
            listener.close()
            if not recorded:
                self._ports.forget(serve)
            raise
        self._served.append(served)
        return served

    def _require_room(self, kind: Kind) -> None:
        self._served = [one for one in self._served if one.state in ("starting", "ready")]
        spare = self._spares.get(kind)
        if spare is not None and not spare.ended:
            return
        if len(self._served) + sum(not one.ended for one in self._spares.values()) >= self._most:
            text = (
                f"this deployment runs {self._most} trainers and samplers already, all in use; deactivate a run first"
            )
            raise Full(text, status=409)

    async def _take(self, kind: Kind) -> Process:
        """A process that has nothing to serve yet: the one that was loaded ahead, if it is still there."""
        spare = self._spares.pop(kind, None)
        if spare is not None and not spare.ended:
            return spare
        process = self._new(kind)
        try:
            await process.start(attrs.asdict(self._settings))
        except BaseException:
            await process.stop(0.0)
            raise
        return process

    def _new(self, kind: Kind) -> Process:
        self._count += 1
        return Process(
            f"{kind} {self._count}",
            f"loops_sdk.local.stack.{kind}_child",
            log=self._storage.root / "logs" / f"{kind}-{self._count}.log",
            data_dir=self._storage.root,
            temporary=self._temporary,
        )

    async def stop(self, deployed: Deployed) -> None:
        """End one for good."""
        served = cast("Supervised", deployed)
        self._ports.forget(served.serve)
        await served.stop()

    def settle(self) -> None:
        """Let go of the addresses of what was left and is not served again; see `Launcher`."""
        self._ports.release()

    async def aclose(self) -> None:
        """End all processes, within a few seconds. What was served until now may be served again later."""
        everything: list[Supervised | Process] = [*self._served, *self._spares.values()]
        try:
            await asyncio.gather(*(one.stop() for one in everything))
        finally:
            self._ports.release()
            for one in everything:
                one.kill()
