"""Read by the type checkers, never run: the asyncio clients from construction to close, right and wrong.

A wrong line carries the ignore of both checkers; both are set to complain about an ignore that hides nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

from loops_sdk import (
    AdamParams,
    Checkpoint,
    CheckpointFilesResponse,
    ComposedFuture,
    CustomArrayLoss,
    CustomLoss,
    Datum,
    ForwardBackwardFuture,
    ForwardBackwardOutput,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LocalDeployment,
    LoopsError,
    ModelInput,
    OperationFuture,
    OptimStepResponse,
    SampleResult,
    SamplingClient,
    SamplingParams,
    SaveWeightsResponse,
    ServerCapabilities,
    ServiceClient,
    TensorData,
    TrainingClient,
    WandbConfig,
    attach_reference_logprobs_async,
    from_dict,
    to_dict,
)
from loops_sdk.instrumentation import (
    Event,
    JsonlObserver,
    MetricsObserver,
    OperationFinished,
    OperationMeasured,
    read_metrics,
)


async def service() -> None:
    async with ServiceClient("project", api_key="k", base_url="http://127.0.0.1:1", observers=[observe]) as client:
        assert_type(client, ServiceClient)
        assert_type(client.session_id, str)
        training = await client.create_lora_training_client_async("m", 16, 7, 600.0, 3600.0, max_seq_len=512)
        await client.create_lora_training_client_async("m", lora_alpha=16, train_attn=True, train_mlp=None)
        assert_type(training, TrainingClient)
        await client.create_lora_training_client_async("m", 16, 7, 600.0, 3600.0, WandbConfig("project", "run"))
        resumed = await client.create_training_client_from_state_async("p", 600.0, 3600.0, name="n", with_sampler=True)
        assert_type(resumed, TrainingClient)
        assert_type(await client.create_training_client_from_state_with_optimizer_async("p"), TrainingClient)
        assert_type(await client.list_checkpoints_async("r1"), list[Checkpoint])
        assert_type(await client.create_sampling_client_async("m", None, timeout=1.0, replicas=2), SamplingClient)
        assert_type(await client.get_server_capabilities_async("m", "rl", 512), ServerCapabilities)
        archive = await client.get_checkpoint_archive_url_async("id", page_token=3)
        assert_type(archive.next_page_token, int | None)
    ServiceClient(reuse_from_session_id="s", team="t", api_key=lambda: "k")
    async with ServiceClient.local(trainer_url="http://t") as local:
        assert_type(local, ServiceClient)


def observe(event: Event) -> None:
    if isinstance(event, OperationFinished):
        assert_type(event.error, str | None)
    if isinstance(event, OperationMeasured):
        assert_type(event.metrics, dict[str, float])
        assert_type(event.loss, float | None)


def record() -> ServiceClient:
    with JsonlObserver(Path("events.jsonl")) as observer:
        assert_type(observer, JsonlObserver)
        with MetricsObserver("metrics") as curves:
            assert_type(curves, MetricsObserver)
        assert_type(read_metrics(Path("metrics/r1.jsonl")), list[dict[str, float]])
        return ServiceClient(observers=[observer, JsonlObserver("more.jsonl"), MetricsObserver(Path("m")), observe])


async def training(client: TrainingClient) -> None:
    datum = Datum([1, 2], {"target_tokens": [2, 3], "weights": np.ones(2), "advantages": TensorData([1.0, 2.0])})
    assert_type(await client.forward_backward_async((datum,)), ForwardBackwardFuture)
    step = await client.optim_step_async(AdamParams(learning_rate=1))
    assert_type(step, OperationFuture[OptimStepResponse])
    assert_type((await step).metrics, dict[str, float])
    both = await asyncio.gather(client.save_state_async("a", 60), client.forward_async([datum], "dppo"))
    assert_type(await both[0], SaveWeightsResponse)
    assert_type((await both[1]).loss, float)
    loads = await asyncio.gather(client.load_state_async("p"), client.load_state_with_optimizer_async("p"))
    assert_type(loads[0], OperationFuture[LoadWeightsResponse])
    assert_type((await loads[1]).policy_version, int | None)
    assert_type(await client.init_trainer_server_async(8), OperationFuture[InitTrainerServerResponse])
    publishing = await client.save_weights_and_get_sampling_client_async("a")
    assert_type(publishing, ComposedFuture[SamplingClient])
    assert_type(await publishing.result_async(timeout=5), SamplingClient)
    assert_type(client.get_info(), GetInfoResponse)
    assert_type(client.last_policy_version, int | None)
    client.log_metrics({"reward": 0.5, "samples": 8}, step=1)


def dpo(data: list[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
    return torch.stack([values.sum() for values in logprobs]).sum(), {"datums": len(data)}


def by_hand(
    data: list[Datum], logprobs: list[NDArray[np.float32]]
) -> tuple[float, list[NDArray[np.float64]], dict[str, float]]:
    return 1.0, [values.astype(np.float64) for values in logprobs], {}


def without_a_result(data: list[Datum], logprobs: list[torch.Tensor]) -> None: ...


def without_metrics(data: list[Datum], logprobs: list[torch.Tensor]) -> torch.Tensor:
    return logprobs[0].sum()


async def custom(client: TrainingClient, sampler: SamplingClient, data: list[Datum]) -> None:
    torch_loss: CustomLoss = dpo
    array_loss: CustomArrayLoss = by_hand
    assert_type(await client.forward_backward_custom_async(data, torch_loss), ForwardBackwardFuture)
    assert_type(await client.forward_backward_custom_async(tuple(data), dpo, autograd=True), ForwardBackwardFuture)
    assert_type(await client.forward_backward_custom_async(data, array_loss, autograd=False), ForwardBackwardFuture)
    assert_type(await attach_reference_logprobs_async(data, sampler), list[Datum])
    assert_type(await attach_reference_logprobs_async(data, client), list[Datum])
    await client.init_trainer_server_async(
        8, lora_alpha=16, seed=1, train_attn=True, train_mlp=None, train_unembed=False
    )
    assert_type(await client.get_checkpoint_archive_url_async("id", 10, page_token=10), CheckpointFilesResponse)


async def wrong_custom(client: TrainingClient, data: list[Datum]) -> None:
    await client.forward_backward_custom_async(data, "ppo")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.forward_backward_custom_async(data, without_a_result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.forward_backward_custom_async(data, without_metrics)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.forward_backward_custom_async(data, dpo, False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await attach_reference_logprobs_async(data, "m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.init_trainer_server_async(8, 16)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def sampling(client: SamplingClient) -> None:
    params = SamplingParams(max_tokens=8, stop="END")
    result = await client.sample_async([1, 2], 2, params, include_prompt_logprobs=True, topk_prompt_logprobs=3)
    assert_type(result, SampleResult)
    assert_type(result.topk_prompt_logprobs, list[dict[int, float] | None] | None)
    assert_type(await client.compute_logprobs_async(ModelInput.from_ints(np.arange(3))), list[float | None])
    SamplingClient(base_model="m", deployment=LocalDeployment("http://127.0.0.1:1"), min_policy_version=3)


def values(result: ForwardBackwardOutput) -> None:
    assert_type(from_dict(ForwardBackwardOutput, to_dict(result)), ForwardBackwardOutput)
    try:
        pass
    except LoopsError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.context(), dict[str, Any])


async def wrong(service: ServiceClient, training: TrainingClient, sampling: SamplingClient) -> None:
    ServiceClient(key="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ServiceClient("project", "k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ServiceClient(reuse_from_run_id=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServiceClient(api_key=lambda: 3)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    ServiceClient.local()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ServiceClient.local(trainer_url="http://t", team="t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await service.create_sampling_client_async("m", rank=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await service.get_server_capabilities_async(max_seq_len="512")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServiceClient(observers=[print, 5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    service.session_id = "s"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    await service.create_lora_training_client_async("m", rank=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.create_lora_training_client_async("m", train_mlp="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.create_lora_training_client_async("m", wandb_config={"project": "p"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    WandbConfig()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MetricsObserver(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    training.log_metrics({"reward": "high"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    JsonlObserver(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.create_training_client_from_state_async("p", rank=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await training.forward_backward_async(Datum([1]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await training.forward_async([[1, 2]])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await training.forward_async([Datum([1])], "mse")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await training.optim_step_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    (await training.save_state_async("a")).path  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    await training.init_trainer_server_async("8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await training.load_state_async(Checkpoint)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await training.load_state_async("p", optimizer=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await sampling.sample_async("Hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sampling.sample_async([1], sampling_params={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SamplingClient(base_model="m", deployment="http://x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SamplingParams(temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
