"""What comes through client, wire and servers is what plain torch and peft compute."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loops_sdk import AdamParams, Datum, ModelInput, SamplingParams, TrainingClient

pytestmark = [
    # peft's advice for merging adapters of tied heads; nothing is merged here
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    # peft asks transformers for an attribute that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

# Not Adam's default: at 1e-12 the very first step is the sign of the gradient, also of one that is rounding noise.
EPS = 1.0
ADAM = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": EPS, "weight_decay": 0.01}
PARAMS = AdamParams(learning_rate=1e-2, beta1=0.9, beta2=0.95, eps=EPS, weight_decay=0.01)


@pytest.fixture
async def training(deployment: Any) -> AsyncIterator[TrainingClient]:
    async with deployment.service() as service, deployment.run(service, rank=8, seed=7) as training:
        yield training


async def _published(deployment: Any, training: TrainingClient, name: str) -> Any:
    await (await training.save_weights_for_sampler_async(name))
    return deployment.folder(training.run_id, name)


def _one(batch: list[Datum]) -> list[list[Datum]]:
    return [batch[:1]]


def _unequal(batch: list[Datum]) -> list[list[Datum]]:
    return [batch]


def _cut(batch: list[Datum]) -> list[list[Datum]]:
    return [batch[:1], batch[1:3], batch[3:]]


@pytest.mark.parametrize("calls", [_one, _unequal, _cut], ids=["one datum", "unequal lengths", "cut into calls"])
async def test_a_training_step_equals_the_plain_loop(
    deployment: Any,
    training: TrainingClient,
    reference: Any,
    batch: list[Datum],
    calls: Callable[[list[Datum]], list[list[Datum]]],
) -> None:
    import torch
    from safetensors.torch import load_file

    start = await _published(deployment, training, "start")
    futures = [await training.forward_backward_async(part) for part in calls(batch)]
    stepped = await (await training.optim_step_async(PARAMS))
    loss = sum([(await future).loss for future in futures])
    weights = load_file(await _published(deployment, training, "next") / "adapter_model.safetensors")

    data = [datum for part in calls(batch) for datum in part]
    plain, exact = reference(start), reference(start, "float64")
    (expected_loss, expected_norm), _ = _step(plain, data), _step(exact, data)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert stepped.metrics["grad_norm"] == pytest.approx(expected_norm, rel=1e-5)
    assert weights.keys() == plain.weights().keys()
    for name, tensor in plain.weights().items():
        # A deep model's float32 gradients are themselves off: as far as the plain loop is from float64 no digit counts.
        noise = (tensor.double() - exact.weights()[name]).abs().max().item()
        torch.testing.assert_close(
            weights[name], tensor, rtol=1e-5, atol=max(1e-6, 3 * noise), msg=lambda text, n=name: f"{n}: {text}"
        )


def _step(plain: Any, data: list[Datum]) -> tuple[float, float]:
    """Loss and gradient norm of one step of the plain loop."""
    return sum(plain.forward_backward(datum) for datum in data), plain.step(**ADAM)


async def _some_steps(training: TrainingClient, batch: list[Datum]) -> None:
    for _ in range(3):
        await training.forward_backward_async(batch)
        await (await training.optim_step_async(AdamParams(learning_rate=2e-3)))


@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "temperature 1"])
async def test_sampler_and_trainer_agree_on_logprobs(
    training: TrainingClient, batch: list[Datum], tokenizer: Any, temperature: float
) -> None:
    await _some_steps(training, batch)
    sampler = await (await training.save_weights_and_get_sampling_client_async("policy"))
    prompt = tokenizer.encode("What is 3 + 4?")
    params = SamplingParams(temperature=temperature, max_tokens=24, seed=11)
    result = await sampler.sample_async(prompt, num_samples=4, sampling_params=params)
    assert result.policy_version == 3
    for sequence in result.sequences:
        whole = [*prompt, *sequence.tokens]
        output = await (await training.forward_async([Datum(ModelInput.from_ints(whole))]))
        of_trainer = output.loss_fn_outputs[0]["logprobs"].tolist()[len(prompt) - 1 : -1]
        assert of_trainer == pytest.approx(sequence.logprobs, abs=1e-3)


async def test_peft_loads_a_published_adapter_and_agrees_with_the_sampler(
    deployment: Any, training: TrainingClient, reference: Any, batch: list[Datum]
) -> None:
    import torch

    await _some_steps(training, batch)
    sampler = await (await training.save_weights_and_get_sampling_client_async("published"))
    plain = reference(deployment.folder(training.run_id, "published"))
    for datum in batch:
        tokens = datum.model_input.to_ints()
        expected = plain.logprobs(tokens).tolist()
        assert await sampler.compute_logprobs_async(tokens) == [
            None,
            *[pytest.approx(value, abs=1e-3) for value in expected],
        ]
    result = await sampler.sample_async(tokens, sampling_params=SamplingParams(max_tokens=1), topk_prompt_logprobs=20)
    assert result.topk_prompt_logprobs is not None
    with torch.no_grad():
        log_p = torch.log_softmax(plain.logits(tokens), dim=-1)
    for position, entry in enumerate(result.topk_prompt_logprobs[1:]):
        assert entry is not None
        best = log_p[position].topk(20)
        expected_best = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        assert sorted(entry.values()) == pytest.approx(sorted(expected_best.values()), abs=1e-3)
        assert all(log_p[position][token].item() == pytest.approx(value, abs=1e-3) for token, value in entry.items())


async def test_thirty_steps_teach_the_model_something(training: TrainingClient, batch: list[Datum]) -> None:
    losses = []
    for _ in range(30):
        passed = await training.forward_backward_async(batch)
        await (await training.optim_step_async(AdamParams(learning_rate=2e-3)))
        losses.append((await passed).loss)
    assert losses[-1] < 0.3 * losses[0]
    assert await training.policy_version_async() == 30
