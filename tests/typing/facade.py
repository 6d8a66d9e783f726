"""Read by the type checkers, never run: every call of the blocking clients in both forms, right and wrong.

A wrong line carries the ignore of both checkers; both are set to complain about an ignore that hides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat, assert_type

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

import loops_sdk
from loops_sdk_sync import (
    AdamParams,
    BasetenDeployment,
    Checkpoint,
    CheckpointFilesResponse,
    CustomArrayLoss,
    Datum,
    ForwardBackwardFuture,
    ForwardBackwardOutput,
    Future,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    OperationInfo,
    OptimStepResponse,
    Run,
    Sampler,
    SampleResult,
    SamplingClient,
    SaveWeightsResponse,
    ServerCapabilities,
    ServiceClient,
    TrainingClient,
    attach_reference_logprobs,
    attach_reference_logprobs_async,
)

THERE = BasetenDeployment("https://model-m1.api.baseten.co", "m1", "d1")
STATE, ADAPTER = "bt://loops:r/weights/a", "bt://loops:r/sampler_weights/a"


class Squares:
    """A loss with gradients of its own, as an object."""

    def __call__(
        self, data: list[Datum], logprobs: list[NDArray[np.float32]], /
    ) -> tuple[float, list[NDArray[np.float32]], Mapping[str, SupportsFloat]]:
        return 1.0, logprobs, {"datums": len(data)}


# ------------------------------------------------------------------ right, blocking


def service(client: ServiceClient) -> None:
    made = client.create_lora_training_client(
        "m", 16, max_seq_len=512, lora_alpha=16, train_attn=True, train_mlp=None, train_unembed=False
    )
    assert_type(made, TrainingClient)
    assert_type(client.create_training_client_from_state(STATE, 1.0, with_sampler=True), TrainingClient)
    assert_type(client.create_training_client_from_state_with_optimizer(STATE, name="n"), TrainingClient)
    assert_type(client.attach_training_client("r", 600, rank=8, publish_timeout=1.0), TrainingClient)
    assert_type(client.create_sampling_client("m", ready_timeout=1.0, replicas=2), SamplingClient)
    assert_type(client.create_sampling_client_from_checkpoint(ADAPTER, replicas=2), SamplingClient)
    assert_type(client.list_runs("m"), list[Run])
    assert_type(client.get_run("r").sampler, Sampler | None)
    assert_type(client.get_server_capabilities("m", "rl", 512), ServerCapabilities)
    assert_type(client.list_checkpoints("r"), list[Checkpoint])
    assert_type(client.get_checkpoint_archive_url("id", page_size=10, page_token=10), CheckpointFilesResponse)
    assert_type(client.download_checkpoint("id", "here", parallel=2, on_progress=progress), list[Path])
    assert_type(ServiceClient.local(trainer_url="http://t", observers=[print]), ServiceClient)
    assert_type(client.session_id, str)
    client.close()


def progress(there: int, of: int) -> None: ...


def training(client: TrainingClient, data: list[Datum], loss: CustomArrayLoss) -> None:
    assert_type(client.forward_backward(data, "ppo", {"clip_low_threshold": 0.8}), ForwardBackwardFuture)
    assert_type(client.forward(tuple(data)).result(1.0), ForwardBackwardOutput)
    assert_type(client.forward_backward_custom(data, loss, autograd=False).result(), ForwardBackwardOutput)
    client.forward_backward_custom(data, Squares(), autograd=False)
    assert_type(client.optim_step(AdamParams()).result().metrics["lr"], float)
    assert_type(client.save_state("a", 60), Future[SaveWeightsResponse])
    assert_type(client.save_weights_for_sampler("a", ttl_seconds=60).result().path, str)
    assert_type(client.save_weights_and_get_sampling_client("a"), Future[SamplingClient])
    assert_type(client.load_state(STATE), Future[LoadWeightsResponse])
    assert_type(client.load_state_with_optimizer(STATE).result().policy_version, int | None)
    started = client.init_trainer_server(8, lora_alpha=8, seed=1, train_attn=True, train_mlp=None, train_unembed=False)
    assert_type(started, Future[InitTrainerServerResponse])
    assert_type(client.resume_operation("optim_step", "op-1"), Future[Any])
    assert_type(client.list_operations(), list[OperationInfo])
    assert_type(client.create_sampling_client(ADAPTER), SamplingClient)
    assert_type(client.list_checkpoints(), list[Checkpoint])
    assert_type(client.get_checkpoint_archive_url("id", 10, 10), CheckpointFilesResponse)
    assert_type(client.get_tokenizer(), PreTrainedTokenizerBase)
    assert_type(client.get_info(), GetInfoResponse)
    client.log_metrics({"reward": 0.5})
    assert_type(client.policy_version, int)
    assert_type(client.last_policy_version, int | None)
    client.health()
    client.close()


def sampling(client: SamplingClient, data: list[Datum]) -> None:
    assert_type(client.sample([1], include_prompt_logprobs=True, topk_prompt_logprobs=2), SampleResult)
    assert_type(client.compute_logprobs((1, 2)), list[float | None])
    assert_type(client.get_base_model_id(), str)
    assert_type(client.get_adapter_id(), str | None)
    assert_type(client.get_tokenizer(), PreTrainedTokenizerBase)
    client.ensure_ready(timeout=None)
    SamplingClient.wait_until_ready(THERE, timeout=5, api_key=lambda: "k")
    assert_type(attach_reference_logprobs(tuple(data), client), list[Datum])
    client.close()


# ------------------------------------------------------------------ right, awaited


async def awaited_service(client: ServiceClient) -> None:
    made = await client.create_lora_training_client_async("m", lora_alpha=16, train_mlp=False)
    assert_type(made, TrainingClient)
    assert_type(await client.create_training_client_from_state_async(STATE), TrainingClient)
    assert_type(await client.create_training_client_from_state_with_optimizer_async(STATE), TrainingClient)
    assert_type(await client.attach_training_client_async("r", rank=None), TrainingClient)
    assert_type(await client.create_sampling_client_async("m"), SamplingClient)
    assert_type(await client.create_sampling_client_from_checkpoint_async(ADAPTER, timeout=1.0), SamplingClient)
    assert_type(await client.list_runs_async(), list[Run])
    assert_type(await client.get_run_async("r"), Run)
    assert_type(await client.get_server_capabilities_async(use_case="sft"), ServerCapabilities)
    assert_type(await client.list_checkpoints_async("r"), list[Checkpoint])
    assert_type(await client.get_checkpoint_archive_url_async("id"), CheckpointFilesResponse)
    assert_type(await client.download_checkpoint_async("id", Path("here")), list[Path])
    await client.aclose()


async def awaited_training(client: TrainingClient, data: list[Datum]) -> None:
    assert_type(await client.forward_backward_async(data, loss_fn="dro"), ForwardBackwardFuture)
    assert_type(await (await client.forward_async(data)), ForwardBackwardOutput)
    assert_type(await client.forward_backward_custom_async(data, Squares(), autograd=False), ForwardBackwardFuture)
    assert_type(await client.optim_step_async(AdamParams()), Future[OptimStepResponse])
    assert_type(await (await client.save_state_async("a")), SaveWeightsResponse)
    assert_type(await client.save_weights_for_sampler_async("a"), Future[SaveWeightsResponse])
    assert_type(await (await client.save_weights_and_get_sampling_client_async("a")), SamplingClient)
    assert_type(await client.load_state_async(STATE), Future[LoadWeightsResponse])
    assert_type(await client.load_state_with_optimizer_async(STATE), Future[LoadWeightsResponse])
    assert_type(await (await client.init_trainer_server_async(8, seed=1)), InitTrainerServerResponse)
    assert_type(await client.resume_operation_async("forward", "op-1", "key"), Future[Any])
    assert_type(await client.list_operations_async(), list[OperationInfo])
    assert_type(await client.create_sampling_client_async(ADAPTER), SamplingClient)
    assert_type(await client.list_checkpoints_async(), list[Checkpoint])
    assert_type(await client.get_checkpoint_archive_url_async("id", page_token=1), CheckpointFilesResponse)
    assert_type(await client.get_tokenizer_async(), PreTrainedTokenizerBase)
    assert_type(await client.policy_version_async(), int)
    await client.health_async()
    await client.aclose()


async def awaited_sampling(client: SamplingClient, data: list[Datum]) -> None:
    assert_type(await client.sample_async([1], 2), SampleResult)
    assert_type(await client.compute_logprobs_async([1]), list[float | None])
    assert_type(await client.get_base_model_id_async(), str)
    assert_type(await client.get_adapter_id_async(), str | None)
    assert_type(await client.get_tokenizer_async(), PreTrainedTokenizerBase)
    await client.ensure_ready_async(1.0)
    await SamplingClient.wait_until_ready_async(THERE, timeout=5)
    assert_type(await attach_reference_logprobs_async(data, client), list[Datum])
    await client.aclose()


# ------------------------------------------------------------------ wrong


def wrong_service(client: ServiceClient) -> None:
    client.create_lora_training_client("m", lora_alpha="16")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.create_lora_training_client("m", train_atn=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.create_lora_training_client("m").result()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    client.create_training_client_from_state_with_optimizer(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.attach_training_client()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.attach_training_client("r", rank="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.create_sampling_client("m", replicas="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.create_sampling_client_from_checkpoint()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.list_runs(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_run()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get_server_capabilities(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.list_checkpoints()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get_checkpoint_archive_url("id", page="2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.download_checkpoint("id")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.download_checkpoint("id", "here", 4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.download_checkpoint("id", "here", on_progress=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServiceClient.local(trainer_url=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.open()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    client.close(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_training(client: TrainingClient, data: list[Datum], loss: CustomArrayLoss) -> None:
    client.forward(data, loss_fn=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.forward(data).loss  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    client.forward_backward_custom(data, "ppo")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.forward_backward_custom(data, loss, False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.save_state("a", "60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.save_weights_for_sampler()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.save_weights_and_get_sampling_client("a", 60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.load_state_with_optimizer(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.init_trainer_server(8, 16)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.init_trainer_server(8, train_mlp="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.list_operations("done")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.resume_operation("forward")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.resume_operation("forward", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.create_sampling_client()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.list_checkpoints("r")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get_checkpoint_archive_url("id", "10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_tokenizer("m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.log_metrics(reward=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get_info().rank  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    client.health(timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.run_id = "r"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    client.close(True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_sampling(client: SamplingClient, core: loops_sdk.TrainingClient, data: list[Datum]) -> None:
    client.sample()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.sample([1]).result()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    client.compute_logprobs("Hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_base_model_id(1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get_adapter_id().upper()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    client.get_tokenizer("m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.ensure_ready(1.0, 2.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SamplingClient.wait_until_ready("http://x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    attach_reference_logprobs(data, core)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.close(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def wrong_awaited(service: ServiceClient, training: TrainingClient, sampling: SamplingClient) -> None:
    await service.attach_training_client_async(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.download_checkpoint_async("id", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.aclose(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await training.init_trainer_server_async(8, alpha=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await training.resume_operation_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await training.forward([Datum([1])], 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await training.aclose(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await sampling.get_adapter_id()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await attach_reference_logprobs_async([], "m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sampling.aclose(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
