"""Read by the type checkers, never run: calls of both houses, right ones and, each on its own line, wrong ones.

A wrong line carries the ignore of both checkers; both are set to complain about an ignore that hides nothing.
"""

from __future__ import annotations

from typing import assert_type

import torch

import loops_sdk
import loops_sdk_sync
from loops_sdk import AdamParams, Datum, ForwardBackwardOutput, OptimStepResponse, SampleResult


def blocking(service: loops_sdk_sync.ServiceClient, data: list[Datum]) -> None:
    training = service.create_lora_training_client("loops/tiny", rank=16)
    assert_type(training, loops_sdk_sync.TrainingClient)
    service.create_lora_training_client("loops/tiny", 16, None, 600.0, 3600.0, loops_sdk_sync.WandbConfig("project"))
    assert_type(service.create_training_client_from_state("p"), loops_sdk_sync.TrainingClient)
    assert_type(service.create_training_client_from_state_with_optimizer("p"), loops_sdk_sync.TrainingClient)
    local = loops_sdk_sync.ServiceClient.local(trainer_url="http://t", sampler_url="http://s", api_key=lambda: "k")
    assert_type(local, loops_sdk_sync.ServiceClient)
    assert_type(service.create_sampling_client("loops/tiny", max_seq_len=512), loops_sdk_sync.SamplingClient)
    assert_type(service.get_server_capabilities(use_case="sft"), loops_sdk_sync.ServerCapabilities)
    assert_type(service.get_checkpoint_archive_url("id", 10, 20), loops_sdk_sync.CheckpointFilesResponse)
    assert_type(training.forward_backward(data).result(timeout=600.0), ForwardBackwardOutput)
    assert_type(training.optim_step(AdamParams()), loops_sdk_sync.Future[OptimStepResponse])
    assert_type(training.save_weights_and_get_sampling_client("a").result(), loops_sdk_sync.SamplingClient)
    assert_type(training.create_sampling_client("bt://loops:r/sampler_weights/a"), loops_sdk_sync.SamplingClient)
    assert_type(training.load_state("bt://loops:r/weights/a").result(timeout=1.0).path, str)
    assert_type(training.load_state_with_optimizer("p"), loops_sdk_sync.Future[loops_sdk_sync.LoadWeightsResponse])
    assert_type(training.init_trainer_server(8).result().lora_rank, int | None)
    assert_type(training.policy_version, int)
    assert_type(training.run_id, str | None)
    with training as same:
        assert_type(same, loops_sdk_sync.TrainingClient)


def preferences(
    training: loops_sdk_sync.TrainingClient, sampling: loops_sdk_sync.SamplingClient, data: list[Datum]
) -> None:
    def loss(data: list[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        return logprobs[0].sum(), {}

    assert_type(training.forward_backward_custom(data, loss).result(timeout=1.0), ForwardBackwardOutput)
    assert_type(loops_sdk_sync.attach_reference_logprobs(data, sampling), list[Datum])
    assert_type(loops_sdk_sync.attach_reference_logprobs(data, training), list[Datum])
    assert_type(training.get_checkpoint_archive_url("id"), loops_sdk_sync.CheckpointFilesResponse)


def wrong_preferences(core: loops_sdk.SamplingClient, data: list[Datum]) -> None:
    loops_sdk_sync.attach_reference_logprobs(data, core)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaiting(training: loops_sdk_sync.TrainingClient, data: list[Datum]) -> None:
    accepted = await training.forward_backward_async(data)
    assert_type(await accepted, ForwardBackwardOutput)
    assert_type(await training.policy_version_async(), int)
    pinned = await (await training.save_weights_and_get_sampling_client_async("a"))
    assert_type(await pinned.sample_async([1, 2]), SampleResult)


async def core(training: loops_sdk.TrainingClient, data: list[Datum]) -> None:
    accepted = await training.forward_backward_async(data, "ppo", {"clip_low_threshold": 0.8})
    assert_type(await accepted, ForwardBackwardOutput)
    assert_type(await accepted.result_async(timeout=1.0), ForwardBackwardOutput)


def wrong(service: loops_sdk_sync.ServiceClient, training: loops_sdk_sync.TrainingClient, data: list[Datum]) -> None:
    service.create_lora_training_client()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    service.create_lora_training_client("m", rank="16")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    service.create_training_client_from_state(rank=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    loops_sdk_sync.ServiceClient.local("http://t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    service.create_sampling_client()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    service.get_checkpoint_archive_url(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    training.forward_backward(data, "entropy")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    training.forward_backward(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    training.optim_step(1e-4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    training.optim_step(AdamParams()).result("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    training.init_trainer_server()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    training.load_state()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    training.policy_version()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    training.no_such_call()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    loops_sdk_sync.TrainingClient("http://t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def wrong_in_the_core(training: loops_sdk.TrainingClient) -> None:
    await training.optim_step_async({})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await training.save_state_async(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
