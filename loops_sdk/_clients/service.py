"""`ServiceClient`: the way in. It opens a session and hands out training clients that share its connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs

from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.pairing import PairedSampler
from loops_sdk._clients.readiness import trainer_ready
from loops_sdk._clients.training import TrainingClient, check_weights
from loops_sdk._net.futures import OperationFuture
from loops_sdk._net.network import Network
from loops_sdk._wire.bodies import CreateRunBody
from loops_sdk.errors import ClientClosedError, InvalidInputError, LoopsError, ProtocolError
from loops_sdk.instrumentation import Observer
from loops_sdk.instrumentation.wandb_observer import WandbObserver
from loops_sdk.types import Checkpoint, GetInfoResponse, LoadWeightsResponse, WandbConfig
from loops_sdk.types._checks import check_int, check_number, check_text
from loops_sdk.types.checkpoints import check_name

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_Load: TypeAlias = Callable[[TrainingClient, str], Awaitable[OperationFuture[LoadWeightsResponse]]]

_BASE_URL = "LOOPS_BASE_URL"
DEFAULT_BASE_URL = "https://api.baseten.co"
_WARM_START = "LOOPS_WARM_START_SAMPLER"


class ServiceClient:
    """A session on the service.

    ``async with ServiceClient() as service:`` opens the session; without it the first call does. Construction does no
    I/O. Everything made by this client shares its connections and ends with it. Use it in one event loop.

    Args:
        training_project_id: the project the session is filed under; default: the key's own.
        api_key: default ``BASETEN_API_KEY``. It is sent to the control plane and to the trainers and samplers that it
            names, nowhere else.
        base_url: address of the control plane; default ``LOOPS_BASE_URL``, then ``https://api.baseten.co``.
        observers: functions that hear of every event (submissions, retries, results); see `loops_sdk.instrumentation`.

    Raises:
        InvalidInputError: no key, or an argument that is not of its form.
    """

    def __init__(
        self,
        training_project_id: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        if training_project_id is not None:
            check_text("training_project_id", training_project_id)
        self._project_id = training_project_id
        self._base_url = base_url or os.environ.get(_BASE_URL) or DEFAULT_BASE_URL
        self._network = Network(api_key, observers)
        self._control = ControlPlane(self._base_url, self._network)
        self._opening = asyncio.Lock()
        self._session_id: str | None = None
        self._clients: list[TrainingClient] = []
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"session={self._session_id}"
        return f"<ServiceClient {self._base_url} {state}>"

    async def open_async(self) -> Self:
        """Open the session, unless it is open.

        Raises:
            AuthenticationError: the key is not accepted.
            ConnectionFailedError: the control plane cannot be reached; the message names address and cause.
            ClientClosedError: the client was closed.
        """
        if self._closed:
            raise ClientClosedError("the client is closed")
        async with self._opening:
            if self._session_id is None:
                self._session_id = (await self._control.create_session(self._project_id)).id
        return self

    @property
    def session_id(self) -> str:
        """Id of the session.

        Raises:
            LoopsError: the session is not open yet.
        """
        if self._session_id is None:
            raise LoopsError(
                "session_id: the session is not open yet; use `async with ServiceClient(...)` or open_async()"
            )
        return self._session_id

    async def create_lora_training_client_async(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        wandb_config: WandbConfig | None = None,
        *,
        max_seq_len: int | None = None,
        replicas: int | None = None,
        name: str | None = None,
        with_sampler: bool | None = None,
        publish_timeout: float = 600.0,
    ) -> TrainingClient:
        """Provision a trainer with a fresh LoRA adapter and wait until it is ready.

        Args:
            base_model: name of the base model, for example ``"Qwen/Qwen3-8B"``; ``"loops/tiny"`` on the embedded
                deployment.
            rank: rank of the adapter.
            seed: seed of the adapter's initial weights; `None` lets the trainer draw one.
            timeout: seconds that provisioning may take; later, that each operation may take in its turn.
            ready_timeout: seconds to wait until the trainer (and, when it is needed, the sampler) is up.
            wandb_config: draw losses, metrics, learning rate, tokens per second and policy version against the
                optimizer step with Weights & Biases, in a run of this client's own that ends when it is closed. What
                goes wrong there is one warning in the log, and never an error here.
            max_seq_len: longest sequence in tokens; default: what the model supports.
            replicas: data-parallel copies of the trainer; default: the service's.
            name: name of the run; default: the service's.
            with_sampler: provision the paired sampler together with the trainer; by default it is made when first
                needed, unless ``LOOPS_WARM_START_SAMPLER=true``.
            publish_timeout: seconds that publishing with `save_weights_and_get_sampling_client_async` waits for the
                sampler.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            BadRequestError: the service refused, for example because it does not have the model.
            RequestTimeoutError: not ready in time; `session_id` and `run_id` are on the error.
            DeploymentFailedError: the trainer will not come up.
            LoopsError: the service could not be reached.
        """
        check_text("base_model", base_model)
        check_int("rank", rank, low=1)
        if seed is not None:
            check_int("seed", seed, low=0)
        options = _Options(
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout
        )
        return await self._provision(base_model, rank, seed, options)

    async def create_training_client_from_state_async(
        self,
        path: str,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        wandb_config: WandbConfig | None = None,
        *,
        max_seq_len: int | None = None,
        replicas: int | None = None,
        name: str | None = None,
        with_sampler: bool | None = None,
        publish_timeout: float = 600.0,
    ) -> TrainingClient:
        """Provision a trainer for a checkpoint's base model and rank, and load its weights with a fresh optimizer.

        Args:
            path: the ``bt://loops:<run_id>/weights/<name>`` address that `TrainingClient.save_state_async` gave, of any
                run. What is saved later belongs to the new run.
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout: as in
                `create_lora_training_client_async`.

        Returns:
            The client, once the weights are loaded.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            NotFoundError: there is no such checkpoint; nothing was made.
            ProtocolError: the service does not tell the checkpoint's base model or rank; nothing was made.
            RemoteOpError: the weights cannot be loaded; `session_id` and `run_id` are on the error.
            BadRequestError, RequestTimeoutError, DeploymentFailedError, LoopsError: as
                `create_lora_training_client_async`.
        """
        options = _Options(
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout
        )
        return await self._resume(path, TrainingClient.load_state_async, options)

    async def create_training_client_from_state_with_optimizer_async(
        self,
        path: str,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        wandb_config: WandbConfig | None = None,
        *,
        max_seq_len: int | None = None,
        replicas: int | None = None,
        name: str | None = None,
        with_sampler: bool | None = None,
        publish_timeout: float = 600.0,
    ) -> TrainingClient:
        """As `create_training_client_from_state_async`, with the checkpoint's Adam moments and step count: training
        goes on as if it had never stopped.

        Args:
            path: as in `create_training_client_from_state_async`.
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout: as in
                `create_lora_training_client_async`.

        Raises:
            LoopsError: as `create_training_client_from_state_async`.
        """
        options = _Options(
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout
        )
        return await self._resume(path, TrainingClient.load_state_with_optimizer_async, options)

    async def _resume(self, path: str, load: _Load, options: _Options) -> TrainingClient:
        check_weights(path)
        await self.open_async()
        base_model, rank = _model_of(await self._control.checkpoint(path))
        training = await self._provision(base_model, rank, None, options)
        try:
            await (await load(training, path))
        except BaseException as error:
            await training.aclose()
            if isinstance(error, LoopsError):
                error.add_context(session_id=self._session_id, run_id=training.run_id)
            raise
        return training

    async def _provision(self, base_model: str, rank: int, seed: int | None, options: _Options) -> TrainingClient:
        warm = _warm_start() if options.with_sampler is None else options.with_sampler
        await self.open_async()
        body = CreateRunBody(
            self.session_id,
            base_model,
            name=options.name,
            max_seq_len=options.max_seq_len,
            lora_rank=rank,
            seed=seed,
            replicas=options.replicas,
        )
        run = await self._control.create_run(body, with_sampler=warm, timeout=options.timeout)
        try:
            await trainer_ready(run, self._network.caller, self._control, options.ready_timeout)
        except LoopsError as error:
            error.add_context(session_id=run.session_id, run_id=run.id)
            raise
        info = GetInfoResponse(base_model, rank, options.max_seq_len)
        client = TrainingClient._of_service(
            self._network,
            run.base_url,
            info,
            PairedSampler.of_run(
                self._control, run, info, timeout=options.timeout, ready_timeout=options.ready_timeout
            ),
            control=self._control,
            run_id=run.id,
            timeout=options.timeout,
            publish_timeout=options.publish_timeout,
        )
        self._clients.append(client)
        if options.wandb_config is not None:
            client._record(WandbObserver(options.wandb_config, base_model=base_model, lora_rank=rank, run_id=run.id))
        return client

    async def list_checkpoints_async(self, run_id: str) -> list[Checkpoint]:
        """The checkpoints of a run.

        Raises:
            InvalidInputError: not a run id.
            LoopsError: the control plane could not be reached.
        """
        return await self._control.checkpoints(run_id=check_name("run_id", run_id))

    async def aclose(self) -> None:
        """Close every client made by this one and all connections. Runs and checkpoints stay as they are."""
        self._closed = True
        try:
            for client in self._clients:
                await client.aclose()
        finally:
            await self._network.aclose()

    async def __aenter__(self) -> Self:
        try:
            return await self.open_async()
        except BaseException:
            await self.aclose()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


@attrs.frozen
class _Options:
    """What all ways to a training client have in common, checked."""

    timeout: float
    ready_timeout: float
    wandb_config: WandbConfig | None
    max_seq_len: int | None
    replicas: int | None
    name: str | None
    with_sampler: bool | None
    publish_timeout: float

    def __attrs_post_init__(self) -> None:
        for argument in ("timeout", "ready_timeout", "publish_timeout"):
            check_number(argument, getattr(self, argument), above=0)
        for argument in ("max_seq_len", "replicas"):
            if (number := getattr(self, argument)) is not None:
                check_int(argument, number, low=1)
        if self.name is not None:
            check_name("name", self.name)
        wandb = self.wandb_config
        if not (wandb is None or isinstance(wandb, WandbConfig)):
            raise InvalidInputError(f"wandb_config: expected WandbConfig or None, got {type(wandb).__name__}")


def _model_of(saved: Checkpoint) -> tuple[str, int]:
    """Base model and rank that a trainer for this checkpoint must have."""
    rank = (saved.lora_adapter_config or {}).get("r")
    if not saved.base_model or not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        told = f"base_model {saved.base_model!r} and r {rank!r}"
        raise ProtocolError(f"unexpected reply: expected base model and rank of {saved.path}, got {told}")
    return saved.base_model, rank


def _warm_start() -> bool:
    value = os.environ.get(_WARM_START, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise InvalidInputError(f"{_WARM_START}: expected true or false, got {value!r}")
    return value in ("true", "1")
