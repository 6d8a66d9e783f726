"""The JSON that the page lives on, below ``/local/v1``: runs, operations, curves, checkpoints, samples.

It is not of the protocol, and changes with the page. It reads what is there and starts nothing but a sampler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from loops_sdk.errors import LoopsError
from loops_sdk.local.control_plane.page.curves import read_curves
from loops_sdk.local.control_plane.page.files import add_files
from loops_sdk.local.control_plane.page.lines import parsed, read_before
from loops_sdk.local.control_plane.page.peers import Peers
from loops_sdk.local.control_plane.page.sampling import SampleBody, Sampling
from loops_sdk.local.control_plane.page.summaries import Summaries
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.control_plane.routes import reply
from loops_sdk.local.serving import WATCHING, query, read_request, whole_number
from loops_sdk.local.storage import RunRecord, Saved

__all__ = ["PageRoutes"]

_MOST = 200
_USUAL = 50
#: A trainer answers at once, or it is so busy that the page had better show what is on the disk.
_BRIEFLY = 2.0
_NOTHING: dict[str, Any] = {"unfinished": [], "queued": None}


class PageRoutes:
    """What the page asks for.

    Args:
        api_key: the key of trainers and samplers.
        host: where they listen.
        metrics: folder in which clients write down the metrics of runs. Default: ``metrics`` in the data directory.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        api_key: str,
        host: str,
        metrics: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics_of_runs = metrics or registry.storage.root / "metrics"
        self._registry, self._storage, self._clock = registry, registry.storage, clock
        self._peers = Peers(api_key=api_key, host=host)
        self._sampling = Sampling(registry, self._peers)
        self._summaries = Summaries(registry, clock)

    def add_to(self, app: web.Application) -> None:
        """Add the page, its routes, and the connections they need."""
        add_files(app)
        one = "/local/v1/runs/{run_id}"
        app.router.add_get("/local/v1/runs", self._runs)
        app.router.add_get(one, self._run)
        app.router.add_get(f"{one}/operations", self._operations)
        app.router.add_get(f"{one}/metrics", self._metrics)
        app.router.add_get(f"{one}/checkpoints", self._checkpoints)
        app.router.add_post(f"{one}/sample", self._sample)
        app.cleanup_ctx.append(self._peers.opened)

    # ------------------------------------------------------------ runs

    async def _runs(self, request: web.Request) -> web.Response:
        most = _limit(query(request, "limit"))
        runs = await asyncio.to_thread(self._registry.runs)
        shown = await self._summaries.of(runs[:most])
        base_model = self._registry.launcher.base_model
        return reply({"base_model": base_model, "now": self._clock(), "total": len(runs), "runs": shown})

    async def _run(self, request: web.Request) -> web.Response:
        query(request)
        (shown,) = await self._summaries.of([await self._known(request)])
        return reply({"now": self._clock(), "run": shown})

    async def _known(self, request: web.Request) -> RunRecord:
        return await asyncio.to_thread(self._storage.run, request.match_info["run_id"])

    # ------------------------------------------------------------ operations and curves

    async def _operations(self, request: web.Request) -> web.Response:
        wanted = query(request, "limit", "before")
        most = _limit(wanted)
        end = whole_number("before", wanted["before"], 0) if "before" in wanted else None
        run = await self._known(request)
        told = await self._unfinished(run, most) if end is None else _NOTHING
        path = self._storage.history(run.id)
        lines, older = await asyncio.to_thread(read_before, path, end, most)
        # What was done just before a crash and again after it stands there twice.
        finished = {row["id"]: row for row in (parsed(line) for line, _ in reversed(lines)) if "id" in row}
        unfinished = [one for one in told["unfinished"] if one["id"] not in finished]
        newest_first = list(finished.values())[::-1]
        return reply({**told, "unfinished": unfinished, "operations": newest_first, "older": older or None})

    async def _unfinished(self, run: RunRecord, most: int) -> dict[str, Any]:
        """What runs and waits; ``queued`` is null where nobody can tell."""
        port = self._registry.port(run)
        try:
            if port is not None:
                path = f"{WATCHING}/operations?limit={most}"
                told: dict[str, Any] = await self._peers.ask(port, "GET", path, within=_BRIEFLY)
                return told
        except LoopsError:  # it is coming up, going, or busy: what is on the disk is shown all the same
            pass
        return _NOTHING

    async def _metrics(self, request: web.Request) -> web.Response:
        wanted = query(request, "source", "offset")
        offset = whole_number("offset", wanted.get("offset", "0"), 0)
        run = await self._known(request)
        paths = self._metrics_of_runs / f"{run.id}.jsonl", self._storage.history(run.id)
        return reply(await asyncio.to_thread(partial(read_curves, *paths, wanted.get("source"), offset)))

    # ------------------------------------------------------------ checkpoints and samples

    async def _checkpoints(self, request: web.Request) -> web.Response:
        most = _limit(query(request, "limit"))
        run = await self._known(request)
        saved = await asyncio.to_thread(self._storage.checkpoints, run.id)
        newest_first = saved[::-1]
        return reply({"total": len(saved), "checkpoints": [_shown(one) for one in newest_first[:most]]})

    async def _sample(self, request: web.Request) -> web.Response:
        query(request)
        body = await read_request(request, SampleBody)
        return reply(await self._sampling.sample(request.match_info["run_id"], body))


def _limit(wanted: dict[str, str]) -> int:
    return min(_MOST, whole_number("limit", wanted.get("limit", str(_USUAL)), 1))


def _shown(saved: Saved) -> dict[str, Any]:
    checkpoint = saved.checkpoint
    return {
        "path": checkpoint.path,
        "name": checkpoint.checkpoint_id,
        "target": checkpoint.target,
        "policy_version": saved.policy_version,
        "created_at": checkpoint.created_at.timestamp(),
        "size_bytes": checkpoint.size_bytes,
        "expires_at": saved.expires_at,
    }
