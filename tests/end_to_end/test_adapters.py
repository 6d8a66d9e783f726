"""Which parts of a model get an adapter, its alpha and its seed: asked for by keyword, honoured down to the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import (
    AdamParams,
    Datum,
    InvalidInputError,
    ModelInput,
    SamplingParams,
    TrainingClient,
)

pytestmark = [
    # peft's advice for merging adapters of tied heads; nothing is merged here
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    # peft asks transformers for an attribute that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ALL = {"train_attn": True, "train_mlp": True, "train_unembed": True}
NONE = dict.fromkeys(ALL, False)
#: What marks the tensors of each part, in every model these tests know.
MARKS = {"train_attn": ".self_attn.", "train_mlp": ".mlp.", "train_unembed": "lm_head"}


async def _train(training: TrainingClient, batch: list[Datum], steps: int = 2) -> None:
    for _ in range(steps):
        await training.forward_backward_async(batch)
        await (await training.optim_step_async(AdamParams(learning_rate=5e-3)))


async def _published(deployment: Any, training: TrainingClient, name: str) -> Path:
    await (await training.save_weights_for_sampler_async(name))
    folder: Path = deployment.folder(training.run_id, name)
    return folder


def _adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors.torch import load_file

    return json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")


def _parts(names: Any) -> dict[str, bool]:
    return {part: any(mark in name for name in names) for part, mark in MARKS.items()}


@pytest.mark.parametrize(
    "asked", [{"train_mlp": False, "lora_alpha": 8}, {**NONE, "train_unembed": True}], ids=["no mlp", "head alone"]
)
async def test_parts_and_alpha_from_the_keyword_to_the_sampler(
    deployment: Any, batch: list[Datum], reference: Any, asked: dict[str, Any]
) -> None:
    async with deployment.service() as service, deployment.run(service, rank=4, seed=7, **asked) as training:
        assert training.get_info().lora_rank == 4
        start = await _published(deployment, training, "start")
        await _train(training, batch)
        folder = await _published(deployment, training, "trained")
        config, tensors = _adapter(folder)
        wanted = {part: asked.get(part, True) for part in ALL}
        assert _parts(tensors) == wanted
        assert (config["r"], config["lora_alpha"]) == (4, asked.get("lora_alpha", 32))
        assert {name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors} == set(config["target_modules"])
        await _the_sampler_and_peft_agree(training, batch, reference(folder))
    before, after = (reference(one).model.merge_and_unload().state_dict() for one in (start, folder))
    moved = [name for name in before if not before[name].equal(after[name])]
    assert _parts(moved) == wanted  # what is not trained stays to the bit
    assert _parts(before) == ALL


async def _the_sampler_and_peft_agree(training: TrainingClient, batch: list[Datum], plain: Any) -> None:
    sampler = await (await training.save_weights_and_get_sampling_client_async("served"))
    for datum in batch[:2]:
        tokens = datum.model_input.to_ints()
        wanted = plain.logprobs(tokens).tolist()
        (output,) = (await (await training.forward_async([Datum(ModelInput.from_ints(tokens))]))).loss_fn_outputs
        assert output["logprobs"].tolist()[:-1] == pytest.approx(wanted, abs=1e-3)
        assert (await sampler.compute_logprobs_async(tokens))[1:] == pytest.approx(wanted, abs=1e-3)
    params = SamplingParams(temperature=0, max_tokens=8)
    (sequence,) = (await sampler.sample_async(tokens, sampling_params=params)).sequences
    output = await (await training.forward_async([Datum([*tokens, *sequence.tokens])]))
    scored = output.loss_fn_outputs[0]["logprobs"].tolist()[len(tokens) - 1 : -1]
    assert scored == pytest.approx(sequence.logprobs, abs=1e-3)


async def test_alpha_scales(deployment: Any, batch: list[Datum]) -> None:
    """B is zero at first: A has no gradient then, and that of B is alpha over rank times what it would be at 1."""
    norms = []
    async with deployment.service() as service, deployment.run(service, rank=4) as training:
        for asked in ({"lora_alpha": 32}, {"lora_alpha": 64}, {"lora_alpha": 8}, {}):
            await (await training.init_trainer_server_async(4, seed=7, **asked))
            await training.forward_backward_async(batch)
            norms.append((await (await training.optim_step_async(AdamParams()))).metrics["grad_norm"])
    assert [norm / norms[0] for norm in norms] == pytest.approx([1, 2, 0.25, 1], rel=1e-5)


async def test_a_seed_draws_the_same_adapter(deployment: Any) -> None:
    """In another run, through the create and through a start over; and one that the trainer drew can be given again."""

    async def drawn(training: TrainingClient, name: str, **asked: Any) -> dict[str, Any]:
        if asked:
            await (await training.init_trainer_server_async(4, **asked))
        return _adapter(await _published(deployment, training, name))[1]

    async with deployment.service() as service:
        async with deployment.run(service, rank=4, seed=5) as training:
            first = await drawn(training, "first")
            other = await drawn(training, "other", seed=6)
            told = (await (await training.init_trainer_server_async(4))).seed
            free = await drawn(training, "free")
            same = [await drawn(training, "redrawn", seed=told)]
        async with deployment.run(service, rank=4, seed=5, lora_alpha=8) as training:
            same.append(await drawn(training, "second"))
    for one, again in ((free, same[0]), (first, same[1])):
        assert all(one[name].equal(again[name]) for name in one)
    assert not any(tensor.any() for name, tensor in first.items() if "lora_B" in name)
    drawings = [[one[name] for name in one if "lora_A" in name] for one in (first, other, free)]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert not any(map(_same, drawings[left], drawings[right]))


def _same(left: Any, right: Any) -> bool:
    return bool(left.equal(right))


async def test_a_run_with_flags_is_resumed_to_the_bit(deployment: Any, batch: list[Datum]) -> None:
    async with deployment.service() as service:
        async with deployment.run(service, rank=4, seed=7, lora_alpha=11, train_mlp=False) as first:
            await _train(first, batch)
            path = (await (await first.save_state_async("two"))).path
            await _train(first, batch)
            wanted = await _published(deployment, first, "four")
        resumed = await service.create_training_client_from_state_with_optimizer_async(path)
        async with deployment.ending(resumed) as second:
            await _train(second, batch)
            got = await _published(deployment, second, "four")
            assert await second.policy_version_async() == 4
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (got / file).read_bytes() == (wanted / file).read_bytes()
    assert _adapter(got)[0]["lora_alpha"] == 11


async def test_nothing_to_train_is_refused(deployment: Any) -> None:
    async with deployment.service() as service:
        with pytest.raises(InvalidInputError, match="all are False"):
            await service.create_lora_training_client_async(deployment.base_model, **NONE)
