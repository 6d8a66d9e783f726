"""`Registry`: which runs and samplers exist and who serves them. It knows no HTTP.

Records outlive the deployment, in its data directory; who serves them does not. A run or sampler is shown to nobody
until its create is answered: whoever lost the answer then finds it whole in the list.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import attrs

from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody
from loops_sdk.errors import BadRequestError, InvalidInputError, LoopsError, NotFoundError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.control_plane.idleness import Served, overdue, to_make_room
from loops_sdk.local.control_plane.launcher import Full, Launcher
from loops_sdk.local.control_plane.requests import (
    check_paired,
    check_run,
    check_sampler,
    paired_record,
    run_record,
    sampler_record,
)
from loops_sdk.local.control_plane.servers import Servers
from loops_sdk.local.storage import RunRecord, SamplerRecord, Storage, checkpoint_path

__all__ = ["Registry"]

_log = logger(__name__)


class Registry:
    """The runs and samplers of one deployment."""

    def __init__(self, storage: Storage, launcher: Launcher) -> None:
        self.storage = storage
        self.launcher = launcher
        self._servers = Servers(launcher, self._end_the_idlest)
        self._hidden: set[str] = set()
        self._with_delay: set[str] = set()
        self._pairing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # ------------------------------------------------------------ what there is

    def runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        return [run for run in self.storage.runs() if run.id not in self._hidden]

    def samplers(self) -> list[SamplerRecord]:
        """All samplers, newest first."""
        return [sampler for sampler in self.storage.samplers() if sampler.id not in self._hidden]

    def sampler_of(self, run_id: str) -> SamplerRecord | None:
        """The newest sampler that is paired with a run."""
        return next((sampler for sampler in self.samplers() if sampler.run_id == run_id), None)

    def port(self, record: RunRecord | SamplerRecord) -> int | None:
        """Where the run's trainer or the sampler listens; `None` when nobody serves it."""
        return None if record.id in self._hidden else self._servers.port(record.id)

    def idle(self, run: RunRecord, sampler: SamplerRecord | None) -> float | None:
        """Seconds since a client last asked anything of a run or of its sampler; `None` when nobody serves the run."""
        return None if self.port(run) is None else self._servers.idle(run.id, *([sampler.id] if sampler else []))

    def trainer_state(self, run: RunRecord) -> str:
        """The state of the run's deployment, as the control plane calls it."""
        names = {"starting": "DEPLOYING", "ready": "RUNNING", "failed": "FAILED"}
        return names.get(self._servers.state(run.id), run.ended_as or "STOPPED")

    def sampler_state(self, sampler: SamplerRecord) -> str:
        """The sampler's state, as the control plane calls it."""
        names = {"starting": "LOADING_MODEL", "ready": "ACTIVE", "failed": "FAILED", "stopped": "INACTIVE"}
        return names["starting" if sampler.id in self._hidden else self._servers.state(sampler.id)]

    async def resume(self) -> None:
        """Serve again what an earlier deployment on the same data directory was serving when it ended: the newest
        first, as far as there is room. What finds none stays as it is, for a later deployment.
        """
        left = self.launcher.left
        records: list[RunRecord | SamplerRecord] = [run for run in self.storage.runs() if run.ended_at is None]
        records += [sampler for sampler in self.storage.samplers() if sampler.run_id is None]
        try:
            for record in sorted(records, key=lambda one: one.created_at, reverse=True):
                if record.id in left and record.base_model == self.launcher.base_model:
                    await self._resume(record)
        except Full:
            _log.warning("there is no room to serve everything again that was served before")
        finally:
            self.launcher.settle()

    async def _resume(self, record: RunRecord | SamplerRecord) -> None:
        if isinstance(record, SamplerRecord):
            await self._servers.launch_sampler(record.id)
            return
        await self._servers.launch_trainer(record.id)
        if (sampler := self.sampler_of(record.id)) is not None:
            await self._servers.launch_sampler(sampler.id)

    # ------------------------------------------------------------ runs

    async def create_run(self, body: CreateRunBody, *, with_sampler: bool) -> RunRecord:
        """Record a run and find it a trainer, and a sampler if wanted: those of a run that is to be reused where that
        can be done, else new ones.

        Raises:
            InvalidInputError, NotFoundError: a field is wrong; nothing was made.
            LoopsError: it cannot be launched; the run is recorded as ended.
        """
        self._require_session(body.session_id)
        self._check_model(body.base_model)
        check_run(body, self.launcher.max_seq_len)
        if body.path is not None:
            self.storage.checkpoint(checkpoint_path("path", body.path, "weights"))
        run, old = run_record(body), self._to_reuse(body)
        with self._unseen(run.id):
            self.storage.write_run(run)
            try:
                if old is None or not await self._take_over(old, run):
                    await self._servers.launch_trainer(run.id)
                if with_sampler and self.sampler_of(run.id) is None:
                    await self._launch_sampler(paired_record(run, body.max_seq_len))
            except BaseException:
                await self.end_run(run.id, ended_as="FAILED")
                raise
        if run.scale_down_delay_seconds is not None:
            self._with_delay.add(run.id)
        return self.storage.run(run.id)

    async def end_run(self, run_id: str, *, ended_as: str = "STOPPED") -> RunRecord:
        """Stop the run's trainer and its paired sampler; its checkpoints stay."""
        run = self.storage.run(run_id)
        self._with_delay.discard(run_id)
        if run.ended_at is None:
            run = attrs.evolve(run, ended_at=datetime.now(UTC), ended_as=ended_as)
            self.storage.write_run(run)
        await self._servers.stop(run_id)
        if (sampler := self.sampler_of(run_id)) is not None:
            await self._servers.stop(sampler.id)
        self.storage.drop_progress(run_id)
        return run

    # ------------------------------------------------------------ reuse

    def _to_reuse(self, body: CreateRunBody) -> RunRecord | None:
        """The newest run of those named whose trainer can be taken over. The run id is the newer form and wins."""
        if body.reuse_from_run_id is not None:
            named = [run for run in self.runs() if run.id == body.reuse_from_run_id]
        else:
            named = [run for run in self.runs() if run.session_id == body.reuse_from_session_id]
        alone = body.replicas in (None, 1)
        return next((run for run in named if alone and self._servers.state(run.id) == "ready"), None)

    async def _take_over(self, old: RunRecord, run: RunRecord) -> bool:
        """Give a run's trainer and sampler to a new one, and end it; says whether the new one has a trainer now."""
        try:
            await self._servers.hand_over(old.id, run.id)
            self.storage.write_run(attrs.evolve(run, deployment_id=old.deployment_id))
            sampler = self.sampler_of(old.id)
            if sampler is not None and self._servers.state(sampler.id) == "ready":
                await self._take_over_sampler(sampler, run)
            return True
        except LoopsError as error:
            _log.warning("run %s cannot take over the trainer of %s and gets another: %s", run.id, old.id, error)
            await self._servers.stop(run.id)
            return False
        finally:
            await self.end_run(old.id)

    async def _take_over_sampler(self, sampler: SamplerRecord, run: RunRecord) -> None:
        """One that does not take to it stays with the run that had it."""
        with self._unseen(sampler.id):
            moved = attrs.evolve(sampler, session_id=run.session_id, run_id=run.id, max_seq_len=run.max_seq_len)
            self.storage.write_sampler(moved)
            try:
                await self._servers.hand_over(sampler.id, sampler.id)
            except LoopsError as error:
                _log.warning("run %s cannot take over sampler %s: %s", run.id, sampler.id, error)
                self.storage.write_sampler(sampler)

    # ------------------------------------------------------------ samplers

    async def create_sampler(self, body: CreateSamplerBody) -> SamplerRecord:
        """Record a sampler and launch it; a run that has a sampler keeps the one it has.

        Raises:
            InvalidInputError, NotFoundError: a field is wrong; nothing was made.
            LoopsError: it cannot be launched, or the run has ended.
        """
        self._require_session(body.session_id)
        check_sampler(body, self.launcher.max_seq_len)
        if body.base_model is not None:
            self._check_model(body.base_model)
        if body.model_path is not None:
            self.storage.checkpoint(checkpoint_path("model_path", body.model_path, "sampler_weights"))
        if body.run_id is None:
            return await self._launch_sampler(sampler_record(body, self.launcher.base_model))
        run = self.storage.run(body.run_id)
        check_paired(body, run)
        async with self._pairing[run.id]:
            return await self._paired(run, body.max_seq_length)

    async def _paired(self, run: RunRecord, max_seq_len: int | None) -> SamplerRecord:
        self._require_trainer(run)
        existing = self.sampler_of(run.id)
        if existing is not None and self.port(existing) is not None:
            return existing
        made = await self._launch_sampler(paired_record(run, max_seq_len))
        try:
            self._require_trainer(run)
        except BadRequestError:  # ended in the meantime, when nobody knew of this sampler
            await self._servers.stop(made.id)
            raise
        return made

    def _require_trainer(self, run: RunRecord) -> None:
        if self.port(run) is None:
            raise BadRequestError(f"run {run.id!r} has ended; it gets no sampler any more", status=409)

    async def _launch_sampler(self, sampler: SamplerRecord) -> SamplerRecord:
        with self._unseen(sampler.id):
            self.storage.write_sampler(sampler)
            await self._servers.launch_sampler(sampler.id)
        return sampler

    async def end_sampler(self, sampler_id: str) -> SamplerRecord:
        """Stop a standalone sampler.

        Raises:
            BadRequestError: 409, it is paired with a run.
        """
        sampler = self.storage.sampler(sampler_id)
        if sampler.run_id is not None:
            text = f"sampler {sampler_id!r} is paired with run {sampler.run_id!r}; deactivate the run instead"
            raise BadRequestError(text, status=409)
        await self._servers.stop(sampler_id)
        return sampler

    @contextmanager
    def _unseen(self, name: str) -> Iterator[None]:
        self._hidden.add(name)
        try:
            yield
        finally:
            self._hidden.discard(name)

    # ------------------------------------------------------------ idleness

    async def end_the_overdue(self) -> None:
        """End the runs of which nobody has asked anything for as long as they were given."""
        # One at a time: ending takes time, in which others wake. Runs without a delay are not worth a look at the disk.
        while self._with_delay and (late := overdue(self._served())) is not None:
            _log.info("run %s, idle for %.0f s, is ended as its scale_down_delay_seconds says", late.name, late.idle)
            await late.end()

    async def remove_expired(self) -> None:
        """Remove expired checkpoints of runs that have ended; a trainer that is there removes its own."""
        for run in self.runs():
            if self.port(run) is None:
                await asyncio.to_thread(self.storage.remove_expired, run.id)

    async def _end_the_idlest(self) -> bool:
        if (idlest := to_make_room(self._served())) is None:
            return False
        _log.warning("%s, idle for %.0f s, is ended to make room; its checkpoints stay", idlest.name, idlest.idle)
        await idlest.end()
        return True

    def _served(self) -> Iterator[Served]:
        for run in self.runs():
            if self.port(run) is not None:
                sampler = self.sampler_of(run.id)
                idle = self._servers.idle(run.id, *([sampler.id] if sampler else []))
                end = partial(self.end_run, run.id, ended_as="SCALED_TO_ZERO")
                yield Served(run.id, idle, run.scale_down_delay_seconds, end)
        for record in self.samplers():
            if record.run_id is None and self.port(record) is not None:
                yield Served(record.id, self._servers.idle(record.id), None, partial(self.end_sampler, record.id))

    # ------------------------------------------------------------ what may be asked for

    def _require_session(self, session_id: str) -> None:
        if not self.storage.has_session(session_id):
            raise NotFoundError(f"there is no session {session_id!r}", status=404)

    def _check_model(self, base_model: str) -> None:
        served = self.launcher.base_model
        if base_model != served:
            raise InvalidInputError(
                f"base_model: this deployment serves {served!r}, got {base_model!r} (`loops serve --base-model NAME` "
                f"starts one that serves another)"
            )
