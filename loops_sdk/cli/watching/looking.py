"""Looks at a run: who is asked what, each question with a deadline, and nobody whom a question would wake or keep awake
where that can be helped.

An embedded deployment has answers for who only watches, with times. A service is asked what its protocol has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.models import live_of
from loops_sdk._net.caller import Patience
from loops_sdk._wire import endpoints
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk.cli.watching.looks import Look, Operation, Steps
from loops_sdk.errors import AuthenticationError, LoopsError, NotFoundError, PermissionDeniedError
from loops_sdk.instrumentation.metrics import metrics_file
from loops_sdk.local.control_plane.page.lines import parsed, read_before
from loops_sdk.local.serving import WATCHING
from loops_sdk.types import Run, Sampler

__all__ = ["Looking"]

T = TypeVar("T")

#: One question.
_BRIEFLY = Patience(total=3.0, attempts=1)
#: Operations of each kind that are shown, and steps that are read.
_MOST_OPERATIONS, _MOST_STEPS = 20, 500
#: Pieces of the curves that are read at a time.
_PIECES = 40

_ONE = "/local/v1/runs/{run_id}"
_SUMMARY: Endpoint[dict[str, Any]] = Endpoint("watch_run", "GET", _ONE, dict)
_OPERATIONS: Endpoint[dict[str, Any]] = Endpoint("watch_operations", "GET", f"{_ONE}/operations", dict)
_METRICS: Endpoint[dict[str, Any]] = Endpoint("watch_metrics", "GET", f"{_ONE}/metrics", dict)
_WEIGHTS: Endpoint[dict[str, Any]] = Endpoint("watch_weights", "GET", f"{WATCHING}/weights", dict)


class Looking:
    """Looks at one run again and again.

    Args:
        folder: where metrics files are; without one, or without a file of this run in it, an embedded deployment is
            asked.
    """

    def __init__(self, control: ControlPlane, run_id: str, folder: Path | None) -> None:
        self._control, self._run_id = control, run_id
        self._file = None if folder is None else metrics_file(folder, run_id)
        self._embedded: bool | None = None
        self._steps = Steps()
        self._read: tuple[str | None, int] = (None, 0)

    async def look(self) -> Look:
        """How things are now.

        Raises:
            NotFoundError: there is no such run.
            LoopsError: the control plane cannot be asked, or not with this key.
        """
        run = await self._control.get_run(self._run_id, _BRIEFLY)
        troubles: list[str] = []
        summary = await self._summary()
        told = _Told(troubles)
        found = await (self._of_service(run, told) if summary is None else self._of_embedded(run, summary, told))
        await told.of("metrics", self._measured())
        return Look(run=run, rows=self._steps.last(), troubles=troubles, **{"at": time.time(), **found})

    async def _ask(self, endpoint: Endpoint[T], params: dict[str, str] | None = None) -> T:
        url = endpoint.url(self._control.base_url, run_id=self._run_id)
        return await self._control.caller.call(endpoint, url, patience=_BRIEFLY, params=params)

    async def _there(self, endpoint: Endpoint[T], base_url: str) -> T:
        return await self._control.caller.call(endpoint, endpoint.url(base_url), patience=_BRIEFLY)

    async def _summary(self) -> dict[str, Any] | None:
        """What an embedded deployment says of the run; `None` from a service, which is asked once."""
        if self._embedded is False:
            return None
        try:
            said = await self._ask(_SUMMARY)
        except (AuthenticationError, PermissionDeniedError):
            raise
        except LoopsError:
            if self._embedded is None:
                self._embedded = False
                return None
            raise
        self._embedded = True
        return said

    # ------------------------------------------------------------ an embedded deployment

    async def _of_embedded(self, run: Run, said: dict[str, Any], told: _Told) -> dict[str, Any]:
        summary, now = said["run"], said["now"]
        asked = self._ask(_OPERATIONS, {"limit": str(_MOST_OPERATIONS)})
        operations, version = await asyncio.gather(
            told.of("operations", asked),
            self._served(run.sampler if summary["sampler_state"] == "ACTIVE" else None, told),
        )
        operations = operations or {"unfinished": [], "operations": [], "queued": None}
        if operations["queued"] is None and summary["state"] == "RUNNING":
            told.trouble("trainer", "it does not say what runs and waits")
        listed = [*operations["unfinished"], *operations["operations"]]
        return {
            "at": now,
            "state": summary["state"],
            "sampler_state": summary["sampler_state"],
            "operations": [_timed(one, now) for one in listed],
            "queued": operations["queued"],
            "trainer_version": summary["policy_version"],
            "sampler_version": version,
        }

    async def _served(self, sampler: Sampler | None, told: _Told) -> int | None:
        """The version that the sampler answers with."""
        if sampler is None:
            return None
        asked = self._there(_WEIGHTS, sampler.base_url)
        weights = await told.of("sampler", asked)
        return None if weights is None else weights["policy_version"]

    # ------------------------------------------------------------ a service

    async def _of_service(self, run: Run, told: _Told) -> dict[str, Any]:
        sampler = run.sampler
        found = {"state": run.status.name, "sampler_state": sampler.status.name if sampler else None}
        if run.status.name == "INACTIVE":
            return found
        asked = self._there(endpoints.LIST_OPERATIONS, run.base_url)
        status = self._there(endpoints.STATUS, run.base_url)
        operations, state, version = await asyncio.gather(
            told.of("trainer", asked),
            told.of("trainer", status),
            self._sampler_version(sampler, told),
        )
        listed = None if operations is None else operations.operations
        shown = None if listed is None else _cut([Operation(o.operation_id, o.operation, o.status) for o in listed])
        queued = None if listed is None else sum(one.status == "queued" for one in listed)
        step = (state or {}).get("step")
        versions = {"trainer_version": step if isinstance(step, int) else None, "sampler_version": version}
        return {**found, **versions, "operations": shown, "queued": queued}

    async def _sampler_version(self, sampler: Sampler | None, told: _Told) -> int | None:
        """Of the live adapter. One that sleeps is not asked: that would wake it."""
        if sampler is None or sampler.status.name != "ACTIVE":
            return None
        asked = self._there(endpoints.MODELS, sampler.base_url)
        models = await told.of("sampler", asked)
        live = None if models is None else live_of(models)
        return None if live is None else live.policy_version

    # ------------------------------------------------------------ numbers

    async def _measured(self) -> None:
        if self._file is not None and await asyncio.to_thread(self._file.is_file):
            lines, _ = await asyncio.to_thread(read_before, self._file, None, _MOST_STEPS)
            for line, _ in reversed(lines):
                if isinstance((row := parsed(line)).get("step"), int):
                    self._steps.take(row)
        elif self._embedded:
            await self._asked_for()

    async def _asked_for(self) -> None:
        for _ in range(_PIECES):
            source, offset = self._read
            said = await self._ask(_METRICS, {"offset": str(offset), **({"source": source} if source else {})})
            if said["restart"]:
                self._steps.clear()
            for row in said["rows"]:
                self._steps.take(row)
            self._read = said["source"], said["offset"]
            if not said["more"]:
                return


class _Told:
    """Answers, and who did not give one."""

    def __init__(self, troubles: list[str]) -> None:
        self._troubles = troubles

    async def of(self, whom: str, question: Awaitable[T]) -> T | None:
        """The answer; `None` when there is none, which becomes a trouble, once for each who was asked."""
        try:
            return await question
        except NotFoundError:  # it does not know the question, which is nobody's trouble
            return None
        except (LoopsError, OSError) as error:
            self.trouble(whom, error.message if isinstance(error, LoopsError) else str(error))
            return None

    def trouble(self, whom: str, what: str) -> None:
        """Somebody did not answer."""
        if not any(one.startswith(f"{whom}: ") for one in self._troubles):
            self._troubles.append(f"{whom}: {what}")


def _timed(one: dict[str, Any], now: float) -> Operation:
    """As the embedded trainer tells of operations, before and after they are done."""
    started, finished, error = one.get("started_at"), one.get("finished_at"), one.get("error")
    status = "queued" if started is None else "running" if finished is None else "error" if error else "done"
    seconds = None if started is None else max(0.0, (finished or now) - started)
    return Operation(one["id"], one["operation"], status, seconds, error)


def _cut(listed: list[Operation]) -> list[Operation]:
    """Unfinished ones first, in their order; then the others, newest first."""
    unfinished = [one for one in listed if one.status in ("running", "queued")]
    over = [one for one in reversed(listed) if one.status not in ("running", "queued")]
    return unfinished[:_MOST_OPERATIONS] + over[:_MOST_OPERATIONS]
