"""Training that stops and goes on elsewhere: to the bit with the optimizer's moments, or from the weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loops_sdk import AdamParams, Datum, NotFoundError, RemoteOpError, SamplingParams, TrainingClient


async def _train(training: TrainingClient, batch: list[Datum], steps: range) -> None:
    """Steps that differ from one another, so that a step too many or too few would show."""
    for step in steps:
        await training.forward_backward_async(batch[: 1 + step % len(batch)])
        params = AdamParams(learning_rate=1e-3 * (1 + step), weight_decay=0.01, grad_clip_norm=1.0)
        await (await training.optim_step_async(params))


async def _saved(training: TrainingClient, name: str) -> str:
    return (await (await training.save_state_async(name))).path


async def _published(deployment: Any, training: TrainingClient, name: str) -> bytes:
    await (await training.save_weights_for_sampler_async(name))
    return _bytes(deployment.folder(training.run_id, name) / "adapter_model.safetensors")


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _tensors(deployment: Any, training: TrainingClient, name: str, file: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(deployment.data_dir / "runs" / str(training.run_id) / "weights" / name / f"{file}.safetensors")


async def test_with_the_optimizer_training_goes_on_to_the_bit(deployment: Any, batch: list[Datum]) -> None:
    async with deployment.service() as service:
        async with deployment.run(service, rank=8, seed=7) as straight:
            await _train(straight, batch, range(5))
            path = await _saved(straight, "five")
            await _train(straight, batch, range(5, 10))
            wanted = await _published(deployment, straight, "ten")
            await _saved(straight, "ten")
        async with deployment.run(service, rank=8, seed=8) as resumed:
            assert await _published(deployment, resumed, "start") != wanted
            loaded = await (await resumed.load_state_with_optimizer_async(path))
            assert (loaded.path, loaded.policy_version, resumed.last_policy_version) == (path, 5, 5)
            await _train(resumed, batch, range(5, 10))
            assert await _published(deployment, resumed, "ten") == wanted
            assert await resumed.policy_version_async() == 10
            await _saved(resumed, "ten")
    first, second = (_tensors(deployment, one, "ten", "optimizer") for one in (straight, resumed))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


async def test_without_it_the_weights_are_the_same_and_the_moments_fresh(deployment: Any, batch: list[Datum]) -> None:
    async with deployment.service() as service:
        async with deployment.run(service, rank=8, seed=7) as first:
            await _train(first, batch, range(3))
            path = await _saved(first, "three")
            wanted = await _published(deployment, first, "three")
        async with deployment.run(service, rank=8, seed=8) as second:
            await _train(second, batch, range(1))
            await (await second.load_state_async(path))
            assert await _published(deployment, second, "start") == wanted
            await _saved(second, "start")
            moments = _tensors(deployment, second, "start", "optimizer")
            assert moments
            assert not any(tensor.any() for tensor in moments.values())
            assert second.last_policy_version == await second.policy_version_async() == 0


@pytest.mark.parametrize("with_optimizer", [False, True])
async def test_a_client_from_a_checkpoint(deployment: Any, batch: list[Datum], with_optimizer: bool) -> None:
    async with deployment.service() as service:
        async with deployment.run(service, rank=4, seed=7) as first:
            await _train(first, batch, range(2))
            path = await _saved(first, "two")
            wanted = await _published(deployment, first, "two")
        resume = (
            service.create_training_client_from_state_with_optimizer_async
            if with_optimizer
            else service.create_training_client_from_state_async
        )
        async with deployment.ending(await resume(path)) as second:
            assert second.get_info() == first.get_info()
            assert (second.get_info().base_model, second.get_info().lora_rank) == (deployment.base_model, 4)
            assert second.run_id != first.run_id
            assert await _published(deployment, second, "start") == wanted
            assert await second.policy_version_async() == (2 if with_optimizer else 0)


async def test_after_a_load_the_sampler_serves_what_is_published_then(deployment: Any, batch: list[Datum]) -> None:
    tokens, one = batch[1].model_input.to_ints(), SamplingParams(max_tokens=1)
    async with deployment.service() as service, deployment.run(service, rank=8, seed=7) as training:
        path = await _saved(training, "start")
        start = await (await training.save_weights_and_get_sampling_client_async("start"))
        before = await start.compute_logprobs_async(tokens)
        await _train(training, batch, range(3))
        trained = await (await training.save_weights_and_get_sampling_client_async("trained"))
        assert await trained.compute_logprobs_async(tokens) != pytest.approx(before, abs=1e-2)
        await (await training.load_state_async(path))
        assert (
            await trained.sample_async(tokens, sampling_params=one)
        ).policy_version == 3  # nothing has been published since
        again = await (await training.save_weights_and_get_sampling_client_async("again"))
        assert await again.compute_logprobs_async(tokens) == pytest.approx(before, abs=1e-5)
        assert (await again.sample_async(tokens, sampling_params=one)).policy_version == 0


async def test_a_trainer_that_starts_over_with_another_rank(deployment: Any, batch: list[Datum]) -> None:
    async with deployment.service() as service, deployment.run(service, rank=8, seed=7) as training:
        base = await (await training.forward_async(batch))
        await _train(training, batch, range(2))
        assert (await (await training.init_trainer_server_async(4))).lora_rank == 4
        assert training.get_info().lora_rank == 4
        assert training.last_policy_version == await training.policy_version_async() == 0
        assert (await (await training.forward_async(batch))).loss == pytest.approx(base.loss, rel=1e-6)
        await _train(training, batch, range(2))
        path = await _saved(training, "narrow")
        tensors = _tensors(deployment, training, "narrow", "adapter_model")
        assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {4}
        resumed = await service.create_training_client_from_state_async(path)
        async with deployment.ending(resumed):
            assert resumed.get_info().lora_rank == 4


async def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(
    deployment: Any, batch: list[Datum]
) -> None:
    async with deployment.service() as service:
        async with deployment.run(service, rank=4) as narrow:
            path = await _saved(narrow, "narrow")
        async with deployment.run(service, rank=8) as training:
            await _train(training, batch, range(1))
            before = await _published(deployment, training, "before")
            with pytest.raises(RemoteOpError, match=rf"{path} does not fit this trainer.*r=4.*has 8"):
                await (await training.load_state_async(path))
            with pytest.raises(NotFoundError, match="there is no checkpoint bt://loops:nobody/weights/nothing"):
                await training.load_state_async("bt://loops:nobody/weights/nothing")
            assert await _published(deployment, training, "after") == before
            assert training.last_policy_version == await training.policy_version_async() == 1
