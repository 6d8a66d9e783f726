"""`TrainingClient`: forward and backward passes, optimizer steps, checkpoints and publishing, on one trainer.

It says what each call does and what is sent for it. Order, retries and results are the channel's; what is refused,
what the results tell and how a loss of the user's own is evaluated is decided in the modules beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from loops_sdk._clients.adapters import confirm, init_body
from loops_sdk._clients.archives import archive_url
from loops_sdk._clients.awaited import awaited_only
from loops_sdk._clients.binding import trust_deployment
from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.custom_loss import CustomPass
from loops_sdk._clients.measuring import Meter
from loops_sdk._clients.pairing import PairedSampler
from loops_sdk._clients.passes import numbers_in, pass_body
from loops_sdk._clients.publishing import Publishing
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.tokenizers import tokenizer_of
from loops_sdk._clients.trainer_state import TrainerState
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import ComposedFuture, OperationFuture
from loops_sdk._net.network import Network
from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import LoadBody, OptimStepBody, SaveBody
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk.errors import InvalidInputError, NotFoundError, ProtocolError, UnsupportedError
from loops_sdk.instrumentation.wandb_observer import WandbObserver
from loops_sdk.types import (
    AdamParams,
    Checkpoint,
    CheckpointFilesResponse,
    CheckpointPath,
    CustomArrayLoss,
    CustomLoss,
    Datum,
    Deployment,
    ForwardBackwardOutput,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LossFn,
    OperationInfo,
    OptimStepResponse,
    SaveWeightsResponse,
)
from loops_sdk.types._checks import check_int, check_number, check_text, shown
from loops_sdk.types.checkpoints import check_name

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from transformers import PreTrainedTokenizerBase

#: The future of a pass: its loss, its metrics and its log-probabilities.
ForwardBackwardFuture = OperationFuture[ForwardBackwardOutput]


class TrainingClient:
    """Drives one trainer.

    Usually made by `ServiceClient.create_lora_training_client_async`. Operations (`forward_backward_async`,
    `optim_step_async`, ...) return a future as soon as the trainer has accepted them; it works through them one at a
    time, in the order in which the calls were made, also when the calls run in one `asyncio.gather`. Use a client in
    one event loop.

    Args:
        trainer_url: address of the trainer.
        lora_rank: rank of its adapter.
        base_model: name of the base model.
        timeout: seconds a submission may take with all its attempts; and seconds that an operation may take on the
            trainer, counted from the moment those before it have finished.
        ready_timeout: seconds to wait for the paired sampler to come up.
        run_id: the run this trainer belongs to, sent with saves.
        paired_sampling_deployment: the sampler that follows this trainer's published weights.
        max_seq_len: longest sequence in tokens, for `get_info`.
        publish_timeout: seconds that `save_weights_and_get_sampling_client_async` waits for the sampler to load the
            weights.
        api_key: the key, or a function that gives it; default ``BASETEN_API_KEY``; an empty string sends no key.

    Raises:
        InvalidInputError: no key, or an argument out of range.
    """

    def __init__(
        self,
        trainer_url: str,
        *,
        lora_rank: int = 32,
        base_model: str,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        run_id: str | None = None,
        paired_sampling_deployment: Deployment | None = None,
        max_seq_len: int | None = None,
        publish_timeout: float = 600.0,
        api_key: str | Callable[[], str] | None = None,
    ) -> None:
        check_int("lora_rank", lora_rank, low=1)
        check_text("base_model", base_model)
        check_number("ready_timeout", ready_timeout, above=0)
        if run_id is not None:
            check_name("run_id", run_id)
        if max_seq_len is not None:
            check_int("max_seq_len", max_seq_len, low=1)
        network = Network(api_key)
        network.transport.trust(trainer_url, "trainer_url")
        if paired_sampling_deployment is not None:
            trust_deployment(network.transport, "paired_sampling_deployment", paired_sampling_deployment)
        self._owned = True
        self._control: ControlPlane | None = None
        info = GetInfoResponse(base_model, lora_rank, max_seq_len)
        sampler = PairedSampler.at(
            paired_sampling_deployment, network.caller, run_id=run_id, ready_timeout=ready_timeout
        )
        self._connect(network, trainer_url, info, sampler, run_id, timeout, publish_timeout)

    @classmethod
    def _of_service(
        cls,
        network: Network,
        trainer_url: str,
        info: GetInfoResponse,
        sampler: PairedSampler,
        *,
        control: ControlPlane | None,
        run_id: str | None,
        timeout: float,
        publish_timeout: float,
    ) -> Self:
        self = cls.__new__(cls)
        self._owned = False
        self._control = control
        self._connect(network, trainer_url, info, sampler, run_id, timeout, publish_timeout)
        return self

    def _connect(
        self,
        network: Network,
        trainer_url: str,
        info: GetInfoResponse,
        sampler: PairedSampler,
        run_id: str | None,
        timeout: float,
        publish_timeout: float,
    ) -> None:
        check_number("timeout", timeout, above=0)
        check_number("publish_timeout", publish_timeout, above=0)
        self._network = network
        self._info = info
        self._run_id = run_id
        about = {"run_id": run_id, "model": info.base_model}
        self._channel = Channel(trainer_url, network.caller, network.poller, timeout=timeout, **about)
        self._publishing = Publishing(network, sampler, info.base_model, run_id, timeout, publish_timeout)
        self._state = TrainerState(info.lora_rank)
        self._meter = Meter(network.caller.emit, run_id, self._state, draws_curves=network.draws_curves)
        self._stages: set[asyncio.Task[Any]] = set()
        self._on_close: Callable[[TrainingClient], None] | None = None

    def _record(self, recorder: WandbObserver) -> None:
        """Draw the curves of this client, and of no other one of the same service, until it is closed."""
        self._meter.record(recorder)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a TrainingClient cannot be pickled: its operations belong to one process. Pass the SamplingClient that "
            "save_weights_and_get_sampling_client gives, or run_id and checkpoint paths, and make a client there"
        )

    def __repr__(self) -> str:
        return f"<TrainingClient {self._info.base_model} run={self._run_id} {self._channel!r}>"

    # ------------------------------------------------------------------ operations

    async def forward_backward_async(
        self,
        data: Sequence[Datum],
        loss_fn: LossFn = "cross_entropy",
        loss_fn_config: Mapping[str, Any] | None = None,
    ) -> ForwardBackwardFuture:
        """Run a forward and a backward pass; gradients add up over calls until the next optimizer step.

        Args:
            data: the examples. The loss is the plain sum over all their positions, so a batch may be cut into calls
                at will.
            loss_fn: ``"cross_entropy"`` (needs `target_tokens`, -100 to ignore; optional `weights`), or one of the
                policy losses ``"importance_sampling"``, ``"ppo"``, ``"cispo"``, ``"dro"``, ``"dppo"`` (which need
                `logprobs` of the policy that sampled, and `advantages`).
            loss_fn_config: settings of the loss, for example ``{"clip_low_threshold": 0.8}`` for ``"ppo"``.

        Returns:
            The future of the loss, the metrics and the log-probabilities of the targets.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            BadRequestError: the trainer refused the data; the message names the place.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        return await self._pass(endpoints.FORWARD_BACKWARD, data, loss_fn, loss_fn_config)

    async def forward_async(
        self,
        data: Sequence[Datum],
        loss_fn: LossFn = "cross_entropy",
        loss_fn_config: Mapping[str, Any] | None = None,
    ) -> ForwardBackwardFuture:
        """Run a forward pass only: same arguments and result as `forward_backward_async`, accumulated gradients
        untouched.

        With empty `loss_fn_inputs` the targets are the input itself, shifted by one: ``logprobs[k]`` is the
        log-probability of token ``k + 1``, and the last entry is 0.0.
        """
        return await self._pass(endpoints.FORWARD, data, loss_fn, loss_fn_config)

    async def forward_backward_custom_async(
        self,
        data: Sequence[Datum],
        loss_fn: CustomLoss | CustomArrayLoss,
        *,
        autograd: bool = True,
    ) -> ForwardBackwardFuture:
        """Run a forward and a backward pass with a loss of your own, any function of the targets' log-probabilities.

        The trainer runs a forward pass; `loss_fn` is called here, in a thread; and its gradient is sent back as the
        weights of a cross-entropy, which has exactly that gradient. Both passes keep the place of this call in the
        order: what is called later, an `optim_step_async` for example, comes after both. Only tokens and targets are
        sent: every other input of a datum is for the function, under any name. Direct preference optimization
        (arXiv 2305.18290, equation 7) over pairs of a chosen and a rejected answer, whose `reference_logprobs` come
        from `attach_reference_logprobs_async`::

            def dpo(data, logprobs, beta=0.1):
                gains = [
                    (policy - datum.loss_fn_inputs["reference_logprobs"].to_torch()).sum()
                    for datum, policy in zip(data, logprobs)
                ]
                margins = beta * (torch.stack(gains[0::2]) - torch.stack(gains[1::2]))
                return -torch.nn.functional.logsigmoid(margins).sum(), {"margin": margins.mean()}

        Args:
            data: the examples. Without `target_tokens` the targets are the input shifted by one, as in
                `forward_async`. Where the target is -100 or the `mask` is 0, the log-probability is 0.0 and nothing is
                trained.
            loss_fn: ``loss_fn(data, logprobs) -> (loss, metrics)``. `logprobs` holds one float32 torch tensor per
                datum, a leaf with ``requires_grad``, of the shape of the targets; `loss` is a scalar tensor; `metrics`
                are numbers by name. It has no deadline, holds up what was called later, and must not call this client.
            autograd: False for a function without torch: `logprobs` are read-only float32 numpy arrays, and it returns
                ``(loss, gradients, metrics)`` with one array d loss / d logprobs per datum.

        Returns:
            The future of the result, once the trainer has accepted the backward pass: `loss` and ``loss:sum`` are the
            function's loss, `metrics` those of the backward pass and the function's, which win, and `loss_fn_outputs`
            hold the `logprobs` of the forward pass.

        Raises:
            InvalidInputError: an argument is wrong, and nothing was sent; or the function returned something else than
                promised, or what is not finite, and nothing was accumulated.
            UnsupportedError: torch is not installed, and `autograd` is True.
            BadRequestError: the trainer refused the data; the message names the place.
            RemoteOpError: the forward pass failed; nothing was accumulated.
            OperationTimeoutError: the forward pass took longer than the client's timeout.
            LoopsError: the trainer could not be reached, after bounded attempts.
            Exception: what the function raises, as it is; nothing was accumulated.
        """
        custom = CustomPass(data, loss_fn, autograd=autograd)
        measured = self._meter.of_pass(endpoints.FORWARD_BACKWARD.name, custom.asked)
        with self._channel.turn() as turn:
            forward = await turn.submit(endpoints.FORWARD, custom.forward(), size=numbers_in(custom.asked))
            evaluated = await turn.run(custom.evaluate, await forward)
            body = custom.backward(evaluated)

            def passed(output: ForwardBackwardOutput) -> ForwardBackwardOutput:
                return measured(evaluated.output(output))

            return await turn.submit(endpoints.FORWARD_BACKWARD, body, size=numbers_in(body.data), on_result=passed)

    async def optim_step_async(self, adam_params: AdamParams) -> OperationFuture[OptimStepResponse]:
        """Apply the accumulated gradients with Adam and clear them.

        Args:
            adam_params: the parameters of this step.

        Returns:
            The future of the step's metrics. It fails with `RemoteOpError`, weights untouched and gradients cleared,
            when nothing was accumulated, when a `forward_backward` since the last step failed, or when the gradient
            is not finite.

        Raises:
            InvalidInputError: not `AdamParams`; nothing was sent.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        if not isinstance(adam_params, AdamParams):
            told = f"expected AdamParams, for example AdamParams(learning_rate=1e-4), got {type(adam_params).__name__}"
            raise InvalidInputError(f"adam_params: {told}")
        measure, call = self._meter.of_step(), self._state.call()

        def stepped(response: OptimStepResponse) -> OptimStepResponse:
            self._state.stepped(call, response)
            measure({"learning_rate": float(adam_params.learning_rate), **response.metrics})
            return response

        return await self._channel.submit(endpoints.OPTIM_STEP, OptimStepBody(adam_params), on_result=stepped)

    async def save_state_async(self, name: str, ttl_seconds: int | None = None) -> OperationFuture[SaveWeightsResponse]:
        """Save adapter, optimizer moments and step count as a checkpoint, from which training can be resumed.

        Args:
            name: 1 to 255 letters, digits, '.', '_' or '-'; a checkpoint of the same name is replaced.
            ttl_seconds: remove it after this many seconds; `None` keeps it.

        Returns:
            The future of the checkpoint's ``bt://loops:<run_id>/weights/<name>`` address.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        return await self._save(endpoints.SAVE_STATE, name, ttl_seconds)

    async def save_weights_for_sampler_async(
        self, name: str, ttl_seconds: int | None = None
    ) -> OperationFuture[SaveWeightsResponse]:
        """Save the adapter alone and publish it to the paired sampler, which swaps it in without a restart.

        Args:
            name: as in `save_state_async`.
            ttl_seconds: as in `save_state_async`.

        Returns:
            The future of the checkpoint's ``bt://loops:<run_id>/sampler_weights/<name>`` address.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        return await self._save(endpoints.SAVE_WEIGHTS_FOR_SAMPLER, name, ttl_seconds)

    async def save_weights_and_get_sampling_client_async(self, name: str) -> ComposedFuture[SamplingClient]:
        """Publish the adapter and wait until the paired sampler serves it.

        Args:
            name: as in `save_state_async`.

        Returns:
            A future with two stages: the trainer publishes, then the sampler is watched until a replica reports the new
            version. It gives a `SamplingClient` that is pinned: no older weights ever answer it. The second stage has a
            ceiling of its own (`publish_timeout`, 600 s by default) whatever timeout the future is asked with.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            WeightsNotReadyError: (from the future; a `RuntimeError`) no replica reported the version in time.
            LoopsError: trainer or sampler could not be reached, after bounded attempts.
        """
        published = await self.save_weights_for_sampler_async(name)
        return ComposedFuture(published, self._pinned, self._own)

    async def load_state_async(self, path: str) -> OperationFuture[LoadWeightsResponse]:
        """Replace the adapter by that of a checkpoint, with a fresh optimizer: moments zero, step count 0.

        Accumulated gradients are dropped. Nothing is published: the paired sampler serves what was published last until
        the next save, and clients that are pinned to a later policy version wait until training has reached it again.

        Args:
            path: the ``bt://loops:<run_id>/weights/<name>`` address that `save_state_async` gave, of any run with the
                same base model and rank.

        Returns:
            The future of the address. It fails with `RemoteOpError`, the trainer as it was, when the checkpoint has
            another base model or rank, or was removed in the meantime.

        Raises:
            InvalidInputError: not such an address; nothing was sent.
            NotFoundError: there is no such checkpoint.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        return await self._load(endpoints.LOAD_STATE, path)

    async def load_state_with_optimizer_async(self, path: str) -> OperationFuture[LoadWeightsResponse]:
        """As `load_state_async`, with the checkpoint's Adam moments and step count: training goes on as if it had
        never stopped, to the bit.

        Args:
            path: as in `load_state_async`.

        Returns:
            As `load_state_async`.

        Raises:
            InvalidInputError, NotFoundError, LoopsError: as `load_state_async`.
        """
        return await self._load(endpoints.LOAD_STATE_WITH_OPTIMIZER, path)

    async def init_trainer_server_async(
        self,
        lora_rank: int,
        *,
        lora_alpha: int | None = None,
        seed: int | None = None,
        train_attn: bool | None = None,
        train_mlp: bool | None = None,
        train_unembed: bool | None = None,
    ) -> OperationFuture[InitTrainerServerResponse]:
        """Start over on the same trainer: a fresh adapter of rank `lora_rank`, a fresh optimizer, policy version 0.

        Accumulated gradients are dropped; checkpoints stay. Nothing is published, as after `load_state_async`.

        Args:
            lora_rank: rank of the new adapter, >= 1. `get_info` tells it once the result is there.
            lora_alpha: scale of the adapter before division by the rank, >= 1; `None` means the trainer's own, 32
                whatever the rank.
            seed: seed of the adapter's initial weights, >= 0; `None` lets the trainer draw one.
            train_attn, train_mlp, train_unembed: whether attention, MLP and unembedding get an adapter; `None` means
                the trainer's own choice, which is all of them.

        Returns:
            The future of what the trainer says that it set. It fails with `UnsupportedError` when the trainer does not
            confirm an alpha or a part that was asked for; the adapter is fresh by then, as the trainer chose it.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            BadRequestError: the trainer refused an argument.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        body = init_body(
            lora_rank,
            lora_alpha=lora_alpha,
            seed=seed,
            train_attn=train_attn,
            train_mlp=train_mlp,
            train_unembed=train_unembed,
        )
        call = self._state.call()

        def initialised(response: InitTrainerServerResponse) -> InitTrainerServerResponse:
            self._state.initialised(call, lora_rank)
            confirm(body, response)
            return response

        return await self._channel.submit(endpoints.INIT_TRAINER_SERVER, body, on_result=initialised)

    async def resume_operation_async(
        self, operation: str, operation_id: str, idempotency_key: str = ""
    ) -> OperationFuture[Any]:
        """The future of an operation that this trainer accepted earlier, also from a process that is gone.

        Errors, `OperationSubmitted` events and the command ``loops runs show`` hold what is needed.

        Args:
            operation: name of the call, for example ``"forward_backward"``: it says what the result is.
            operation_id: the trainer's id of the operation.
            idempotency_key: the key under which it was submitted, for errors about it.

        Returns:
            The future of the result, as the call itself gave one. It fails with `UnknownRequestError` when the trainer
            does not know the operation (any more).

        Raises:
            InvalidInputError: no such operation, or not an id.
        """
        endpoint = next((one for one in endpoints.OPERATIONS if one.name == operation), None)
        if endpoint is None:
            known = ", ".join(one.name for one in endpoints.OPERATIONS)
            raise InvalidInputError(f"operation: expected one of {known}, got {shown(operation)}")
        check_text("operation_id", operation_id, most=255)
        return self._channel.resume(endpoint, operation_id, idempotency_key)

    async def list_operations_async(self) -> list[OperationInfo]:
        """The operations that the trainer still knows, in the order in which it accepted them: what
        `resume_operation_async` needs when nothing else has survived.

        Raises:
            UnsupportedError: this trainer does not tell; the embedded one does.
            LoopsError: the trainer could not be reached.
        """
        try:
            return (await self._channel.read(endpoints.LIST_OPERATIONS)).operations
        except NotFoundError as error:
            text = "list_operations: this trainer does not list its operations; ids are on errors and in the event log"
            raise UnsupportedError(text, **error.context()) from error

    # ------------------------------------------------------------------ samplers and checkpoints

    async def create_sampling_client_async(self, model_path: str) -> SamplingClient:
        """A client of the paired sampler that samples from the weights at `model_path`.

        Args:
            model_path: a ``bt://loops:<run_id>/sampler_weights/<name>`` address of this run.

        Raises:
            InvalidInputError: not such an address, or one of another run.
            WeightsNotReadyError: the sampler does not have these weights.
            LoopsError: the sampler could not be reached, or did not come up in time.
        """
        self._publishing.check(model_path)
        self._channel.require_open()
        return await self._publishing.at(model_path, self._state.published)

    async def list_checkpoints_async(self) -> list[Checkpoint]:
        """The checkpoints of this client's run.

        Raises:
            InvalidInputError: this client was made from an address, without a control plane to ask.
            LoopsError: the control plane could not be reached.
        """
        control = self._control_plane("list_checkpoints")
        return await control.checkpoints(run_id=self._run_id)

    async def get_checkpoint_archive_url_async(
        self, checkpoint_id: str, page_size: int = 1000, page_token: int = 0
    ) -> CheckpointFilesResponse:
        """Presigned addresses of a checkpoint's files, page by page; of any run, not only this client's.

        The addresses carry no key and expire. If the files lie in S3, set ``S3_REGION`` to the bucket's region.

        Args:
            checkpoint_id: `Checkpoint.id`, or the checkpoint's ``bt://`` address.
            page_size: most files in the reply, >= 1.
            page_token: how many files to skip: the previous page's `next_page_token`.

        Raises:
            InvalidInputError: an argument or ``S3_REGION`` is wrong, or this client was made from an address, without
                a control plane to ask; nothing was sent.
            NotFoundError: there is no such checkpoint.
            LoopsError: the control plane could not be reached.
        """
        control = self._control_plane("get_checkpoint_archive_url")
        return await archive_url(control, checkpoint_id, page_size, page_token)

    # ------------------------------------------------------------------ curves

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add numbers of your own to this client's curves, a reward for example. Nothing is sent to the service and
        nothing is waited for: observers get a `MetricsLogged` event, and draw it beside the step's loss
        (`loops_sdk.instrumentation.MetricsObserver`, Weights & Biases)::

            training.log_metrics({"reward": mean(rewards)})
            training.optim_step(AdamParams())

        Args:
            metrics: numbers by name; those of numpy and torch are taken, too. A number that is logged again for the
                same step replaces the first. The names ``time``, ``step`` and ``policy_version`` are taken.
            step: the optimizer step that they belong to, as a policy version: the number of steps, this one counted
                in. Default: the step whose `optim_step` is called next.

        Raises:
            InvalidInputError: not numbers by name, or a name that is taken.
            ClientClosedError: the client was closed.
        """
        self._channel.refuse_closed()
        self._meter.log(metrics, step)

    # ------------------------------------------------------------------ what is known, and small reads

    async def get_tokenizer_async(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base model, loaded once per process.

        Raises:
            InvalidInputError: there is no tokenizer under the name of the base model.
        """
        return await tokenizer_of(self._info.base_model, self._network.caller.emit)

    def get_info(self) -> GetInfoResponse:
        """Base model, LoRA rank and longest sequence; no network."""
        return attrs.evolve(self._info, lora_rank=self._state.lora_rank)

    @property
    def run_id(self) -> str | None:
        """The run this client is bound to; no network."""
        return self._run_id

    @property
    def last_policy_version(self) -> int | None:
        """The number of optimizer steps as last heard from the trainer; no network. `None` before anything was
        heard, and after a load of which the trainer did not tell it.
        """
        return self._state.version

    async def policy_version_async(self) -> int:
        """The number of optimizer steps applied so far, asked from the trainer now.

        Raises:
            LoopsError: the trainer could not be reached.
        """
        reply = await self._channel.read(endpoints.POLICY_VERSION)
        version = reply.get("policy_version") if isinstance(reply, dict) else reply
        if not isinstance(version, int) or isinstance(version, bool) or version < 0:
            raise ProtocolError(
                f"unexpected reply: expected a policy version, got {shown(reply)}", operation="policy_version"
            )
        self._state.asked(version)
        return version

    async def health_async(self) -> None:
        """Return if the trainer is reachable and healthy.

        Raises:
            LoopsError: it is not; the error says why.
        """
        await self._channel.read(endpoints.HEALTH)

    async def aclose(self) -> None:
        """Stop sending and waiting. Operations that the trainer has accepted go on; futures that wait fail with
        `ClientClosedError`. The connections of a service stay open for its other clients. A Weights & Biases run is
        finished, which waits up to a minute until it is written."""
        for stage in list(self._stages):
            stage.cancel()
        await asyncio.gather(*self._stages, return_exceptions=True)
        await self._channel.aclose()
        if self._owned:
            await self._network.aclose()
        await self._meter.aclose()
        if self._on_close is not None:
            self._on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------------ how

    async def _pass(
        self,
        endpoint: Endpoint[ForwardBackwardOutput],
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, Any] | None,
    ) -> ForwardBackwardFuture:
        body = pass_body(data, loss_fn, loss_fn_config)
        measured = self._meter.of_pass(endpoint.name, body.data, loss_fn)
        return await self._channel.submit(endpoint, body, size=numbers_in(body.data), on_result=measured)

    async def _save(
        self, endpoint: Endpoint[SaveWeightsResponse], name: str, ttl_seconds: int | None
    ) -> OperationFuture[SaveWeightsResponse]:
        check_name("name", name)
        if ttl_seconds is not None:
            check_int("ttl_seconds", ttl_seconds, low=1)
        body = SaveBody(name, self._run_id or "local", self._run_id, ttl_seconds)
        if endpoint is endpoints.SAVE_STATE:
            return await self._channel.submit(endpoint, body)
        call = self._state.call()

        def saved(response: SaveWeightsResponse) -> SaveWeightsResponse:
            self._state.saved(call, response)
            return response

        return await self._channel.submit(endpoint, body, on_result=saved)

    async def _load(self, endpoint: Endpoint[LoadWeightsResponse], path: str) -> OperationFuture[LoadWeightsResponse]:
        check_weights(path)
        call = self._state.call()

        def loaded(response: LoadWeightsResponse) -> LoadWeightsResponse:
            self._state.loaded(call, response)
            return response

        return await self._channel.submit(endpoint, LoadBody(path), on_result=loaded)

    async def _pinned(self, published: SaveWeightsResponse) -> SamplingClient:
        self._channel.require_open()
        version = published.policy_version
        return await self._publishing.pinned(await self.policy_version_async() if version is None else version)

    def _control_plane(self, call: str) -> ControlPlane:
        self._channel.require_open()
        if self._control is None or self._run_id is None:
            raise InvalidInputError(
                f"{call}: this client knows no control plane; make it with "
                "ServiceClient.create_lora_training_client_async"
            )
        return self._control

    def _own(self, stage: asyncio.Task[Any]) -> None:
        self._stages.add(stage)
        stage.add_done_callback(self._stages.discard)


awaited_only(TrainingClient)


def check_weights(path: str) -> None:
    """Refuse what is not the address of a trainer's checkpoint."""
    if CheckpointPath.parse(path).kind != "weights":
        raise InvalidInputError(f"path: expected weights, which trainers load; got {path!r}")
