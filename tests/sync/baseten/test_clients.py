"""The clients under the service's names, against an embedded deployment over an engine without torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import loops_sdk_sync
from loops_sdk.local import LocalStack
from loops_sdk_sync.baseten import AdamParams, Datum, Future, SamplingClient, ServiceClient, TrainingClient

from ..conftest import MODEL, doubles_can_be_imported, stack

__all__ = ["doubles_can_be_imported", "stack"]  # fixtures of the neighbours

DATUM = Datum([1, 2, 3], {"target_tokens": [2, 3, 1]})


@pytest.fixture(scope="module")
def training(stack: LocalStack) -> Iterator[TrainingClient]:
    with ServiceClient() as service:
        made = service.create_lora_training_client(base_model=MODEL, rank=4, replicas=1, ready_timeout=60.0)
        assert isinstance(made, TrainingClient)
        yield made


async def test_the_documented_forms_that_are_awaited(training: TrainingClient) -> None:
    passed = await training.forward_async([DATUM], loss_fn="cross_entropy")
    assert isinstance(passed, Future)
    before = (await passed.result_async()).loss
    await training.forward_backward_async([DATUM])
    stepped = await training.optim_step_async(AdamParams(learning_rate=0.1))
    assert (await stepped.result_async()).metrics["step"] >= 1
    sampling = await training.save_weights_and_get_sampling_client_async(name="step-1")
    assert isinstance(sampling, SamplingClient)
    assert sampling.min_policy_version == training.policy_version
    assert len((await sampling.sample_async([1, 2])).sequences) == len(sampling.sample([1, 2]).sequences) == 1
    assert (await training.forward_async([DATUM])).result().loss < before


def test_the_blocking_form_gives_a_future(training: TrainingClient) -> None:
    future = training.save_weights_and_get_sampling_client("blocking")
    assert isinstance(future, Future)
    assert isinstance(future.result(timeout=60.0), SamplingClient)


async def test_every_way_to_a_training_client_gives_this_one(training: TrainingClient) -> None:
    path = training.save_state("on").result(timeout=60.0).path
    run_id = str(training.run_id)
    async with ServiceClient() as service:
        for made in (
            service.attach_training_client(run_id, rank=4),
            await service.attach_training_client_async(run_id, rank=4),
            service.create_training_client_from_state(path),
            await service.create_training_client_from_state_with_optimizer_async(path),
            await service.create_lora_training_client_async(MODEL, rank=4),
        ):
            assert type(made) is TrainingClient
        assert type(service.create_sampling_client(MODEL)) is SamplingClient
    with loops_sdk_sync.ServiceClient() as service:
        assert type(service.attach_training_client(run_id, rank=4)) is loops_sdk_sync.TrainingClient


def test_a_local_service_gives_it_too(training: TrainingClient) -> None:
    with ServiceClient.local(trainer_url=training._core._channel.url) as local:
        assert type(local) is ServiceClient
        assert type(local.create_lora_training_client(MODEL, rank=4)) is TrainingClient
