"""A run in a line: its state, what its trainer and its sampler have come to, and when anybody last wanted something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loops_sdk.local.control_plane.page.lines import parsed, read_before
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.storage import RunRecord, SamplerRecord

__all__ = ["Summaries"]

#: Operations to look through for one that tells a policy version.
_LOOK_BACK = 200


class Summaries:
    """Runs as the page lists them.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, registry: Registry, clock: Callable[[], float]) -> None:
        self._registry, self._storage, self._clock = registry, registry.storage, clock
        self._versions: dict[str, tuple[tuple[int, int], int | None]] = {}

    async def of(self, runs: list[RunRecord]) -> list[dict[str, Any]]:
        """One summary for each."""
        on_disk = await asyncio.to_thread(lambda: [self._on_disk(run) for run in runs])
        samplers = {one.run_id: one for one in reversed(await asyncio.to_thread(self._registry.samplers))}
        return [self._summary(run, samplers.get(run.id), facts) for run, facts in zip(runs, on_disk, strict=True)]

    def _summary(self, run: RunRecord, sampler: SamplerRecord | None, on_disk: dict[str, Any]) -> dict[str, Any]:
        idle = self._registry.idle(run, sampler)
        ended = run.ended_at.timestamp() if run.ended_at else None
        created = run.created_at.timestamp()
        return {
            "id": run.id,
            "name": run.name,
            "base_model": run.base_model,
            "rank": run.lora_rank,
            "state": self._registry.trainer_state(run),
            "sampler_state": self._registry.sampler_state(sampler) if sampler else None,
            "created_at": created,
            "ended_at": ended,
            "last_activity": (ended or created) if idle is None else max(created, self._clock() - idle),
            **on_disk,
        }

    def _on_disk(self, run: RunRecord) -> dict[str, Any]:
        live = self._storage.live(run.id)
        return {
            "policy_version": self._policy_version(run),
            "published_version": live.policy_version if live else None,
        }

    def _policy_version(self, run: RunRecord) -> int | None:
        """The trainer's, as its last operations tell; `None` when they do not."""
        path = self._storage.history(run.id)
        try:
            status = path.stat()
        except OSError:
            return 0 if run.load_from is None else None
        mark = (status.st_mtime_ns, status.st_size)
        if self._versions.get(run.id, (None, None))[0] != mark:
            lines, _ = read_before(path, None, _LOOK_BACK)
            versions = (parsed(line).get("policy_version") for line, _ in lines)
            self._versions[run.id] = mark, next((one for one in versions if isinstance(one, int)), None)
        return self._versions[run.id][1]
