"""`ServiceClient` of the namespace: a session on Loops, opened by the first call that needs one."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self
from weakref import WeakValueDictionary

import loops_sdk
import loops_sdk_sync
import loops_sdk_sync.tinker.types as types
from loops_sdk import CheckpointPath, InvalidInputError
from loops_sdk_sync.tinker._calls import awaited, not_kept, refuse, refused
from loops_sdk_sync.tinker._conversion import to_path
from loops_sdk_sync.tinker.lib.public_interfaces.api_future import APIFuture
from loops_sdk_sync.tinker.lib.public_interfaces.rest_client import RestClient
from loops_sdk_sync.tinker.lib.public_interfaces.sampling_client import BackcompatSamplingClientFuture
from loops_sdk_sync.tinker.lib.public_interfaces.training_client import (
    NO_METADATA,
    NO_TOKENS,
    BackcompatTrainingClientFuture,
    TrainingClient,
    check_sampling_options,
    name_of,
)
from loops_sdk_sync.tinker.lib.retry_handler import RetryConfig

__all__ = ["RetryConfig", "ServiceClient"]

P = ParamSpec("P")

_NO_NAMES = "Loops shows no names of sessions; what was given is not stored"


class ServiceClient:
    """A session. What it makes shares its connections and ends with it: by ``with``, by `close`, or with the program.

    Args:
        user_metadata: not stored; a warning says so.
        project_id: the project that the session is filed under; default: the key's own.
        display_name: not stored; a warning says so.
        base_url: address of the control plane; default ``LOOPS_BASE_URL``, then ``https://api.baseten.co``.
        api_key: the key; default ``BASETEN_API_KEY``. ``TINKER_API_KEY`` is not read: it is for another company's host.
        default_headers_overrides: not offered.
        kwargs: a warning names what else is given.

    Raises:
        InvalidInputError: (a `ValueError`) no key, or an argument that is not of its form.
    """

    def __init__(
        self,
        user_metadata: dict[str, str] | None = None,
        project_id: str | None = None,
        *,
        display_name: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers_overrides: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        not_kept("user_metadata", user_metadata, NO_METADATA)
        not_kept("display_name", display_name, _NO_NAMES)
        if default_headers_overrides:
            refuse("default_headers_overrides", "the headers of a request are part of the protocol of Loops")
        if kwargs:
            warnings.warn(f"ServiceClient has no arguments {', '.join(kwargs)}: they are ignored", FutureWarning, 2)
        core = loops_sdk.ServiceClient(project_id, api_key=api_key, base_url=base_url)
        self._client = loops_sdk_sync.ServiceClient._alone(core)
        self._trainings: WeakValueDictionary[str, loops_sdk.TrainingClient] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<tinker.ServiceClient {self._client!r}>"

    # ------------------------------------------------------------------ training clients

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
        optimizer: types.OptimizerConfig | None = None,
    ) -> BackcompatTrainingClientFuture:
        """Provision a trainer with a fresh LoRA adapter.

        Args:
            base_model: name of the base model; ``"loops/tiny"`` on the embedded deployment.
            rank: rank of the adapter.
            seed: seed of its initial weights; `None` lets the trainer draw one.
            train_mlp, train_attn, train_unembed: which parts get an adapter; at least one.
            user_metadata: not stored; a warning says so.
            optimizer: `AdamOptimizerConfig` or `None`, which mean the same.

        Returns:
            The future of the client, once the trainer is ready.

        Raises:
            InvalidInputError: (a `ValueError`) no part gets an adapter.
            NotOfferedError: another optimizer.
        """
        not_kept("user_metadata", user_metadata, NO_METADATA)
        _check_optimizer(optimizer)
        parts = {"train_mlp": train_mlp, "train_attn": train_attn, "train_unembed": train_unembed}
        if not any(parts.values()):
            raise InvalidInputError(f"{', '.join(parts)}: at least one must be True")
        chosen: dict[str, Any] = {} if all(parts.values()) else parts  # all is what every trainer does unasked
        make = self._client._core.create_lora_training_client_async
        return self._training(make, base_model, rank, seed, **chosen)

    create_lora_training_client_async = awaited(create_lora_training_client)

    def create_training_client_from_state(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: dict[str, str] | None = None,
        weights_access_token: str | None = None,
        optimizer: types.OptimizerConfig | None = None,
    ) -> BackcompatTrainingClientFuture:
        """Provision a trainer for a checkpoint and load its weights, with a fresh optimizer.

        Args:
            path: what `TrainingClient.save_state` gave, of any run.
            base_model: no difference: the checkpoint knows its own.
            user_metadata, weights_access_token: not used; a warning says so.
            optimizer: as in `create_lora_training_client`.
        """
        not_kept("user_metadata", user_metadata, NO_METADATA)
        not_kept("weights_access_token", weights_access_token, NO_TOKENS)
        _check_optimizer(optimizer)
        core, address = self._client._core, to_path(path)
        return self._training(core.create_training_client_from_state_async, address)

    create_training_client_from_state_async = awaited(create_training_client_from_state)

    def create_training_client_from_state_with_optimizer(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: dict[str, str] | None = None,
        weights_access_token: str | None = None,
    ) -> BackcompatTrainingClientFuture:
        """As `create_training_client_from_state`, with the checkpoint's moments and step count."""
        not_kept("user_metadata", user_metadata, NO_METADATA)
        not_kept("weights_access_token", weights_access_token, NO_TOKENS)
        core, address = self._client._core, to_path(path)
        return self._training(
            core.create_training_client_from_state_with_optimizer_async,
            address,
        )

    create_training_client_from_state_with_optimizer_async = awaited(create_training_client_from_state_with_optimizer)

    # ------------------------------------------------------------------ other clients

    def create_sampling_client(
        self,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
    ) -> BackcompatSamplingClientFuture:
        """A client that samples from a checkpoint, or from a base model.

        For a checkpoint of a run that this client trains its sampler is used; otherwise one is provisioned.

        Args:
            model_path: what `TrainingClient.save_weights_for_sampler` gave, of any run.
            base_model: name of the base model, when there is no `model_path`.
            retry_config: not used; a warning says so.
            record_stability_info: not offered by Loops.

        Raises:
            InvalidInputError: (a `ValueError`) neither is given.
        """
        check_sampling_options(retry_config, record_stability_info)
        if model_path is None and base_model is None:
            raise InvalidInputError("model_path, base_model: give one of them")
        address = None if model_path is None else to_path(model_path, "model_path")
        make = partial(self._of_base, str(base_model)) if address is None else partial(self._of_checkpoint, address)
        return BackcompatSamplingClientFuture._made("create_sampling_client", self._client, make)

    create_sampling_client_async = awaited(create_sampling_client)

    def create_rest_client(self) -> RestClient:
        """A client that looks at runs and checkpoints, with the connections of this one."""
        return RestClient(self._client)

    create_custom_loss, _ = refused(
        "ServiceClient.create_custom_loss", "a loss of your own runs here: pass it to forward_backward_custom"
    )

    def copy_weights(
        self, path: str, *, ttl_seconds: int | None = None, weights_access_token: str | None = None
    ) -> APIFuture[str]:
        """Not offered: Loops does not copy checkpoints.

        Raises:
            NotOfferedError: always.
        """
        return self.create_rest_client().copy_weights(path, ttl_seconds, weights_access_token)

    # ------------------------------------------------------------------ what there is

    def get_server_capabilities(self) -> types.GetServerCapabilitiesResponse:
        """The models that the service offers; blocks."""
        return self.create_rest_client().get_server_capabilities().result()

    async def get_server_capabilities_async(self) -> types.GetServerCapabilitiesResponse:
        """As `get_server_capabilities`, without blocking."""
        return await self.create_rest_client().get_server_capabilities()

    def get_telemetry(self) -> None:
        """`None`: this package sends none."""

    get_console_url, _ = refused("ServiceClient.get_console_url", "Loops has no such page; `loops runs list` tells")

    # ------------------------------------------------------------------ the end

    def close(self, status: Literal["success", "errored", "interrupted"], detail: str | None = None) -> APIFuture[None]:
        """Close every client that this one made, and all connections. Runs and checkpoints stay as they are.

        Args:
            status, detail: how the program ended; Loops does not want to know.

        Raises:
            InvalidInputError: (a `ValueError`) another status.
        """
        if status not in ("success", "errored", "interrupted"):
            raise InvalidInputError(f"status: expected 'success', 'errored' or 'interrupted', got {status!r}")
        return APIFuture.of("close", self._client, self._client._core.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close("success" if kind is None else "errored").result()

    # ------------------------------------------------------------------ how

    def _training(
        self, make: Callable[P, Awaitable[loops_sdk.TrainingClient]], *args: P.args, **kwargs: P.kwargs
    ) -> BackcompatTrainingClientFuture:
        client, trainings = self._client, self._trainings

        async def work() -> TrainingClient:
            made = await make(*args, **kwargs)
            trainings[made.run_id or ""] = made
            return TrainingClient(loops_sdk_sync.TrainingClient._around(made, client))

        return BackcompatTrainingClientFuture.of(name_of(make), client, work)

    async def _of_base(self, base_model: str) -> loops_sdk.SamplingClient:
        return await self._client._core.create_sampling_client_async(base_model)

    async def _of_checkpoint(self, address: str) -> loops_sdk.SamplingClient:
        training = self._trainings.get(CheckpointPath.parse(address).run_id)
        if training is not None:
            return await training.create_sampling_client_async(address)
        return await self._client._core.create_sampling_client_from_checkpoint_async(address)


def _check_optimizer(optimizer: types.OptimizerConfig | None) -> None:
    if not (optimizer is None or isinstance(optimizer, types.AdamOptimizerConfig)):
        refuse(f"optimizer: {type(optimizer).__name__}", "the optimizer of Loops is AdamW; leave the argument out")
