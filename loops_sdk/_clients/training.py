"""`TrainingClient`: forward and backward passes, optimizer steps, checkpoints and publishing, on one trainer.

It checks arguments, says what is sent, and joins trainer and paired sampler. Order, retries and results are the
channel's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, get_args

import attrs

from loops_sdk._clients.binding import trust_deployment
from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.models import Models
from loops_sdk._clients.pairing import PairedSampler
from loops_sdk._clients.readiness import weights_loaded
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.tokenizers import tokenizer_of
from loops_sdk._net.channel import Channel
from loops_sdk._net.futures import ComposedFuture, OperationFuture
from loops_sdk._net.network import Network
from loops_sdk._wire import codec, endpoints
from loops_sdk._wire.bodies import ForwardBackwardBody, InitBody, LoadBody, OptimStepBody, SaveBody
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk.errors import InvalidInputError, ProtocolError, WeightsNotReadyError
from loops_sdk.instrumentation import Emit, OperationMeasured, tell
from loops_sdk.instrumentation.wandb_observer import WandbObserver
from loops_sdk.types import (
    AdamParams,
    Checkpoint,
    CheckpointPath,
    Datum,
    Deployment,
    ForwardBackwardOutput,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LossFn,
    OptimStepResponse,
    SaveWeightsResponse,
)
from loops_sdk.types._checks import check_int, check_number, check_text, shown
from loops_sdk.types.checkpoints import check_name

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

_LOSSES: tuple[str, ...] = get_args(LossFn)

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
        self._sampler = PairedSampler.at(
            paired_sampling_deployment, network.caller, run_id=run_id, ready_timeout=ready_timeout
        )
        self._connect(
            network, trainer_url, GetInfoResponse(base_model, lora_rank, max_seq_len), run_id, timeout, publish_timeout
        )

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
        self._sampler = sampler
        self._connect(network, trainer_url, info, run_id, timeout, publish_timeout)
        return self

    def _connect(
        self,
        network: Network,
        trainer_url: str,
        info: GetInfoResponse,
        run_id: str | None,
        timeout: float,
        publish_timeout: float,
    ) -> None:
        check_number("timeout", timeout, above=0)
        check_number("publish_timeout", publish_timeout, above=0)
        self._network = network
        self._info = info
        self._run_id = run_id
        self._timeout = timeout
        self._publish_timeout = publish_timeout
        self._channel = Channel(trainer_url, network.caller, network.poller, timeout=timeout)
        self._calls = count()
        self._version = _Latest[int | None](None)
        self._rank = _Latest(info.lora_rank)
        self._last_published: SaveWeightsResponse | None = None
        self._stages: set[asyncio.Task[Any]] = set()
        self._emit: Emit = network.caller.emit
        self._steps_called = 0
        self._recorder: WandbObserver | None = None
        self._on_close: Callable[[TrainingClient], None] | None = None

    def _record(self, recorder: WandbObserver) -> None:
        """Draw the curves of this client, and of no other one of the same service, until it is closed."""
        self._recorder = recorder
        self._emit = tell((self._emit, recorder))

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
            log-probability
        of token ``k + 1``, and the last entry is 0.0.
        """
        return await self._pass(endpoints.FORWARD, data, loss_fn, loss_fn_config)

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
            raise InvalidInputError(f"adam_params: expected AdamParams, got {type(adam_params).__name__}")
        measure = self._measurement(endpoints.OPTIM_STEP)
        told = partial(self._stepped, next(self._calls))
        self._steps_called += 1

        def stepped(response: OptimStepResponse) -> None:
            told(response)
            measure({"learning_rate": float(adam_params.learning_rate), **response.metrics})

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

    async def init_trainer_server_async(self, lora_rank: int) -> OperationFuture[InitTrainerServerResponse]:
        """Start over on the same trainer: a fresh adapter of rank `lora_rank`, a fresh optimizer, policy version 0.

        Accumulated gradients are dropped; checkpoints stay. Nothing is published, as after `load_state_async`.

        Args:
            lora_rank: rank of the new adapter, >= 1. `get_info` tells it once the result is there.

        Raises:
            InvalidInputError: not a whole number >= 1; nothing was sent.
            BadRequestError: the trainer refused the rank.
            LoopsError: the trainer could not be reached, after bounded attempts.
        """
        check_int("lora_rank", lora_rank, low=1)
        initialised = partial(self._initialised, next(self._calls), lora_rank)
        return await self._channel.submit(endpoints.INIT_TRAINER_SERVER, InitBody(lora_rank), on_result=initialised)

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
        path = CheckpointPath.parse(model_path, "model_path")
        if path.kind != "sampler_weights":
            raise InvalidInputError(f"model_path: expected sampler_weights, which samplers load; got {model_path!r}")
        if self._run_id is not None and path.run_id != self._run_id:
            raise InvalidInputError(f"model_path: the paired sampler serves run {self._run_id}, got {model_path!r}")
        self._channel.require_open()
        deployment = await self._sampler.deployment()
        models = await Models(deployment.base_url, self._network.caller).look()
        if any(card.id == model_path for card in models.data):
            return self._sampling_client(deployment, checkpoint_path=model_path)
        last = self._last_published
        if last is None or last.path != model_path:
            raise WeightsNotReadyError(
                f"model_path: the paired sampler does not show {model_path}; it follows the weights last published",
                run_id=self._run_id,
            )
        return self._sampling_client(deployment, min_policy_version=last.policy_version)

    async def list_checkpoints_async(self) -> list[Checkpoint]:
        """The checkpoints of this client's run.

        Raises:
            InvalidInputError: this client was made from an address, without a control plane to ask.
            LoopsError: the control plane could not be reached.
        """
        if self._control is None or self._run_id is None:
            raise InvalidInputError(
                "list_checkpoints: this client knows no control plane; make it with "
                "ServiceClient.create_lora_training_client_async"
            )
        return await self._control.checkpoints(run_id=self._run_id)

    # ------------------------------------------------------------------ what is known, and small reads

    async def get_tokenizer_async(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base model, loaded once per process.

        Raises:
            InvalidInputError: there is no tokenizer under the name of the base model.
        """
        return await tokenizer_of(self._info.base_model)

    def get_info(self) -> GetInfoResponse:
        """Base model, LoRA rank and longest sequence; no network."""
        return attrs.evolve(self._info, lora_rank=self._rank.value)

    @property
    def run_id(self) -> str | None:
        """The run this client is bound to; no network."""
        return self._run_id

    @property
    def last_policy_version(self) -> int | None:
        """The number of optimizer steps as last heard from the trainer; no network. `None` before anything was
        heard, and after a load of which the trainer did not tell it.
        """
        return self._version.value

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
        self._version.value = version
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
        if self._recorder is not None:
            await self._recorder.aclose()
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
        batch = _batch(data)
        if loss_fn not in _LOSSES:
            raise InvalidInputError(f"loss_fn: expected one of {', '.join(_LOSSES)}, got {loss_fn!r}")
        if loss_fn_config is not None and not isinstance(loss_fn_config, Mapping):
            raise InvalidInputError(f"loss_fn_config: expected a dict or None, got {type(loss_fn_config).__name__}")
        config = None if loss_fn_config is None else _plain("loss_fn_config", loss_fn_config)
        size = sum(datum.model_input.length * (1 + len(datum.loss_fn_inputs)) for datum in batch)
        tokens = sum(datum.model_input.length for datum in batch)
        measure = self._measurement(endpoint)

        def passed(output: ForwardBackwardOutput) -> None:
            measure(output.metrics, output.loss, tokens)

        body = ForwardBackwardBody(batch, loss_fn, config)
        return await self._channel.submit(endpoint, body, size=size, on_result=passed)

    def _measurement(self, endpoint: Endpoint[Any]) -> Callable[..., None]:
        """What to call with the numbers of a result, for a call that is made now."""
        called_at, steps = time.monotonic(), self._steps_called

        def measure(metrics: Mapping[str, float], loss: float | None = None, tokens: int | None = None) -> None:
            elapsed = time.monotonic() - called_at
            version = self.last_policy_version
            self._emit(
                OperationMeasured(endpoint.name, self._run_id, steps, elapsed, dict(metrics), version, loss, tokens)
            )

        return measure

    async def _save(
        self, endpoint: Endpoint[SaveWeightsResponse], name: str, ttl_seconds: int | None
    ) -> OperationFuture[SaveWeightsResponse]:
        check_name("name", name)
        if ttl_seconds is not None:
            check_int("ttl_seconds", ttl_seconds, low=1)
        body = SaveBody(name, self._run_id or "local", self._run_id, ttl_seconds)
        publishes = endpoint is endpoints.SAVE_WEIGHTS_FOR_SAMPLER
        return await self._channel.submit(endpoint, body, on_result=self._published if publishes else None)

    async def _load(self, endpoint: Endpoint[LoadWeightsResponse], path: str) -> OperationFuture[LoadWeightsResponse]:
        check_weights(path)
        loaded = partial(self._loaded, next(self._calls))
        return await self._channel.submit(endpoint, LoadBody(path), on_result=loaded)

    def _stepped(self, call: int, response: OptimStepResponse) -> None:
        step = response.metrics.get("step", math.nan)
        if math.isfinite(step):
            self._version.hear(call, int(step))

    def _loaded(self, call: int, response: LoadWeightsResponse) -> None:
        self._version.hear(call, response.policy_version)

    def _initialised(self, call: int, rank: int, _response: InitTrainerServerResponse) -> None:
        self._version.hear(call, 0)
        self._rank.hear(call, rank)

    def _published(self, response: SaveWeightsResponse) -> None:
        self._last_published = response

    async def _pinned(self, published: SaveWeightsResponse) -> SamplingClient:
        self._channel.require_open()
        version = published.policy_version
        if version is None:
            version = await self.policy_version_async()
        deployment = await self._sampler.deployment()
        models = Models(deployment.base_url, self._network.caller)
        look = partial(models.live_adapter, time.monotonic() + self._publish_timeout)
        await weights_loaded(look, version, self._publish_timeout)
        return self._sampling_client(deployment, min_policy_version=version)

    def _sampling_client(
        self,
        deployment: Deployment,
        *,
        checkpoint_path: str | None = None,
        min_policy_version: int | None = None,
    ) -> SamplingClient:
        return SamplingClient._of_service(
            self._network,
            self._info.base_model,
            deployment,
            sampler_id=self._sampler.sampler_id,
            session_id=self._sampler.session_id,
            checkpoint_path=checkpoint_path,
            min_policy_version=min_policy_version,
            timeout=self._timeout,
        )

    def _own(self, stage: asyncio.Task[Any]) -> None:
        self._stages.add(stage)
        stage.add_done_callback(self._stages.discard)


@attrs.define(eq=False)
class _Latest(Generic[T]):
    """What results say of the trainer's state: a later call's word stands, for results overtake each other."""

    value: T
    call: int = -1

    def hear(self, call: int, value: T) -> None:
        if call > self.call:
            self.call, self.value = call, value


def check_weights(path: str) -> None:
    """Refuse what is not the address of a trainer's checkpoint."""
    if CheckpointPath.parse(path).kind != "weights":
        raise InvalidInputError(f"path: expected weights, which trainers load; got {path!r}")


def _plain(argument: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A private copy of what JSON can say."""
    try:
        copy: dict[str, Any] = codec.loads(codec.dumps(dict(value)))
    except InvalidInputError as error:
        raise InvalidInputError(f"{argument}: {error.message}") from None
    return copy


def _batch(data: Sequence[Datum]) -> list[Datum]:
    if isinstance(data, Datum) or not isinstance(data, Sequence):
        raise InvalidInputError(f"data: expected a list of Datum, got {type(data).__name__}")
    if not data:
        raise InvalidInputError("data: expected at least one Datum, got an empty list")
    for index, datum in enumerate(data):
        if not isinstance(datum, Datum):
            raise InvalidInputError(f"data[{index}]: expected Datum, got {type(datum).__name__}")
    return list(data)
