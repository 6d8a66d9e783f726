"""`Fleet`: the processes of a deployment. One trainer and one sampler are loaded before any run asks for them.

It decides how many processes there may be, and that all of them are gone at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, cast

import attrs

from loops_sdk.local.control_plane import Deployed, Full
from loops_sdk.local.stack.child import Settings
from loops_sdk.local.stack.process import Process
from loops_sdk.local.storage import Storage

__all__ = ["Fleet"]

Kind = Literal["trainer", "sampler"]
_LISTEN = 60.0
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
        self._processes: list[Process] = []
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

    async def start(self) -> None:
        """Load one trainer and one sampler, at the same time.

        Raises:
            DeploymentFailedError: one of them failed; the message says why. The other one is left to `aclose`.
        """
        self._progress(f"loading {self.base_model}")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._load_spare(kind)) for kind in ("trainer", "sampler")]
        self._max_seq_len = min(task.result() for task in tasks)

    async def _load_spare(self, kind: Kind) -> int:
        process = self._spares[kind] = await self._launch(kind)
        loaded = await process.hear("loaded", self._load_timeout)
        self._progress(f"{kind} loaded")
        return int(loaded["max_seq_len"])

    async def launch_trainer(self, run_id: str) -> Deployed:
        """A trainer for a recorded run; see `Launcher`."""
        return await self._serve("trainer", run_id)

    async def launch_sampler(self, sampler_id: str) -> Deployed:
        """A recorded sampler; see `Launcher`."""
        return await self._serve("sampler", sampler_id)

    async def _serve(self, kind: Kind, serve: str) -> Deployed:
        spare = self._spares.pop(kind, None)
        process = spare if spare is not None and spare.state == "starting" else await self._launch(kind)
        await process.assign(serve)
        return process

    async def reassign(self, deployed: Deployed, serve: str) -> None:
        """Have a process serve something else; see `Launcher`."""
        await cast("Process", deployed).reassign(serve, _LET_GO)

    async def _launch(self, kind: Kind) -> Process:
        self._processes = [process for process in self._processes if not process.ended]
        if len(self._processes) >= self._most:
            text = (
                f"this deployment runs {self._most} trainers and samplers already, all in use; deactivate a run first"
            )
            raise Full(text, status=409)
        self._count += 1
        name = f"{kind}-{self._count}"
        process = Process(
            f"{kind} {self._count}",
            f"loops_sdk.local.stack.{kind}_child",
            log=self._storage.root / "logs" / f"{name}.log",
            data_dir=self._storage.root,
            temporary=self._temporary,
        )
        self._processes.append(process)
        try:
            await process.start(attrs.asdict(self._settings), _LISTEN)
        except BaseException:
            await process.stop(0.0)
            raise
        return process

    async def stop(self, deployed: Deployed) -> None:
        """End one process."""
        await cast("Process", deployed).stop()

    async def aclose(self) -> None:
        """End all processes, within a few seconds."""
        try:
            await asyncio.gather(*(process.stop() for process in self._processes))
        finally:
            for process in self._processes:
                process.kill()
