"""A loss of one's own on a real trainer: its gradient is the one plain torch computes, and DPO learns a preference."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from loops_sdk import AdamParams, Datum, ModelInput, TrainingClient, attach_reference_logprobs_async

pytestmark = [
    # peft's advice for merging adapters of tied heads; nothing is merged here
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    # peft asks transformers for an attribute that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

BETA = 0.5
#: Prompts with the answer that is preferred and the one that is not.
PAIRS = [
    ("What is 7 + 5?", " 12.", " I will not say it today."),
    ("The cat sat by the door and", " waited for the rain to stop.", " then it flew."),
    ("Monday comes before", " Tuesday.", " the boat had a red sail."),
    ("Once there was a small", " boat. It was called Anna.", " 12."),
]


@pytest.fixture
async def training(deployment: Any) -> AsyncIterator[TrainingClient]:
    async with deployment.service() as service, deployment.run(service, rank=8, seed=7) as training:
        yield training


@pytest.fixture(scope="module")
def pairs(tokenizer: Any) -> list[Datum]:
    """Chosen, rejected, chosen, ...; the prompt is kept out of the loss."""
    data = []
    for prompt, chosen, rejected in PAIRS:
        start = tokenizer.encode(prompt)
        for answer in (chosen, rejected):
            tokens = [*start, *tokenizer.encode(answer, add_special_tokens=False)]
            targets = [-100] * (len(start) - 1) + tokens[len(start) :]
            data.append(Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": targets}))
    return data


def dpo(data: list[Datum], logprobs: Sequence[Any]) -> tuple[Any, dict[str, float]]:
    import torch

    gains = [
        (policy - datum.loss_fn_inputs["reference_logprobs"].to_torch()).sum()
        for datum, policy in zip(data, logprobs, strict=True)
    ]
    margins = BETA * (torch.stack(gains[0::2]) - torch.stack(gains[1::2]))
    return -torch.nn.functional.logsigmoid(margins).sum(), {"margin": float(margins.mean().item())}


def dpo_of_arrays(data: list[Datum], logprobs: Sequence[Any]) -> tuple[float, list[Any], dict[str, float]]:
    """The same, differentiated by hand: d/dm -log sigmoid(m) = -sigmoid(-m)."""
    gains = np.array(
        [
            float((policy - datum.loss_fn_inputs["reference_logprobs"].to_numpy()).sum(dtype=np.float64))
            for datum, policy in zip(data, logprobs, strict=True)
        ]
    )
    margins = BETA * (gains[0::2] - gains[1::2])
    slopes = np.stack([-BETA / (1 + np.exp(margins)), BETA / (1 + np.exp(margins))], axis=1).reshape(-1)
    gradients = [np.full(policy.shape, slope) for policy, slope in zip(logprobs, slopes, strict=True)]
    return float(np.log1p(np.exp(-margins)).sum()), gradients, {"margin": float(margins.mean())}


# ---------------------------------------------------------------- the gradient

#: One step from fresh moments moves a weight by E g / (|g| + E), nearly its gradient g, which can be read from it.
E = 1024.0
READABLE = AdamParams(learning_rate=E, beta1=0.0, beta2=0.0, eps=E)


def _gradient(before: Any, after: Any) -> Any:
    moved = before.double() - after.double()
    return moved * E / (E - moved.abs())


async def _saved(deployment: Any, training: TrainingClient, name: str) -> Any:
    await (await training.save_weights_for_sampler_async(name))
    return deployment.folder(training.run_id, name)


async def _gradients(
    deployment: Any, training: TrainingClient, name: str, data: list[Datum], loss_fn: Any, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """The result of one custom pass from the checkpoint `start`, and the gradient of every weight."""
    from safetensors.torch import load_file

    await training.load_state_async(f"bt://loops:{training.run_id}/weights/start")
    before = load_file(await _saved(deployment, training, f"{name}-before") / "adapter_model.safetensors")
    passed = await training.forward_backward_custom_async(data, loss_fn, **options)
    await (await training.optim_step_async(READABLE))
    after = load_file(await _saved(deployment, training, f"{name}-after") / "adapter_model.safetensors")
    return await passed, {weight: _gradient(tensor, after[weight]) for weight, tensor in before.items()}


def _plain_gradients(plain: Any, data: list[Datum]) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of the same function when torch sees model and loss as one graph."""
    import torch

    logprobs = []
    for datum in data:
        targets = datum.loss_fn_inputs["target_tokens"].to_torch()
        log_p = torch.log_softmax(plain.logits(datum.model_input.to_ints()), dim=-1)
        of_targets = log_p.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
        logprobs.append(torch.where(targets == -100, torch.zeros_like(of_targets), of_targets))
    loss, _ = dpo(data, logprobs)
    loss.backward()
    return float(loss.item()), {name: tensor.grad for name, tensor in _parameters(plain)}


def _parameters(plain: Any) -> Any:
    """The trained parameters under the names of an adapter file."""
    for name, parameter in plain.model.named_parameters():
        if parameter.requires_grad:
            yield name.replace(".default.", "."), parameter


async def _away_from_the_start(training: TrainingClient, batch: list[Datum]) -> None:
    """Some steps, so that no factor of the adapter is zero, and so no gradient."""
    for _ in range(3):
        await training.forward_backward_async(batch)
        await training.optim_step_async(AdamParams(learning_rate=2e-3))
    await (await training.save_state_async("start"))


async def test_its_gradient_is_that_of_plain_torch(
    deployment: Any, training: TrainingClient, reference: Any, batch: list[Datum], pairs: list[Datum]
) -> None:
    import torch

    data = await attach_reference_logprobs_async(pairs, training)
    await _away_from_the_start(training, batch)
    result, gradients = await _gradients(deployment, training, "torch", data, dpo)
    folder = deployment.folder(training.run_id, "torch-before")
    plain, exact = reference(folder), reference(folder, "float64")
    (loss, expected), (_, truth) = _plain_gradients(plain, data), _plain_gradients(exact, data)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == expected.keys()
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        # A deep model's float32 gradients are themselves off: as far as plain torch is from float64 no digit counts.
        noise = (gradient.double() - truth[name].double()).abs().max().item()
        torch.testing.assert_close(
            gradients[name],
            gradient.double(),
            rtol=1e-5,
            atol=max(1e-5 * largest, 3 * noise),
            msg=lambda text, n=name: f"{n}: {text}",
        )


async def test_gradients_given_as_arrays_do_the_same(
    deployment: Any, training: TrainingClient, batch: list[Datum], pairs: list[Datum]
) -> None:
    import torch

    data = await attach_reference_logprobs_async(pairs, training)
    await _away_from_the_start(training, batch)
    with_torch, expected = await _gradients(deployment, training, "torch", data, dpo)
    by_hand, gradients = await _gradients(deployment, training, "arrays", data, dpo_of_arrays, autograd=False)
    assert by_hand.loss == pytest.approx(with_torch.loss, rel=1e-6)
    assert by_hand.metrics["margin"] == pytest.approx(with_torch.metrics["margin"], rel=1e-4)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-6 * largest)


# ---------------------------------------------------------------- learning


async def test_dpo_learns_to_prefer(training: TrainingClient, pairs: list[Datum]) -> None:
    data = await attach_reference_logprobs_async(pairs, training)
    losses, margins = [], []
    for _ in range(15):
        passed = await training.forward_backward_custom_async(data, dpo)
        await (await training.optim_step_async(AdamParams(learning_rate=1e-4)))
        result = await passed
        losses.append(result.loss)
        margins.append(result.metrics["margin"])
    assert losses[0] == pytest.approx(len(PAIRS) * math.log(2), rel=1e-5)  # the policy is its own reference
    assert margins[0] == pytest.approx(0, abs=1e-5)
    assert losses[-1] < 0.5 * losses[0]
    assert margins[-1] > 1.0
    assert margins[-1] > margins[5] > margins[0]
    assert await training.policy_version_async() == 15


async def test_sampler_and_trainer_are_the_same_reference(training: TrainingClient, pairs: list[Datum]) -> None:
    sampler = await (await training.save_weights_and_get_sampling_client_async("reference"))
    of_sampler = await attach_reference_logprobs_async(pairs, sampler)
    of_trainer = await attach_reference_logprobs_async(pairs, training)
    for one, other in zip(of_sampler, of_trainer, strict=True):
        logprobs = one.loss_fn_inputs["reference_logprobs"].to_numpy()
        np.testing.assert_allclose(logprobs, other.loss_fn_inputs["reference_logprobs"].to_numpy(), atol=1e-3)
        ignored = one.loss_fn_inputs["target_tokens"].to_numpy() == -100
        assert (logprobs[ignored] == 0).all()
        assert (logprobs[~ignored] < 0).all()
