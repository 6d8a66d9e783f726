"""`TrainingClient` of the namespace: every operation gives a future at once, and they reach the trainer in the order of
the calls.

It decides which operations of Loops a call is made of. Values are converted elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar

import loops_sdk
import loops_sdk_sync
import loops_sdk_sync.tinker.types as types
from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker._calls import awaited, not_kept, refuse, refused, submitted
from loops_sdk_sync.tinker._conversion import from_output, from_path, to_data, to_loss, to_path
from loops_sdk_sync.tinker.lib.public_interfaces.api_future import APIFuture
from loops_sdk_sync.tinker.lib.public_interfaces.sampling_client import BackcompatSamplingClientFuture
from loops_sdk_sync.tinker.lib.retry_handler import RetryConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["BackcompatTrainingClientFuture", "CustomLossFnV1", "TrainingClient"]

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")

#: ``loss_fn(data, logprobs) -> (loss, metrics)``
CustomLossFnV1: TypeAlias = "Callable[[list[types.Datum], list[torch.Tensor]], tuple[torch.Tensor, dict[str, float]]]"

NO_METADATA = "Loops keeps no metadata with runs and checkpoints; what was given is not stored"
NO_TOKENS = "Loops has no access tokens for checkpoints; the key decides what may be read"
OWN_RETRIES = "Loops has bounds of its own for retries and time, which hold whatever is given here"
NOT_STABLE = 'it records what the loss "stable_reinforce" reads; pass loss_fn="ppo" or loss_fn="importance_sampling"'
#: Seconds that the weights of a client of `save_weights_and_get_sampling_client` are kept: a week.
_SNAPSHOT_TTL = 7 * 24 * 3600


class TrainingClient:
    """Trains one adapter. Made by the `ServiceClient`; used from any thread and event loop."""

    def __init__(self, client: loops_sdk_sync.TrainingClient) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<tinker.TrainingClient {self._client!r}>"

    @property
    def model_id(self) -> str:
        """Id of the run."""
        return self._client.run_id or ""

    # ------------------------------------------------------------------ passes and steps

    def forward(
        self,
        data: list[types.Datum],
        loss_fn: types.LossFnType,
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> APIFuture[types.ForwardBackwardOutput]:
        """As `forward_backward`, without gradients: those that have been accumulated stay as they are."""
        core, examples, loss = self._client._core, to_data(data), to_loss(loss_fn)
        return self._begun(from_output, core.forward_async, examples, loss, loss_fn_config)

    forward_async = submitted(forward)

    def forward_backward(
        self,
        data: list[types.Datum],
        loss_fn: types.LossFnType,
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> APIFuture[types.ForwardBackwardOutput]:
        """Run a forward and a backward pass; gradients add up over calls until the next `optim_step`.

        Args:
            data: the examples.
            loss_fn: ``"cross_entropy"``, ``"importance_sampling"``, ``"ppo"``, ``"cispo"`` or ``"dro"``; Loops also
                has ``"dppo"``.
            loss_fn_config: settings of the loss.

        Returns:
            The future of the log-probabilities of the targets and of the metrics, ``loss:sum`` among them.

        Raises:
            InvalidInputError: (a `ValueError`) an argument is wrong; nothing was sent.
            NotOfferedError: Loops does not have this loss.
        """
        core, examples, loss = self._client._core, to_data(data), to_loss(loss_fn)
        return self._begun(from_output, core.forward_backward_async, examples, loss, loss_fn_config)

    forward_backward_async = submitted(forward_backward)

    def forward_backward_custom(
        self,
        data: list[types.Datum],
        loss_fn: CustomLossFnV1,
        *,
        loss_type_input: Literal["logprobs"] | None = None,
    ) -> APIFuture[types.ForwardBackwardOutput]:
        """Run a forward and a backward pass with a loss of your own. Both keep the place of this call in the order.

        Args:
            data: the examples.
            loss_fn: ``loss_fn(data, logprobs) -> (loss, metrics)``, called in a thread of this process with one float32
                torch tensor of log-probabilities per datum. It must not call this client.
            loss_type_input: ``"logprobs"`` or `None`, which mean the same.

        Returns:
            The future of the result; its metrics hold those of the function under the names it gave.

        Raises:
            InvalidInputError: (a `ValueError`) an argument is wrong; nothing was sent.
        """
        if loss_type_input not in (None, "logprobs"):
            raise InvalidInputError(f"loss_type_input: expected 'logprobs' or None, got {loss_type_input!r}")
        core, examples, own = self._client._core, to_data(data), set[str]()

        def loss(_: object, logprobs: Any) -> Any:
            value, metrics = loss_fn(data, list(logprobs))
            own.update(metrics)
            return value, metrics

        return self._begun(partial(from_output, own=own), core.forward_backward_custom_async, examples, loss)

    forward_backward_custom_async = submitted(forward_backward_custom)

    def optim_step(
        self, optim_params: types.OptimParams | None = None, *, adam_params: types.AdamParams | None = None
    ) -> APIFuture[types.OptimStepResponse]:
        """Apply the accumulated gradients with AdamW and clear them.

        Args:
            optim_params: the parameters of this step.
            adam_params: its older name.

        Raises:
            InvalidInputError: (a `ValueError`) not one of the two; nothing was sent.
            NotOfferedError: parameters of another optimizer.
        """
        params = optim_params if adam_params is None else adam_params
        if params is None or (optim_params is not None and adam_params is not None):
            raise InvalidInputError("optim_params: expected AdamParams, in this argument or in adam_params")
        if isinstance(params, types.DimuonParams):
            refuse("optim_params: DimuonParams", "the optimizer of Loops is AdamW; pass AdamParams")
        core = self._client._core
        return self._begun(_stepped, core.optim_step_async, params)

    optim_step_async = submitted(optim_step)

    # ------------------------------------------------------------------ saving and loading

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> APIFuture[types.SaveWeightsResponse]:
        """Save adapter, optimizer moments and step count as a checkpoint, from which training can be resumed.

        Args:
            name: 1 to 255 letters, digits, '.', '_' or '-'.
            ttl_seconds: remove it after this many seconds; `None` keeps it.
            overwrite: no difference: Loops replaces a checkpoint of the same name.
            user_metadata: not stored; a warning says so.
        """
        not_kept("user_metadata", user_metadata, NO_METADATA)
        core = self._client._core
        return self._begun(_saved, core.save_state_async, name, ttl_seconds)

    save_state_async = submitted(save_state)

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: dict[str, str] | None = None
    ) -> APIFuture[types.SaveWeightsForSamplerResponse]:
        """Save the adapter alone and publish it to the paired sampler.

        Args:
            name, ttl_seconds, user_metadata: as in `save_state`.
        """
        not_kept("user_metadata", user_metadata, NO_METADATA)
        core = self._client._core
        return self._begun(_published, core.save_weights_for_sampler_async, name, ttl_seconds)

    save_weights_for_sampler_async = submitted(save_weights_for_sampler)

    save_weights_external, save_weights_external_async = refused(
        "TrainingClient.save_weights_external",
        "Loops does not export weights; save_weights_for_sampler and `loops checkpoints download` give a PEFT folder",
    )

    def load_state(self, path: str, weights_access_token: str | None = None) -> APIFuture[types.LoadWeightsResponse]:
        """Replace the adapter by that of a checkpoint, with a fresh optimizer.

        Args:
            path: what `save_state` gave, of any run with the same base model and rank.
            weights_access_token: not used; a warning says so.
        """
        not_kept("weights_access_token", weights_access_token, NO_TOKENS)
        core, address = self._client._core, to_path(path)
        return self._begun(_loaded, core.load_state_async, address)

    load_state_async = submitted(load_state)

    def load_state_with_optimizer(
        self, path: str, weights_access_token: str | None = None
    ) -> APIFuture[types.LoadWeightsResponse]:
        """As `load_state`, with the checkpoint's moments and step count."""
        not_kept("weights_access_token", weights_access_token, NO_TOKENS)
        core, address = self._client._core, to_path(path)
        return self._begun(_loaded, core.load_state_with_optimizer_async, address)

    load_state_with_optimizer_async = submitted(load_state_with_optimizer)

    # ------------------------------------------------------------------ samplers

    def create_sampling_client(
        self, model_path: str, retry_config: RetryConfig | None = None, record_stability_info: bool = False
    ) -> BackcompatSamplingClientFuture:
        """A client that samples from a checkpoint of this run, whatever is trained later.

        Args:
            model_path: what `save_weights_for_sampler` gave.
            retry_config: not used; a warning says so.
            record_stability_info: not offered by Loops.
        """
        check_sampling_options(retry_config, record_stability_info)
        core, address = self._client._core, to_path(model_path, "model_path")
        return BackcompatSamplingClientFuture._made(
            "create_sampling_client", self._client, partial(core.create_sampling_client_async, address)
        )

    create_sampling_client_async = awaited(create_sampling_client)

    def save_weights_and_get_sampling_client(
        self,
        name: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
        kind: types.SamplingClientKind = "snapshot",
    ) -> BackcompatSamplingClientFuture:
        """Publish the adapter, and give a client that samples from it.

        Args:
            name: no difference: the checkpoint gets a name of its own, and is kept for a week.
            retry_config, record_stability_info: as in `create_sampling_client`.
            kind: ``"snapshot"``: these weights, also when newer ones are published. ``"inflight"``: these or newer
                ones, whatever the run has published last. A sampler that shows the newest weights only, as one of the
                service may, samples from those for both; `compute_logprobs` of a snapshot then refuses.
        """
        check_sampling_options(retry_config, record_stability_info)
        if kind not in ("snapshot", "inflight"):
            raise InvalidInputError(f"kind: expected 'snapshot' or 'inflight', got {kind!r}")
        core, chosen = self._client._core, f"snapshot-{secrets.token_hex(8)}"

        async def snapshot() -> loops_sdk.SamplingClient:
            saved = await (await core.save_weights_for_sampler_async(chosen, _SNAPSHOT_TTL))
            return await core.create_sampling_client_async(saved.path)

        async def newest() -> loops_sdk.SamplingClient:
            return await (await core.save_weights_and_get_sampling_client_async(chosen))

        operation, fixed = "save_weights_and_get_sampling_client", kind == "snapshot"
        return BackcompatSamplingClientFuture._made(operation, self._client, snapshot if fixed else newest, fixed=fixed)

    save_weights_and_get_sampling_client_async = awaited(save_weights_and_get_sampling_client)

    # ------------------------------------------------------------------ what it is

    def get_info(self) -> types.GetInfoResponse:
        """Base model and adapter; no network."""
        info = self._client.get_info()
        model = types.ModelData(model_name=info.base_model, tokenizer_id=info.base_model)
        return types.GetInfoResponse(
            model_data=model,
            model_id=self.model_id,
            is_lora=True,
            lora_rank=info.lora_rank,
            model_name=info.base_model,
        )

    async def get_info_async(self) -> types.GetInfoResponse:
        """As `get_info`."""
        return self.get_info()

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base model, loaded once per process.

        Raises:
            InvalidInputError: there is none under the name of the base model.
        """
        return self._client.get_tokenizer()

    def get_telemetry(self) -> None:
        """`None`: this package sends none."""

    get_console_url, _ = refused("TrainingClient.get_console_url", "Loops has no such page; `loops runs show` tells")

    # ------------------------------------------------------------------ how

    def _begun(
        self, shown: Callable[[A], T], begin: Callable[P, Awaitable[Awaitable[A]]], *args: P.args, **kwargs: P.kwargs
    ) -> APIFuture[T]:
        """Submit an operation of the core, then wait for its result."""

        async def work() -> T:
            return shown(await (await begin(*args, **kwargs)))

        return APIFuture[T].of(name_of(begin), self._client, work)


class BackcompatTrainingClientFuture(APIFuture[TrainingClient], TrainingClient):
    """The future of a client that older scripts use as the client itself: it waits when it is first used."""

    @property
    def _client(self) -> loops_sdk_sync.TrainingClient:  # type: ignore[override]
        return self.result()._client

    def __repr__(self) -> str:
        return APIFuture.__repr__(self)


def name_of(call: Callable[..., object]) -> str:
    """What a coroutine of the core is called where people speak of it."""
    return getattr(call, "__name__", "call").removesuffix("_async")


def check_sampling_options(retry_config: RetryConfig | None, record_stability_info: bool) -> None:
    """Say of what makers of sampling clients take that it leads nowhere."""
    not_kept("retry_config", retry_config, OWN_RETRIES, stacklevel=4)
    if record_stability_info:
        refuse("record_stability_info", NOT_STABLE)


def _stepped(response: loops_sdk.OptimStepResponse) -> types.OptimStepResponse:
    # Named like all metrics of Tinker. A bare `step`, which counts from 1, would also take the place of the script's
    # own number where both are logged; tinker-cookbook finds its place in a log by that.
    return types.OptimStepResponse(metrics={f"{name}:mean": value for name, value in response.metrics.items()})


def _saved(response: loops_sdk.SaveWeightsResponse) -> types.SaveWeightsResponse:
    return types.SaveWeightsResponse(path=from_path(response.path), type="save_weights")


def _published(response: loops_sdk.SaveWeightsResponse) -> types.SaveWeightsForSamplerResponse:
    return types.SaveWeightsForSamplerResponse(path=from_path(response.path), type="save_weights_for_sampler")


def _loaded(response: loops_sdk.LoadWeightsResponse) -> types.LoadWeightsResponse:
    return types.LoadWeightsResponse(path=from_path(response.path), type="load_weights")
