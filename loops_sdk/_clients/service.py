"""`ServiceClient`: the way in. It opens a session, or attaches to servers that run already, and hands out clients that
share its connections.

It decides which arguments are right and closes what it handed out. How trainers and samplers come about is told by
`provisioning` and `attaching`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from weakref import WeakSet

from loops_sdk._clients.adapters import beyond_creation, init_body
from loops_sdk._clients.archives import archive_url
from loops_sdk._clients.attaching import Attaching
from loops_sdk._clients.awaited import awaited_only
from loops_sdk._clients.downloads import download_checkpoint
from loops_sdk._clients.options import Reuse, SamplerOptions, TrainerOptions, check_model
from loops_sdk._clients.provisioning import Provisioning
from loops_sdk._clients.publishing import sampler_weights
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.training import TrainingClient, check_weights
from loops_sdk._net.futures import OperationFuture
from loops_sdk._net.network import ApiKey, Network
from loops_sdk.errors import CLOSED, ClientClosedError, InvalidInputError, LoopsError, UnsupportedError
from loops_sdk.instrumentation import MetricsObserver, Observer
from loops_sdk.instrumentation.metrics import folder_of_environment
from loops_sdk.instrumentation.progress import progress_observer
from loops_sdk.instrumentation.wandb_observer import WandbObserver
from loops_sdk.types import (
    Checkpoint,
    CheckpointFilesResponse,
    LoadWeightsResponse,
    Run,
    ServerCapabilities,
    WandbConfig,
)
from loops_sdk.types._checks import check_int, check_text
from loops_sdk.types.checkpoints import check_name

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_Load: TypeAlias = Callable[[TrainingClient, str], Awaitable[OperationFuture[LoadWeightsResponse]]]

_API_KEY = "BASETEN_API_KEY"
_BASE_URL = "LOOPS_BASE_URL"
DEFAULT_BASE_URL = "https://api.baseten.co"
_TEAM = "LOOPS_TEAM"
_USE_CASES = ("rl", "sft")


class ServiceClient:
    """A session on the service.

    ``async with ServiceClient() as service:`` opens the session; without it the first call does. Construction does no
    I/O. Everything made by this client shares its connections and ends with it. Use it in one event loop.

    Where ``LOOPS_METRICS_DIR`` names a folder, every training client of this one writes its curves there, a file per
    run (`loops_sdk.instrumentation.MetricsObserver`).

    Args:
        training_project_id: the project the session is filed under; default: the key's own.
        api_key: the key, or a function without arguments that gives it and is called once, at construction; default
            ``BASETEN_API_KEY``. The key is sent to the control plane and to the trainers and samplers that it names,
            nowhere else.
        base_url: address of the control plane; default ``LOOPS_BASE_URL``, then ``https://api.baseten.co``.
        reuse_from_session_id: take over the trainers and samplers of an earlier session where they still run and fit,
            instead of starting new ones; default ``LOOPS_REUSE_FROM_SESSION_ID``. Runs are asked with a run's id if
            both are in the environment; a keyword given here leaves both variables unread.
        reuse_from_run_id: the same with the trainer and sampler of one run; default ``LOOPS_REUSE_FROM_RUN_ID``. Both
            are best effort: what cannot be reused is started anew.
        team: name of the team that sessions, runs and samplers belong to; default ``LOOPS_TEAM``, then the key's own
            user.
        observers: functions that hear of every event (submissions, retries, results); see `loops_sdk.instrumentation`.
        progress: whether a line says what is being waited for (a server that comes up, files, operations and samples)
            once that has lasted a second, and for how long; it goes when the wait is over. By default where a person
            looks on: in a notebook, and where standard error is a terminal, but not at a Python prompt, and never
            where the environment says ``CI``. ``LOOPS_PROGRESS=0`` or ``1`` decides where this does not. `True` in a
            program without a terminal writes plain lines to standard error, one for a wait and one for every half
            minute of it.

    Raises:
        InvalidInputError: no key, or an argument that is not of its form.
    """

    def __init__(
        self,
        training_project_id: str | None = None,
        *,
        api_key: str | Callable[[], str] | None = None,
        base_url: str | None = None,
        reuse_from_session_id: str | None = None,
        reuse_from_run_id: str | None = None,
        team: str | None = None,
        observers: Sequence[Observer] = (),
        progress: bool | None = None,
    ) -> None:
        if training_project_id is not None:
            check_text("training_project_id", training_project_id)
        if team is not None:
            check_text("team", team)
        reuse = Reuse.of(reuse_from_session_id, reuse_from_run_id)
        network = self._observed(api_key, observers, progress)
        way = Provisioning(
            base_url or os.environ.get(_BASE_URL) or DEFAULT_BASE_URL,
            network,
            project_id=training_project_id,
            team=team or os.environ.get(_TEAM) or None,
            reuse=reuse,
        )
        self._take(network, way)

    @classmethod
    def local(
        cls,
        *,
        trainer_url: str,
        sampler_url: str | None = None,
        api_key: str | Callable[[], str] | None = None,
        observers: Sequence[Observer] = (),
        progress: bool | None = None,
    ) -> Self:
        """A client bound to a trainer and a sampler that run already, without a control plane.

        `create_lora_training_client_async` attaches to the trainer and refuses what that cannot honour: another base
        model or rank than it has, a seed, replicas, a name. Nothing is made, and nothing is reset. What only a control
        plane knows (`list_checkpoints_async`, `get_server_capabilities_async`, `get_checkpoint_archive_url_async`,
        `download_checkpoint_async`) raises `UnsupportedError`, and there is no session.

        Args:
            trainer_url: address of the trainer.
            sampler_url: address of the sampler that follows the trainer's published weights; `None` when there is none.
            api_key: the key, or a function that gives it; default ``BASETEN_API_KEY``. Without either no key is sent.
            observers, progress: as in the constructor.

        Raises:
            InvalidInputError: an argument is not of its form.
        """
        self = cls.__new__(cls)
        key = os.environ.get(_API_KEY, "") if api_key is None else api_key
        network = self._observed(key, observers, progress)
        self._take(network, Attaching(network, trainer_url, sampler_url))
        return self

    def _observed(self, api_key: ApiKey, observers: Sequence[Observer], progress: bool | None) -> Network:
        """Connections whose events are shown to who waits for them, and become rows in ``LOOPS_METRICS_DIR``, where
        that is set.
        """
        self._progress = progress_observer(progress)
        folder = folder_of_environment()
        self._metrics = None if folder is None else MetricsObserver(folder)
        own: list[Observer] = [one for one in (self._progress, self._metrics) if one is not None]
        return Network(api_key, (*observers, *own))

    def _take(self, network: Network, way: Provisioning | Attaching) -> None:
        self._network = network
        self._way = way
        self._trainings: set[TrainingClient] = set()
        self._samplings: WeakSet[SamplingClient] = WeakSet()
        self._closed = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a ServiceClient cannot be pickled: its connections belong to one process. Pass a SamplingClient, or "
            "session_id and run ids, and make a ServiceClient there"
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._way.state
        return f"<ServiceClient {self._way!r} {state}>"

    async def open_async(self) -> Self:
        """Open the session, unless it is open.

        Raises:
            AuthenticationError: the key is not accepted.
            NotFoundError: there is no team of the given name.
            ConnectionFailedError: the control plane cannot be reached; the message names address and cause.
            ClientClosedError: the client was closed.
        """
        self._require_open()
        await self._way.open()
        return self

    @property
    def session_id(self) -> str:
        """Id of the session.

        Raises:
            LoopsError: the session is not open yet, or there is none because the client is a `local` one.
        """
        return self._way.session_id

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
        lora_alpha: int | None = None,
        train_attn: bool | None = None,
        train_mlp: bool | None = None,
        train_unembed: bool | None = None,
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
            max_seq_len: longest sequence in tokens; default: what the model supports, which `TrainingClient.get_info`
                then tells if the service does.
            replicas: data-parallel copies of the trainer; default: the service's.
            name: name of the run; default: the service's.
            with_sampler: provision the paired sampler together with the trainer; by default it is made when first
                needed, unless ``LOOPS_WARM_START_SAMPLER=true``.
            publish_timeout: seconds that publishing with `save_weights_and_get_sampling_client_async` waits for the
                sampler.
            lora_alpha: scale of the adapter before division by the rank, >= 1; `None` means the trainer's own, 32
                whatever the rank.
            train_attn, train_mlp, train_unembed: whether attention, MLP and unembedding get an adapter; `None` means
                the trainer's own choice, which is all of them. These three and `lora_alpha` are asked of the trainer
                once it is ready (`TrainingClient.init_trainer_server_async`), for no run can be created with them.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            BadRequestError: the service refused, for example because it does not have the model.
            UnsupportedError: (a `NotImplementedError`) the trainer does not confirm `lora_alpha` or a part that was
                asked for; `run_id` is on the error.
            RequestTimeoutError: not ready in time; `session_id` and `run_id` are on the error.
            DeploymentFailedError: the trainer will not come up.
            LoopsError: the service could not be reached.

        While the client is open and has nothing to do, the trainer is asked for its health once a minute, so that it is
        not scaled to zero; close the client to let it go.
        """
        check_model(base_model, rank, seed)
        parts = {"train_attn": train_attn, "train_mlp": train_mlp, "train_unembed": train_unembed}
        adapter = beyond_creation(init_body(rank, lora_alpha=lora_alpha, seed=seed, **parts))
        options = TrainerOptions(
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout, adapter
        )
        self._require_open()
        training = self._adopted(await self._way.trainer(base_model, rank, seed, options), options)
        if adapter:
            await self._settle(training, partial(training.init_trainer_server_async, rank, seed=seed, **adapter))
        return training

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
        options = TrainerOptions(
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
        options = TrainerOptions(
            timeout, ready_timeout, wandb_config, max_seq_len, replicas, name, with_sampler, publish_timeout
        )
        return await self._resume(path, TrainingClient.load_state_with_optimizer_async, options)

    async def attach_training_client_async(
        self,
        run_id: str,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        wandb_config: WandbConfig | None = None,
        *,
        rank: int | None = None,
        publish_timeout: float = 600.0,
    ) -> TrainingClient:
        """A client of a run that is there already, for example because the process that made it is gone.

        Nothing is made and nothing is reset: weights, accumulated gradients and queued operations are as they were.
        `TrainingClient.resume_operation_async` gets the results of operations that the other process submitted.

        Args:
            run_id: the run; `TrainingClient.run_id`, errors and ``loops runs list`` tell it.
            timeout, ready_timeout, wandb_config, publish_timeout: as in `create_lora_training_client_async`.
            rank: rank of the run's adapter, for `TrainingClient.get_info`; needed only when the trainer does not tell
                it.

        Raises:
            InvalidInputError: an argument is wrong, or `rank` is not what the trainer tells.
            NotFoundError: there is no such run.
            DeploymentFailedError: the run has ended; start a new one from a checkpoint.
            RequestTimeoutError, LoopsError: as `create_lora_training_client_async`.
        """
        options = TrainerOptions(timeout, ready_timeout, wandb_config, None, None, None, None, publish_timeout)
        check_name("run_id", run_id)
        if rank is not None:
            check_int("rank", rank, low=1)
        self._require_open()
        return self._adopted(await self._way.attached(run_id, rank, options), options)

    async def create_sampling_client_async(
        self,
        base_model: str,
        model_path: str | None = None,
        *,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        max_seq_len: int | None = None,
        replicas: int | None = None,
    ) -> SamplingClient:
        """Provision a sampler of its own and wait until it is ready. The client follows whatever weights are current
        there, without a pin.

        Args:
            base_model: name of the base model.
            model_path: not supported here; use `TrainingClient.create_sampling_client_async`, or
                `create_sampling_client_from_checkpoint_async`.
            timeout: seconds that provisioning may take; later, that each call may take with all its attempts.
            ready_timeout: seconds to wait until the sampler is up.
            max_seq_len: longest prompt plus continuation in tokens; default: what the model supports.
            replicas: number of copies of the sampler; default: the service's.

        Raises:
            UnsupportedError: (a `NotImplementedError`) `model_path` was given.
            InvalidInputError: an argument is wrong; nothing was sent.
            BadRequestError: the service refused, for example because it does not have the model.
            RequestTimeoutError: not ready in time; `session_id` is on the error, the sampler's id in its message.
            DeploymentFailedError: the sampler will not come up.
            LoopsError: the service could not be reached.
        """
        if model_path is not None:
            raise UnsupportedError(
                "model_path: a sampler of its own serves the base model; use TrainingClient.create_sampling_client "
                "for the weights of a run, create_sampling_client_from_checkpoint when that has ended"
            )
        check_model(base_model)
        options = SamplerOptions(timeout, ready_timeout, max_seq_len, replicas)
        self._require_open()
        sampling = await self._way.sampler(base_model, options)
        self._samplings.add(sampling)
        return sampling

    async def create_sampling_client_from_checkpoint_async(
        self,
        model_path: str,
        *,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        max_seq_len: int | None = None,
        replicas: int | None = None,
    ) -> SamplingClient:
        """Provision a sampler of its own that serves one checkpoint for good, whatever is trained later, and wait until
        it is ready. A run that is still open samples from its checkpoints without one
        (`TrainingClient.create_sampling_client_async`).

        Args:
            model_path: the ``bt://loops:<run_id>/sampler_weights/<name>`` address of any run.
            timeout, ready_timeout, max_seq_len, replicas: as in `create_sampling_client_async`.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            NotFoundError: there is no such checkpoint; nothing was made.
            ProtocolError: the service does not tell the checkpoint's base model; nothing was made.
            UnsupportedError: the client is a `local` one.
            BadRequestError, RequestTimeoutError, DeploymentFailedError, LoopsError: as in
                `create_sampling_client_async`.
        """
        sampler_weights(model_path)
        options = SamplerOptions(timeout, ready_timeout, max_seq_len, replicas)
        self._require_open()
        sampling = await self._way.sampler_of(model_path, options)
        self._samplings.add(sampling)
        return sampling

    # ------------------------------------------------------------------ what there is

    async def list_runs_async(self, base_model: str | None = None) -> list[Run]:
        """The caller's own runs, those that have ended (state ``INACTIVE``) too; a team's where the client has a team.

        Args:
            base_model: runs of this base model only.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            UnsupportedError: the client is a `local` one.
            LoopsError: the control plane could not be reached.
        """
        if base_model is not None:
            check_text("base_model", base_model)
        control = await self._way.acting("list_runs")
        return await control.list_runs(base_model=base_model)

    async def get_run_async(self, run_id: str) -> Run:
        """A run: its base model, its state, its sampler.

        Args:
            run_id: id of the run, for example `TrainingClient.run_id`.

        Raises:
            InvalidInputError: not a run id.
            NotFoundError: there is no such run.
            UnsupportedError: the client is a `local` one.
            LoopsError: the control plane could not be reached.
        """
        check_name("run_id", run_id)
        return await self._way.control("get_run").get_run(run_id)

    async def get_server_capabilities_async(
        self, model: str | None = None, use_case: str | None = None, max_seq_len: int | None = None
    ) -> ServerCapabilities:
        """The base models that the service offers.

        Args:
            model: only this one; a model that the service does not have gives an empty list, no error.
            use_case: ``"rl"`` (trainer and sampler are needed) or ``"sft"``; default: the service's, ``"rl"``.
            max_seq_len: say for sequences of this many tokens whether a model is enabled; default: the longest that
                each is enabled for.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            UnsupportedError: the client is a `local` one.
            LoopsError: the control plane could not be reached.
        """
        if model is not None:
            check_text("model", model)
        if use_case not in (None, *_USE_CASES):
            raise InvalidInputError(f"use_case: expected 'rl', 'sft' or None, got {use_case!r}")
        if max_seq_len is not None:
            check_int("max_seq_len", max_seq_len, low=1)
        control = self._way.control("get_server_capabilities")
        return await control.capabilities(model=model, use_case=use_case, max_seq_len=max_seq_len)

    async def list_checkpoints_async(self, run_id: str) -> list[Checkpoint]:
        """The checkpoints of a run.

        Args:
            run_id: id of the run, for example `TrainingClient.run_id`.

        Raises:
            InvalidInputError: not a run id.
            UnsupportedError: the client is a `local` one.
            LoopsError: the control plane could not be reached.
        """
        check_name("run_id", run_id)
        return await self._way.control("list_checkpoints").checkpoints(run_id=run_id)

    async def get_checkpoint_archive_url_async(
        self, checkpoint_id: str, page_size: int = 1000, page_token: int = 0
    ) -> CheckpointFilesResponse:
        """Presigned addresses of a checkpoint's files, one page at a time. They are short-lived and need no key.

        Set ``S3_REGION`` to the region of the bucket, for example ``us-west-2``, when the files lie in S3: addresses on
        S3's global endpoint are then moved to that region's, where their signature allows it.

        Args:
            checkpoint_id: `Checkpoint.id`, or the checkpoint's ``bt://`` address.
            page_size: most files in the reply, >= 1.
            page_token: how many files to skip: 0, then the previous page's `next_page_token`.

        Raises:
            InvalidInputError: an argument or ``S3_REGION`` is wrong; nothing was sent.
            NotFoundError: there is no such checkpoint.
            UnsupportedError: the client is a `local` one.
            LoopsError: the control plane could not be reached.
        """
        control = self._way.control("get_checkpoint_archive_url")
        return await archive_url(control, checkpoint_id, page_size, page_token)

    async def download_checkpoint_async(
        self,
        checkpoint_id: str,
        folder: str | Path,
        *,
        parallel: int = 4,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Download all files of a checkpoint. A sampler checkpoint gives a folder that PEFT loads.

        ``S3_REGION`` is honoured as by `get_checkpoint_archive_url_async`.

        Args:
            checkpoint_id: `Checkpoint.id`, or the checkpoint's ``bt://`` address.
            folder: where to; made if missing. Else it must be empty, or hold a download of this very checkpoint, which
                is then completed: whole files stay, partial ones are gone on with.
            parallel: most files at the same time, >= 1.
            on_progress: called with the number of bytes that are there and of those there will be.

        Returns:
            The paths of the files, in the service's order.

        Raises:
            InvalidInputError: an argument is wrong, or `folder` holds something else; nothing was downloaded.
            NotFoundError: there is no such checkpoint.
            UnsupportedError: its files are in a volume, or the client is a `local` one.
            ProtocolError: the service named a file outside the folder, or one of another size than it has; a file came
                with another content than its server says, or is no whole safetensors file.
            LoopsError: a file could not be had, or not be written; the same call goes on from there.
        """
        control = self._way.control("download_checkpoint")
        return await download_checkpoint(control, checkpoint_id, folder, parallel=parallel, on_progress=on_progress)

    async def aclose(self) -> None:
        """Close every client made by this one and all connections. Runs and checkpoints stay as they are.

        All are closed, also when one of them fails to; the first failure is raised in the end.
        """
        self._closed = True
        try:
            clients: list[TrainingClient | SamplingClient] = [*self._trainings, *self._samplings]
            outcomes = await asyncio.gather(*(client.aclose() for client in clients), return_exceptions=True)
        finally:
            if self._progress is not None:
                self._progress.close()
            await self._network.aclose()
            if self._metrics is not None:
                await self._metrics.aclose()
        if failed := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
            raise failed[0]

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

    # ------------------------------------------------------------------ how

    def _require_open(self) -> None:
        if self._closed:
            raise ClientClosedError(CLOSED)

    async def _resume(self, path: str, load: _Load, options: TrainerOptions) -> TrainingClient:
        check_weights(path)
        self._require_open()
        training = self._adopted(await self._way.trainer_for(path, options), options)
        await self._settle(training, partial(load, training, path))
        return training

    async def _settle(self, training: TrainingClient, begin: Callable[[], Awaitable[OperationFuture[Any]]]) -> None:
        """Do what a client must have done before it is handed out; it is closed if that fails."""
        try:
            await (await begin())
        except BaseException as error:
            await training.aclose()
            if isinstance(error, LoopsError):
                error.add_context(run_id=training.run_id, **self._way.ids)
            raise

    def _adopted(self, training: TrainingClient, options: TrainerOptions) -> TrainingClient:
        """The client as it is handed out: closed with this one, kept alive, its curves drawn if that is wanted."""
        self._trainings.add(training)
        training._on_close = self._trainings.discard
        training._channel.keep_alive.start()
        if options.wandb_config is not None:
            info = training.get_info()
            about = {"base_model": info.base_model, "lora_rank": info.lora_rank, "run_id": training.run_id}
            training._record(WandbObserver(options.wandb_config, **about))
        return training


awaited_only(ServiceClient)
