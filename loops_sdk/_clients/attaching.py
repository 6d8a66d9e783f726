"""Trainer and sampler that run already, by their addresses: no control plane, no session, nothing is made or reset.

It decides what of a call a running server can honour; the rest is refused by name.
"""

from __future__ import annotations

from typing import NoReturn

from loops_sdk._clients.options import SamplerOptions, TrainerOptions
from loops_sdk._clients.pairing import PairedSampler
from loops_sdk._clients.readiness import address_ready
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.trainer_status import TrainerStatus, trainer_status
from loops_sdk._clients.training import TrainingClient
from loops_sdk._net.network import Network
from loops_sdk.errors import InvalidInputError, LoopsError, ProtocolError, UnsupportedError
from loops_sdk.types import GetInfoResponse, LocalDeployment
from loops_sdk.types._checks import shown


class Attaching:
    """A trainer and, unless there is none, the sampler that follows it."""

    def __init__(self, network: Network, trainer_url: str, sampler_url: str | None) -> None:
        network.transport.trust(trainer_url, "trainer_url")
        if sampler_url is not None:
            network.transport.trust(sampler_url, "sampler_url")
        self._network = network
        self._trainer_url = trainer_url
        self._sampler_url = sampler_url

    def __repr__(self) -> str:
        return f"local trainer={self._trainer_url} sampler={self._sampler_url}"

    async def open(self) -> None:
        """Nothing: the servers are there."""

    @property
    def state(self) -> str:
        """For a `repr`."""
        return "attached"

    @property
    def session_id(self) -> NoReturn:
        """There is none."""
        raise LoopsError("session_id: there is no session: this client was made with ServiceClient.local")

    @property
    def ids(self) -> dict[str, str | None]:
        """What errors carry."""
        return {}

    def control(self, wanted: str) -> NoReturn:
        """There is none."""
        raise UnsupportedError(
            f"{wanted}: there is no control plane to ask: this client was made with ServiceClient.local; "
            f"use ServiceClient(base_url=...)"
        )

    # ------------------------------------------------------------------ the trainer

    async def trainer(self, base_model: str, rank: int, seed: int | None, options: TrainerOptions) -> TrainingClient:
        """A client of the trainer, if that has what is asked for."""
        self._refuse(seed=seed, **options.adapter)
        told = await self._reached(options)
        self._compare("base_model", base_model, told.base_model, "start a trainer for it")
        self._compare("rank", rank, told.rank, "attach with that and change it with init_trainer_server")
        return self._client(base_model, rank, told, options)

    async def trainer_for(self, _path: str, options: TrainerOptions) -> TrainingClient:
        """A client of the trainer, with whatever base model and rank that has."""
        told = await self._reached(options)
        if told.base_model is None or told.rank is None:
            raise ProtocolError(
                f"the trainer at {self._trainer_url} does not tell its base model and rank; use "
                f"create_lora_training_client, then load_state"
            )
        return self._client(told.base_model, told.rank, told, options)

    async def attached(self, _run_id: str, _rank: int | None, _options: TrainerOptions) -> TrainingClient:
        """Runs are known to control planes only."""
        self.control("attach_training_client")

    async def _reached(self, options: TrainerOptions) -> TrainerStatus:
        self._refuse(replicas=options.replicas, name=options.name)
        if options.with_sampler and self._sampler_url is None:
            raise InvalidInputError("with_sampler: this client was made without a sampler_url")
        await address_ready(self._trainer_url, self._network.caller, options.ready_timeout)
        told = await trainer_status(self._network.caller, self._trainer_url)
        if options.max_seq_len is not None and told.max_seq_len is not None and options.max_seq_len > told.max_seq_len:
            self._differs("max_seq_len", options.max_seq_len, told.max_seq_len, "ask for at most that")
        return told

    def _client(self, base_model: str, rank: int, told: TrainerStatus, options: TrainerOptions) -> TrainingClient:
        place = None if self._sampler_url is None else LocalDeployment(self._sampler_url)
        sampler = PairedSampler.at(
            place,
            self._network.caller,
            run_id=told.run_id,
            ready_timeout=options.ready_timeout,
            argument="sampler_url",
        )
        return TrainingClient._of_service(
            self._network,
            self._trainer_url,
            GetInfoResponse(base_model, rank, options.max_seq_len or told.max_seq_len),
            sampler,
            control=None,
            run_id=told.run_id,
            timeout=options.timeout,
            publish_timeout=options.publish_timeout,
        )

    # ------------------------------------------------------------------ the sampler

    async def sampler(self, base_model: str, options: SamplerOptions) -> SamplingClient:
        """A client of the sampler."""
        self._refuse(max_seq_len=options.max_seq_len, replicas=options.replicas)
        if self._sampler_url is None:
            raise InvalidInputError("sampler_url: this client was made without one; pass sampler_url=... to local()")
        place = LocalDeployment(self._sampler_url)
        return SamplingClient._of_service(
            self._network, base_model, place, timeout=options.timeout, ready_timeout=options.ready_timeout
        )

    async def acting(self, wanted: str) -> NoReturn:
        """There is no control plane to act."""
        self.control(wanted)

    async def sampler_of(self, _model_path: str, _options: SamplerOptions) -> NoReturn:
        """There is nobody who could start one."""
        self.control("create_sampling_client_from_checkpoint")

    # ------------------------------------------------------------------ refusals

    def _refuse(self, **given: object) -> None:
        for argument, value in given.items():
            if value is not None:
                raise InvalidInputError(
                    f"{argument}: a server that runs already cannot honour it, got {value!r}; leave it out"
                )

    def _compare(self, argument: str, asked: object, told: object, advice: str) -> None:
        if told is not None and told != asked:
            self._differs(argument, asked, told, advice)

    def _differs(self, argument: str, asked: object, told: object, advice: str) -> NoReturn:
        raise InvalidInputError(
            f"{argument}: asked for {shown(asked)}, but the trainer at {self._trainer_url} has {shown(told)}; {advice}"
        )
