"""Trainers and samplers from a control plane: a session, runs in it, and waiting until they are up.

It decides what is sent to make them. Which arguments are right, and who closes what was made, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs

from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.options import Reuse, SamplerOptions, TrainerOptions, warm_start
from loops_sdk._clients.pairing import PairedSampler
from loops_sdk._clients.readiness import sampler_ready, trainer_ready
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.trainer_status import trainer_status
from loops_sdk._clients.training import TrainingClient
from loops_sdk._net.caller import Patience
from loops_sdk._net.network import Network
from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody
from loops_sdk.errors import BadRequestError, DeploymentFailedError, InvalidInputError, LoopsError, ProtocolError
from loops_sdk.types import Checkpoint, GetInfoResponse, Run
from loops_sdk.types._checks import nearest

#: Asking for a model's longest sequence, beside the wait for the trainer: not worth a delay.
_BRIEFLY = Patience(total=3.0, attempts=2)


class Provisioning:
    """The service behind a control plane.

    Args:
        project_id: the project that the session is filed under.
        team: name of the team that everything belongs to.
        reuse: whose trainer and samplers to take over.
    """

    def __init__(
        self, base_url: str, network: Network, *, project_id: str | None, team: str | None, reuse: Reuse
    ) -> None:
        self._control = ControlPlane(base_url, network)
        self._network = network
        self._project_id = project_id
        self._team = team
        self._reuse = reuse
        self._opening = asyncio.Lock()
        self._acts = False
        self._session_id: str | None = None

    def __repr__(self) -> str:
        return self._control.base_url

    async def open(self) -> None:
        """Look the team up and open the session, once."""
        control = await self.acting("session")
        async with self._opening:
            if self._session_id is None:
                self._session_id = (await control.create_session(self._project_id)).id

    @property
    def state(self) -> str:
        """For a `repr`."""
        return f"session={self._session_id}"

    @property
    def session_id(self) -> str:
        """The session's id.

        Raises:
            LoopsError: it is not open yet.
        """
        if self._session_id is None:
            raise LoopsError(
                "session_id: the session is not open yet; use `async with ServiceClient(...)` or open_async()"
            )
        return self._session_id

    @property
    def ids(self) -> dict[str, str | None]:
        """What errors carry."""
        return {"session_id": self._session_id}

    def control(self, _wanted: str) -> ControlPlane:
        """The control plane, whatever it is wanted for."""
        return self._control

    async def acting(self, _wanted: str) -> ControlPlane:
        """The control plane, for calls that the team has in a form of its own."""
        async with self._opening:
            if self._team is not None and not self._acts:
                await self._control.act_for(self._team)
                self._acts = True
        return self._control

    # ------------------------------------------------------------------ trainers

    async def trainer(self, base_model: str, rank: int, seed: int | None, options: TrainerOptions) -> TrainingClient:
        """A client of a new run's trainer, once that is up."""
        options = _warm(options)
        await self.open()
        body = CreateRunBody(
            self.session_id,
            base_model,
            name=options.name,
            max_seq_len=options.max_seq_len,
            lora_rank=rank,
            seed=seed,
            replicas=options.replicas,
            reuse_from_run_id=self._reuse.run_id,
            reuse_from_session_id=self._reuse.session_of_run,
        )
        try:
            run = await self._control.create_run(body, with_sampler=bool(options.with_sampler), timeout=options.timeout)
        except BadRequestError as error:
            error.message += await self._offered_instead(base_model)
            raise
        async with self._longest(base_model, options.max_seq_len) as longest:
            await trainer_ready(run, self._control, options.ready_timeout)
            info = GetInfoResponse(base_model, rank, await longest)
        return self._client(run, info, options)

    async def trainer_for(self, path: str, options: TrainerOptions) -> TrainingClient:
        """A client of a new run's trainer that fits a checkpoint; the weights are not loaded yet."""
        options = _warm(options)
        await self.open()
        base_model, rank = _model_of(await self._control.checkpoint(path))
        return await self.trainer(base_model, rank, None, options)

    async def attached(self, run_id: str, rank: int | None, options: TrainerOptions) -> TrainingClient:
        """A client of the trainer of a run that is there already."""
        run = await self._control.get_run(run_id)
        if run.status.name == "INACTIVE":
            text = f"run {run_id} has ended; start a new one from a checkpoint with create_training_client_from_state"
            raise DeploymentFailedError(text, session_id=run.session_id, run_id=run_id)
        await trainer_ready(run, self._control, options.ready_timeout)
        told = await trainer_status(self._network.caller, run.base_url)
        longest = told.max_seq_len or await self._longest_of(run.base_model, None)
        return self._client(run, GetInfoResponse(run.base_model, _one_rank(rank, told.rank), longest), options)

    def _client(self, run: Run, info: GetInfoResponse, options: TrainerOptions) -> TrainingClient:
        wanted = CreateSamplerBody(
            run.session_id,
            run_id=run.id,
            max_seq_length=options.max_seq_len,
            reuse_from_session_id=self._reuse.session_id,
        )
        sampler = PairedSampler.of_run(
            self._control, run, wanted, timeout=options.timeout, ready_timeout=options.ready_timeout
        )
        return TrainingClient._of_service(
            self._network,
            run.base_url,
            info,
            sampler,
            control=self._control,
            run_id=run.id,
            timeout=options.timeout,
            publish_timeout=options.publish_timeout,
        )

    @contextlib.asynccontextmanager
    async def _longest(self, base_model: str, given: int | None) -> AsyncIterator[asyncio.Task[int | None]]:
        """The longest sequence, being asked for unless it was given; the question ends with the block."""
        task = asyncio.create_task(self._longest_of(base_model, given))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _offered_instead(self, base_model: str) -> str:
        """What to say of a base model that is not on offer: the nearest that is, and how to see all."""
        with contextlib.suppress(LoopsError):
            offered = await self._control.capabilities(patience=_BRIEFLY)
            names = [model.model_name for model in offered.supported_models]
            if names and base_model not in names:
                return f"; `loops models` lists what is on offer{nearest(base_model, names)}"
        return ""

    async def _longest_of(self, base_model: str, given: int | None) -> int | None:
        if given is not None:
            return given
        with contextlib.suppress(LoopsError):
            offered = await self._control.capabilities(model=base_model, patience=_BRIEFLY)
            for model in offered.supported_models:
                if model.model_name == base_model:
                    return model.max_enabled_seq_len or model.max_seq_len
        return None

    # ------------------------------------------------------------------ samplers

    async def sampler(self, base_model: str, options: SamplerOptions) -> SamplingClient:
        """A client of a new sampler that no run has, once that is up."""
        await self.open()
        body = CreateSamplerBody(self.session_id, base_model, reuse_from_session_id=self._reuse.session_id)
        return await self._sampler_alone(body, base_model, options)

    async def sampler_of(self, model_path: str, options: SamplerOptions) -> SamplingClient:
        """A client of a new sampler that serves one checkpoint, for good."""
        await self.open()
        saved = await self._control.checkpoint(model_path)
        if not saved.base_model:
            raise ProtocolError(f"unexpected reply: expected the base model of {model_path}, got {saved.base_model!r}")
        body = CreateSamplerBody(self.session_id, model_path=model_path)
        return await self._sampler_alone(body, saved.base_model, options)

    async def _sampler_alone(self, body: CreateSamplerBody, base_model: str, options: SamplerOptions) -> SamplingClient:
        sized = attrs.evolve(body, max_seq_length=options.max_seq_len, num_replicas=options.replicas)
        made = await self._control.create_sampler(sized, base_model, timeout=options.timeout)
        place = await sampler_ready(made, self._control, options.ready_timeout, session_id=self.session_id, run_id=None)
        return SamplingClient._of_service(
            self._network,
            base_model,
            place,
            sampler_id=made.id,
            session_id=self.session_id,
            timeout=options.timeout,
            ready_timeout=options.ready_timeout,
        )


def _one_rank(given: int | None, told: int | None) -> int:
    """The rank of a trainer that may tell it, as given by a user who may know it."""
    rank = told or given
    if rank is None:
        raise InvalidInputError("rank: the trainer does not tell it; pass the rank that the run was made with")
    if given not in (None, rank):
        raise InvalidInputError(f"rank: given {given}, but the trainer has {told}; leave it out")
    return rank


def _warm(options: TrainerOptions) -> TrainerOptions:
    return attrs.evolve(options, with_sampler=warm_start()) if options.with_sampler is None else options


def _model_of(saved: Checkpoint) -> tuple[str, int]:
    """Base model and rank that a trainer for this checkpoint must have."""
    rank = (saved.lora_adapter_config or {}).get("r")
    if not saved.base_model or not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        told = f"base_model {saved.base_model!r} and r {rank!r}"
        raise ProtocolError(f"unexpected reply: expected base model and rank of {saved.path}, got {told}")
    return saved.base_model, rank
