"""`Registry`: which runs and samplers exist, who serves them, and what may be asked for. It knows no HTTP.

Records outlive the deployment, in its data directory; who serves them does not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import attrs

from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody
from loops_sdk.errors import BadRequestError, InvalidInputError, NotFoundError
from loops_sdk.local.control_plane.launcher import Deployed, Full, Launcher
from loops_sdk.local.engine import MOST_RANK
from loops_sdk.local.storage import RunRecord, SamplerRecord, Storage, new_id
from loops_sdk.types import CheckpointPath

__all__ = ["Registry"]

_RANK = 64
_MOST_SEED = 2**63 - 1
#: When the machine is full, a run or sampler of which nobody has asked anything for this many seconds gives way.
_GIVES_WAY_AFTER = 60.0

_log = logging.getLogger(__name__)


class Registry:
    """The runs and samplers of one deployment."""

    def __init__(self, storage: Storage, launcher: Launcher) -> None:
        self.storage = storage
        self.launcher = launcher
        self._trainers: dict[str, Deployed] = {}
        self._samplers: dict[str, Deployed] = {}

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
            self._samplers[record.id] = await self.launcher.launch_sampler(record.id)
            return
        self._trainers[record.id] = await self.launcher.launch_trainer(record.id)
        if (sampler := self.sampler_of(record.id)) is not None:
            self._samplers[sampler.id] = await self.launcher.launch_sampler(sampler.id)

    # ------------------------------------------------------------ runs

    async def create_run(self, body: CreateRunBody, *, with_sampler: bool) -> RunRecord:
        """Record a run and launch its trainer, and its sampler if wanted.

        Raises:
            InvalidInputError, NotFoundError: a field is wrong; nothing was made.
            LoopsError: it cannot be launched; the run is recorded as ended.
        """
        self._require_session(body.session_id)
        self._check_model(body.base_model)
        _check_run(body, self.launcher.max_seq_len)
        if body.path is not None:
            self._require_checkpoint("path", body.path, "weights")
        run = _run_record(body)
        self.storage.write_run(run)
        try:
            self._trainers[run.id] = await self._launched(self.launcher.launch_trainer, run.id)
            if with_sampler:
                await self._launch_sampler(self._paired(run, body.max_seq_len))
        except BaseException:
            await self.end_run(run.id)
            raise
        return run

    async def end_run(self, run_id: str) -> RunRecord:
        """Stop the run's trainer and its paired sampler; its checkpoints stay."""
        run = self.storage.run(run_id)
        if run.ended_at is None:
            run = attrs.evolve(run, ended_at=datetime.now(UTC))
            self.storage.write_run(run)
        sampler = self.sampler_of(run_id)
        for deployed in (self._trainers.get(run_id), self._samplers.get(sampler.id) if sampler else None):
            if deployed is not None:
                await self.launcher.stop(deployed)
        return run

    def trainer(self, run: RunRecord) -> Deployed | None:
        """Who serves the run; `None` when nobody does."""
        deployed = self._trainers.get(run.id)
        return deployed if deployed and deployed.state in ("starting", "ready") else None

    # ------------------------------------------------------------ samplers

    async def create_sampler(self, body: CreateSamplerBody) -> SamplerRecord:
        """Record a sampler and launch it; a run that has a sampler keeps the one it has.

        Raises:
            InvalidInputError, NotFoundError: a field is wrong; nothing was made.
            LoopsError: it cannot be launched, or the run has ended.
        """
        self._require_session(body.session_id)
        _check_sampler(body, self.launcher.max_seq_len)
        if body.base_model is not None:
            self._check_model(body.base_model)
        if body.model_path is not None:
            self._require_checkpoint("model_path", body.model_path, "sampler_weights")
        if body.run_id is None:
            return await self._launch_sampler(_sampler_record(body, self.launcher.base_model))
        run = self.storage.run(body.run_id)
        if self.trainer(run) is None:
            raise BadRequestError(f"run {run.id!r} has ended; it gets no sampler any more", status=409)
        existing = self.sampler_of(run.id)
        if existing is not None and self.sampler_state(existing) in ("LOADING_MODEL", "ACTIVE"):
            return existing
        return await self._launch_sampler(self._paired(run, body.max_seq_length))

    def _paired(self, run: RunRecord, max_seq_len: int | None) -> SamplerRecord:
        body = CreateSamplerBody(run.session_id, run_id=run.id, max_seq_length=max_seq_len)
        return _sampler_record(body, run.base_model)

    async def _launch_sampler(self, sampler: SamplerRecord) -> SamplerRecord:
        self.storage.write_sampler(sampler)
        self._samplers[sampler.id] = await self._launched(self.launcher.launch_sampler, sampler.id)
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
        if (deployed := self._samplers.get(sampler_id)) is not None:
            await self.launcher.stop(deployed)
        return sampler

    def sampler_of(self, run_id: str) -> SamplerRecord | None:
        """The newest sampler that is paired with a run."""
        return next((sampler for sampler in self.storage.samplers() if sampler.run_id == run_id), None)

    def sampler_port(self, sampler: SamplerRecord) -> int | None:
        """Where it listens; `None` when it does not."""
        deployed = self._samplers.get(sampler.id)
        return deployed.port if deployed and deployed.state in ("starting", "ready") else None

    def sampler_state(self, sampler: SamplerRecord) -> str:
        """The name of its state as the control plane reports it."""
        deployed = self._samplers.get(sampler.id)
        names = {"starting": "LOADING_MODEL", "ready": "ACTIVE", "failed": "FAILED", "stopped": "INACTIVE"}
        return "INACTIVE" if deployed is None else names[deployed.state]

    # ------------------------------------------------------------ room on the machine

    async def _launched(self, launch: Callable[[str], Awaitable[Deployed]], name: str) -> Deployed:
        while True:
            try:
                return await launch(name)
            except Full:
                if not await self._end_the_idlest():
                    raise

    async def _end_the_idlest(self) -> bool:
        """End the run, or the sampler of its own, that has been idle longest; its checkpoints stay.

        Scripts end without a word, so what they left running must not keep the next one out.
        """
        ends: list[tuple[float, str, Callable[[str], Awaitable[object]]]] = []
        for run in self.storage.runs():
            if (trainer := self.trainer(run)) is not None:
                paired = self.sampler_of(run.id)
                served_by = (trainer, self._samplers.get(paired.id) if paired else None)
                ends.append((min(one.idle for one in served_by if one is not None), run.id, self.end_run))
        for sampler in self.storage.samplers():
            if sampler.run_id is None and self.sampler_port(sampler) is not None:
                ends.append((self._samplers[sampler.id].idle, sampler.id, self.end_sampler))
        idle, name, end = max(ends, key=lambda one: one[0], default=(0.0, "", self.end_run))
        if idle < _GIVES_WAY_AFTER:
            return False
        _log.warning("%s, idle for %.0f s, is ended to make room; its checkpoints stay", name, idle)
        await end(name)
        return True

    # ------------------------------------------------------------ what may be asked for

    def _require_session(self, session_id: str) -> None:
        if not self.storage.has_session(session_id):
            raise NotFoundError(f"there is no session {session_id!r}", status=404)

    def _check_model(self, base_model: str) -> None:
        served = self.launcher.base_model
        if base_model != served:
            raise InvalidInputError(f"base_model: this deployment was started with {served!r}, got {base_model!r}")

    def _require_checkpoint(self, argument: str, path: str, kind: str) -> None:
        parsed = CheckpointPath.parse(path, argument)
        if parsed.kind != kind:
            raise InvalidInputError(f"{argument}: expected bt://loops:<run_id>/{kind}/<name>, got {path!r}")
        self.storage.checkpoint(parsed)


def _check_run(body: CreateRunBody, max_seq_len: int) -> None:
    if body.name is not None and not 1 <= len(body.name) <= 255:
        raise InvalidInputError(f"name: expected 1 to 255 characters, got {len(body.name)}")
    _check_range("max_seq_len", body.max_seq_len, 1, max_seq_len)
    _check_range("lora_rank", body.lora_rank, 1, MOST_RANK)
    _check_range("seed", body.seed, 0, _MOST_SEED)
    _check_range("scale_down_delay_seconds", body.scale_down_delay_seconds, 1, 3600)
    _check_range("replicas", body.replicas, 1, None)
    _check_range("sampler_num_replicas", body.sampler_num_replicas, 1, None)
    _check_availability(body.availability_model)


def _check_sampler(body: CreateSamplerBody, max_seq_len: int) -> None:
    if body.base_model is None and body.run_id is None and body.model_path is None:
        raise InvalidInputError("base_model: a standalone sampler needs base_model or model_path")
    _check_range("max_seq_length", body.max_seq_length, 1, max_seq_len)
    _check_range("num_replicas", body.num_replicas, 1, None)
    _check_availability(body.availability_model)


def _check_range(name: str, value: int | None, low: int, high: int | None) -> None:
    if value is not None and (value < low or (high is not None and value > high)):
        bounds = f">= {low}" if high is None else f"from {low} to {high}"
        raise InvalidInputError(f"{name}: expected a whole number {bounds}, got {value}")


def _check_availability(value: str | None) -> None:
    if value not in (None, "dedicated", "spot"):
        raise InvalidInputError(f"availability_model: expected 'dedicated' or 'spot', got {value!r}")


def _run_record(body: CreateRunBody) -> RunRecord:
    return RunRecord(
        id=new_id(7),
        session_id=body.session_id,
        name=body.name or body.base_model,
        base_model=body.base_model,
        created_at=datetime.now(UTC),
        lora_rank=body.lora_rank or _RANK,
        seed=body.seed,
        max_seq_len=body.max_seq_len,
        load_from=body.path,
    )


def _sampler_record(body: CreateSamplerBody, base_model: str) -> SamplerRecord:
    return SamplerRecord(
        id=new_id(7),
        session_id=body.session_id,
        base_model=base_model,
        created_at=datetime.now(UTC),
        run_id=body.run_id,
        model_path=body.model_path,
        max_seq_len=body.max_seq_length,
    )
