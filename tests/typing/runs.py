"""Read by the type checkers, never run: asyncio clients of runs and checkpoints that are there already.

A wrong line carries the ignore of both checkers; both are set to complain about an ignore that hides nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from transformers import PreTrainedTokenizerBase

from loops_sdk import (
    BasetenDeployment,
    Checkpoint,
    CheckpointFilesResponse,
    Datum,
    ForwardBackwardOutput,
    OperationFuture,
    SamplingClient,
    ServiceClient,
    TrainingClient,
    WandbConfig,
    attach_reference_logprobs_async,
)

THERE = BasetenDeployment("https://model-m1.api.baseten.co", "m1", "d1", api_base_url="https://api.baseten.co")


async def service(client: ServiceClient) -> None:
    assert_type(await client.attach_training_client_async("r"), TrainingClient)
    await client.attach_training_client_async("r", 1, 2.0, WandbConfig("p"), rank=8, publish_timeout=3)
    assert_type(await client.download_checkpoint_async("id", "here"), list[Path])
    await client.download_checkpoint_async("id", Path("here"), parallel=8, on_progress=lambda there, of: None)
    await client.download_checkpoint_async("id", "here", on_progress=print)
    assert_type(await client.create_sampling_client_async("m", timeout=1, ready_timeout=2), SamplingClient)
    assert_type(await client.open_async(), ServiceClient)
    await client.aclose()


async def training(client: TrainingClient, data: list[Datum]) -> None:
    future = await client.resume_operation_async("forward_backward", "op-1", idempotency_key="key")
    assert_type(future, OperationFuture[Any])
    passed: ForwardBackwardOutput = await future
    assert_type(passed.loss, float)
    assert_type((future.operation, future.operation_id, future.idempotency_key), tuple[str, str, str])
    assert_type(future.done(), bool)
    assert_type(await client.create_sampling_client_async("bt://loops:r/sampler_weights/a"), SamplingClient)
    assert_type(await client.list_checkpoints_async(), list[Checkpoint])
    assert_type(await client.get_checkpoint_archive_url_async("id"), CheckpointFilesResponse)
    assert_type(await client.get_tokenizer_async(), PreTrainedTokenizerBase)
    assert_type(await client.policy_version_async(), int)
    assert_type(client.run_id, str | None)
    await client.save_weights_for_sampler_async("a", ttl_seconds=None)
    await client.health_async()
    await client.aclose()


async def sampling(client: SamplingClient) -> None:
    assert_type(await client.get_tokenizer_async(), PreTrainedTokenizerBase)
    await SamplingClient.wait_until_ready_async(THERE)
    await client.aclose()


async def wrong_service(client: ServiceClient) -> None:
    await client.attach_training_client_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.attach_training_client_async("r", lora_rank=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.attach_training_client_async("r", "600")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.download_checkpoint_async("id")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.download_checkpoint_async("id", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.download_checkpoint_async("id", "here", parallel="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.create_sampling_client_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.list_checkpoints_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.get_checkpoint_archive_url_async("id", page_size="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.close()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def wrong_training(client: TrainingClient) -> None:
    await client.list_operations_async("done")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.resume_operation_async("forward")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.resume_operation_async("forward", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.resume_operation_async("forward", "op-1", key="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.create_sampling_client_async(model=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.get_checkpoint_archive_url_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.init_trainer_server_async(8, train_attn="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.policy_version  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    client.health()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def wrong_sampling(client: SamplingClient) -> None:
    await client.get_base_model_id_async(timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    (await client.get_adapter_id_async()).upper()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    await client.compute_logprobs_async("Hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await attach_reference_logprobs_async([[1, 2]], client)  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await attach_reference_logprobs_async([])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.sample([1])  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
