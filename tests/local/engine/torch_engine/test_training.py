"""The training engine against plain loops: losses, raw gradients, steps, windows of accumulation, resumption."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import AdapterConfig, TrainingEngine, losses
from loops_sdk.local.engine.torch_engine.models import load
from loops_sdk.local.engine.torch_engine.training import TorchTrainingEngine
from loops_sdk.types import AdamParams, Datum

Engines = Callable[..., TorchTrainingEngine]
Folder = Callable[[str], str]

ARCHITECTURES = ["llama", "tied", "qwen3", "opt", "gpt2"]
LOSSES = [*((name, None) for name in losses.LOSSES), ("dppo", {"dppo_type": "binary_kl"})]


def rl_data(*lengths: int, seed: int = 0) -> list[Datum]:
    """Datums with every input, some targets ignored, some advantages and weights zero, one masked position each."""
    rng = np.random.default_rng(seed)
    data = []
    for length in lengths:
        targets = rng.integers(1, 300, length)
        targets[rng.random(length) < 0.2] = -100
        mask = (np.arange(length) != length // 2).astype(np.float32)
        advantages = rng.normal(size=length) * (rng.random(length) < 0.8)
        inputs = {
            "target_tokens": targets,
            "weights": rng.choice([0.0, 0.5, 1.0, -1.0], length),
            "mask": mask,
            "logprobs": rng.normal(-4, 2, length).clip(max=-0.1),
            "advantages": advantages,
        }
        data.append(Datum(rng.integers(1, 300, length), inputs))
    return data


def stir(engine: TorchTrainingEngine, scale: float = 0.05) -> None:
    """Leave the point where B is zero and half of all gradients vanish."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in engine._adapter.tensors.items():
        if "lora_B" in name:
            tensor.data.normal_(0, scale, generator=generator)


def gradients(engine: TorchTrainingEngine) -> dict[str, torch.Tensor]:
    return {name: tensor.grad.clone() for name, tensor in engine._adapter.tensors.items() if tensor.grad is not None}


def loaded_peft(folder: str, adapter: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The published adapter as peft itself loads it, trainable."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        model = peft.PeftModel.from_pretrained(base, adapter, is_trainable=True)
    return model.to(dtype).eval()


def plain_token_loss(name: str, cfg: dict[str, Any], l: torch.Tensor, b: float, a: float) -> torch.Tensor:  # noqa: E741
    """One token in float64, written for autograd."""
    ratio = torch.exp(l - b)
    if name == "cross_entropy":
        return -l
    if name == "importance_sampling":
        return -ratio * a
    if name == "ppo":
        return -torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a)
    if name == "cispo":
        return -ratio.clamp(0.0, 4.0).detach() * a * l
    if name == "dro":
        return -(a * l - 0.025 * (l - b) ** 2)
    p, q = math.exp(l.item()), math.exp(b)
    kl = q * (b - l.item()) + (1 - q) * math.log((1 - q) / (1 - p))
    up, down, delta = (kl, kl, 0.05) if cfg else (p - q, q - p, 0.2)
    dropped = (a > 0 and p > q and up > delta) or (a < 0 and p < q and down > delta)
    return 0 * l if dropped else -ratio * a


def plain_loss(model: Any, data: list[Datum], name: str, cfg: dict[str, Any]) -> torch.Tensor:
    """The loss of a call, datum by datum and token by token, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for datum in data:
        tokens = torch.tensor([datum.model_input.to_ints()])
        logprobs = model(input_ids=tokens).logits[0].log_softmax(-1)
        inputs = {key: tensor.tolist() for key, tensor in datum.loss_fn_inputs.items()}
        for i, target in enumerate(inputs["target_tokens"]):
            if target != -100 and inputs["mask"][i]:
                b, a = inputs["logprobs"][i], inputs["advantages"][i]
                total = total + inputs["weights"][i] * plain_token_loss(name, cfg, logprobs[i, target], b, a)
    return total


@pytest.mark.parametrize("name_and_config", LOSSES, ids=lambda case: case[0] + ("_kl" if case[1] else ""))
def test_loss_and_raw_gradients_against_float64(
    training_engine: Engines, model_folder: Folder, tmp_path: Path, name_and_config: Any
) -> None:
    name, config = name_and_config
    engine, data = training_engine(), rl_data(9, 21, 4)
    stir(engine)
    engine.save_adapter(tmp_path)
    reference = loaded_peft(model_folder("llama"), tmp_path, torch.float64)
    wanted = plain_loss(reference, data, name, config or {})
    wanted.backward()
    output = engine.forward_backward(data, name, config)
    assert output.loss == pytest.approx(wanted.item(), rel=1e-5, abs=1e-6)
    assert sum(sum(out["elementwise_loss"].tolist()) for out in output.loss_fn_outputs) == pytest.approx(output.loss)
    plain = dict(reference.named_parameters())
    scale = max(float(tensor.abs().max()) for tensor in gradients(engine).values())
    assert len(gradients(engine)) == 2 * 15
    for key, gradient in gradients(engine).items():
        expected = plain[key.replace(".weight", ".default.weight")].grad
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-6 * max(1.0, scale))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("calls", [[[0]], [[0, 1, 2]], [[2], [0, 1]]], ids=["one datum", "unequal lengths", "in calls"])
def test_a_step_equals_a_plain_torch_and_peft_loop(
    training_engine: Engines, model_folder: Folder, tmp_path: Path, architecture: str, calls: list[list[int]]
) -> None:
    data = [Datum(list(range(start, start + length))) for start, length in ((3, 30), (50, 7), (90, 18))]
    engine = training_engine(architecture)
    stir(engine)
    engine.save_adapter(tmp_path / "before")
    model = loaded_peft(model_folder(architecture), tmp_path / "before")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), eps=1e-2, weight_decay=0.1)
    for _ in range(2):  # eps is large so that gradients of pure rounding noise do not become whole steps
        wanted = torch.zeros(())
        for index in (index for call in calls for index in call):
            tokens = torch.tensor([data[index].model_input.to_ints()])
            logits = model(input_ids=tokens).logits[0, :-1]
            wanted = wanted + torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")
        optimizer.zero_grad()
        wanted.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        got = sum(engine.forward_backward([data[i] for i in call], "cross_entropy", None).loss for call in calls)
        params = AdamParams(learning_rate=1e-3, eps=1e-2, weight_decay=0.1, grad_clip_norm=5.0)
        metrics = engine.optim_step(params).metrics
        assert got == pytest.approx(wanted.item(), rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)
        assert metrics["grad_norm_clipped"] == pytest.approx(min(5.0, norm.item()), rel=1e-5)
    named = dict(model.named_parameters())
    for key, tensor in engine._adapter.tensors.items():
        torch.testing.assert_close(tensor, named[key.replace(".weight", ".default.weight")], rtol=1e-5, atol=1e-7)


def test_metrics_of_a_step(training_engine: Engines) -> None:
    engine = training_engine()
    engine.forward_backward(rl_data(5), "cross_entropy", None)
    metrics = engine.optim_step(AdamParams(learning_rate=0.25)).metrics
    assert metrics.keys() == {"step", "learning_rate", "lr", "grad_norm", "grad_norm_clipped"}
    assert (metrics["step"], metrics["lr"], engine.step) == (1.0, 0.25, 1)
    assert all(isinstance(value, float) for value in metrics.values())


def test_duplicating_a_datum_doubles_its_gradient(training_engine: Engines) -> None:
    engine, (datum,) = training_engine(), rl_data(12)
    stir(engine)
    engine.forward_backward([datum], "importance_sampling", None)
    once = gradients(engine)
    engine.forward_backward([datum, datum], "importance_sampling", None)
    for name, gradient in gradients(engine).items():
        torch.testing.assert_close(gradient, 3 * once[name], rtol=1e-4, atol=1e-5 * float(once[name].abs().max()))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 120),
    st.integers(0, 6),
    st.sampled_from(LOSSES),
)
def test_cuts_budgets_and_padding_do_not_matter(
    shared_base: Any, lengths: list[int], budget: int, cut: int, case: Any
) -> None:
    data = rl_data(*lengths, seed=len(lengths))
    engine = TorchTrainingEngine(shared_base, token_budget=100_000)
    engine.init_adapter(AdapterConfig(seed=1, lora_rank=4))
    stir(engine)
    whole = engine.forward_backward(data, *case)
    expected = gradients(engine)
    engine._clear()
    engine._budget = budget
    parts = [engine.forward_backward(part, *case) for part in (data[:cut], data[cut:]) if part]
    outputs = [out for part in parts for out in part.loss_fn_outputs]
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-6, abs=1e-4)
    for key, value in whole.metrics.items():
        assert sum(part.metrics[key] for part in parts) == pytest.approx(value, rel=1e-5, abs=1e-4)
    for mine, wanted in zip(outputs, whole.loss_fn_outputs, strict=True):
        np.testing.assert_allclose(mine["logprobs"].data, wanted["logprobs"].data, rtol=1e-5, atol=1e-5)
    scale = max([float(gradient.abs().max()) for gradient in expected.values()], default=0.0)
    for name, gradient in gradients(engine).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5 * max(1.0, scale))
    engine._adapter.remove()


@pytest.fixture(scope="module")
def shared_base(model_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(model_folder("llama"), cache_dir=tmp_path_factory.mktemp("cache"))


def test_forward_without_inputs_scores_the_next_token(training_engine: Engines, model_folder: Folder) -> None:
    engine, tokens = training_engine(), list(range(10, 30))
    output = engine.forward([Datum(tokens)], "cross_entropy", None)
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    wanted = [plain[k, tokens[k + 1]].item() for k in range(len(tokens) - 1)]
    assert output.loss_fn_outputs[0]["logprobs"].tolist() == pytest.approx([*wanted, 0.0], abs=1e-4)
    assert output.loss == pytest.approx(-sum(wanted), rel=1e-5)
    assert not gradients(engine)


def test_ignored_positions_report_zero_and_silent_ones_their_logprob(training_engine: Engines) -> None:
    inputs = {"target_tokens": [5, -100, 7, 8], "weights": [0.0, 1.0, 2.0, 1.0], "mask": [1.0, 1.0, 1.0, 0.0]}
    out = training_engine().forward_backward([Datum([1, 2, 3, 4], inputs)], "cross_entropy", None)
    logprobs, loss = (out.loss_fn_outputs[0][key].tolist() for key in ("logprobs", "elementwise_loss"))
    assert logprobs[0] < 0
    assert loss[0] == 0
    assert (logprobs[1], loss[1], logprobs[3], loss[3]) == (0, 0, 0, 0)
    assert loss[2] == pytest.approx(-2 * logprobs[2])
    assert out.metrics["loss_tokens:sum"] == 1


def test_infinite_ratios_where_nothing_counts_do_no_harm(training_engine: Engines) -> None:
    engine = training_engine()
    inputs = {"target_tokens": [5, -100, 7], "logprobs": [-1e5, -1e5, -3.0], "advantages": [0.0, 1.0, 1.0]}
    out = engine.forward_backward([Datum([1, 2, 3], inputs)], "importance_sampling", None)
    assert math.isfinite(out.loss)
    assert math.isfinite(engine.optim_step(AdamParams()).metrics["grad_norm"])


def test_rl_metrics(training_engine: Engines) -> None:
    inputs = {"target_tokens": [5, 6, -100], "logprobs": [-1.0, -50.0, -1.0], "advantages": [1.0, 1.0, 1.0]}
    out = training_engine().forward([Datum([1, 2, 3], inputs)], "ppo", None)
    logprobs = out.loss_fn_outputs[0]["logprobs"].data[:2].astype(float)
    assert out.metrics["ratio:sum"] == pytest.approx(np.exp(logprobs - [-1.0, -50.0]).sum(), rel=1e-4)
    assert out.metrics["clipped_tokens:sum"] == 1
    assert out.metrics["loss_tokens:sum"] == 2
    assert out.metrics["loss:sum"] == out.loss


def test_an_empty_window_is_an_error(training_engine: Engines) -> None:
    engine = training_engine()
    engine.forward(rl_data(4), "cross_entropy", None)
    with pytest.raises(RuntimeError, match="no gradient has been accumulated"):
        engine.optim_step(AdamParams())


def test_a_refused_batch_does_not_poison_the_window(training_engine: Engines) -> None:
    engine = training_engine()
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    with pytest.raises(InvalidInputError, match="outside the vocabulary"):
        engine.forward_backward([Datum([300])], "cross_entropy", None)
    assert engine.optim_step(AdamParams()).metrics["step"] == 1


def test_a_failed_batch_poisons_the_window_once(training_engine: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = training_engine()
    before = {name: tensor.clone() for name, tensor in engine._adapter.tensors.items()}
    with monkeypatch.context() as patch:
        patch.setattr(engine._base.model.base_model, "forward", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.forward_backward(rl_data(4), "cross_entropy", None)
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    with pytest.raises(RuntimeError, match=r"failed \(ZeroDivisionError: division by zero\)"):
        engine.optim_step(AdamParams())
    assert not gradients(engine)
    assert engine.step == 0
    for name, tensor in engine._adapter.tensors.items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(RuntimeError, match="no gradient"):
        engine.optim_step(AdamParams())


def test_a_norm_that_is_not_finite_vetoes_the_step(training_engine: Engines) -> None:
    engine = training_engine()
    before = {name: tensor.clone() for name, tensor in engine._adapter.tensors.items()}
    inputs = {"target_tokens": [5], "logprobs": [-1000.0], "advantages": [1.0]}
    engine.forward_backward([Datum([1], inputs)], "importance_sampling", None)
    with pytest.raises(RuntimeError, match=r"gradient norm is (nan|inf)"):
        engine.optim_step(AdamParams())
    assert not gradients(engine)
    assert all(torch.equal(tensor, before[name]) for name, tensor in engine._adapter.tensors.items())
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    assert engine.optim_step(AdamParams()).metrics["step"] == 1


def test_an_eps_of_zero_leaves_no_nan_where_there_is_no_gradient(training_engine: Engines) -> None:
    engine = training_engine()
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    assert engine.optim_step(AdamParams(eps=0.0)).metrics["step"] == 1
    assert all(tensor.isfinite().all() for tensor in engine._adapter.tensors.values())


@pytest.mark.parametrize(
    "parts", [("train_attn",), ("train_mlp",), ("train_unembed",), ("train_attn", "train_unembed")]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_chosen_parts_get_layers(training_engine: Engines, architecture: str, parts: tuple[str, ...]) -> None:
    engine = training_engine(architecture)
    flags = {name: name in parts for name in ("train_attn", "train_mlp", "train_unembed")}
    engine.init_adapter(AdapterConfig(lora_rank=2, seed=1, **flags))
    marks = {"train_attn": "attn", "train_mlp": ("mlp", "fc1", "fc2"), "train_unembed": "lm_head"}
    for part, mark in marks.items():
        wanted = [mark] if isinstance(mark, str) else mark
        assert any(m in name for name in engine._adapter.tensors for m in wanted) == (part in parts)
    engine.forward_backward(rl_data(6), "cross_entropy", None)
    assert engine.optim_step(AdamParams()).metrics["grad_norm"] > 0


def test_a_fresh_adapter_is_drawn_from_its_seed_and_nothing_else(training_engine: Engines) -> None:
    engine = training_engine()
    state = torch.get_rng_state()
    drawn = []
    for seed in (5, 5, 6, None, None):
        engine.init_adapter(AdapterConfig(lora_rank=8, seed=seed))
        drawn.append({name: tensor.detach().clone() for name, tensor in engine._adapter.tensors.items()})
    assert torch.equal(torch.get_rng_state(), state)
    key = next(name for name in drawn[0] if "q_proj.lora_A" in name)
    assert torch.equal(drawn[0][key], drawn[1][key])
    assert len({float(draw[key].sum()) for draw in drawn[1:]}) == 4
    for name, tensor in drawn[0].items():
        if "lora_B" in name:
            assert not tensor.any()
        else:
            bound = 1 / math.sqrt(tensor.shape[1])
            assert 0.9 * bound < float(tensor.abs().max()) <= bound
    assert engine.adapter_config["lora_alpha"] == 32


def test_init_adapter_starts_over(training_engine: Engines) -> None:
    engine = training_engine()
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    engine.optim_step(AdamParams())
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    engine.init_adapter(AdapterConfig(lora_rank=4))
    assert engine.step == 0
    assert engine.adapter_config["r"] == 4
    with pytest.raises(RuntimeError, match="no gradient"):
        engine.optim_step(AdamParams())


def test_ten_steps_straight_equal_five_saved_and_five_more(training_engine: Engines, tmp_path: Path) -> None:
    def train(engine: TorchTrainingEngine, steps: range) -> None:
        for step in steps:
            engine.forward_backward(rl_data(9, 20, 5, seed=step), "ppo", None)
            engine.optim_step(AdamParams(learning_rate=1e-3 * (step + 1), weight_decay=0.01, grad_clip_norm=1.0))

    straight, first, second = (training_engine() for _ in range(3))
    straight.init_adapter(AdapterConfig(lora_rank=4, seed=11))
    first.init_adapter(AdapterConfig(lora_rank=4, seed=11))
    second.init_adapter(AdapterConfig(lora_rank=4, seed=12))
    train(straight, range(10))
    train(first, range(5))
    first.save_state(tmp_path / "state")
    second.load_state(tmp_path / "state", optimizer=True)
    assert second.step == 5
    train(second, range(5, 10))
    for engine, name in ((straight, "a"), (second, "b")):
        engine.save_state(tmp_path / name)
    for file in ("adapter_model.safetensors", "optimizer.safetensors"):
        left, right = (load_file(tmp_path / name / file) for name in ("a", "b"))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert (tmp_path / "a" / "training_state.json").read_text() == (tmp_path / "b" / "training_state.json").read_text()
    assert not [path for path in (tmp_path / "a").iterdir() if path.suffix not in (".json", ".safetensors")]


def test_without_optimizer_moments_and_step_are_fresh(training_engine: Engines, tmp_path: Path) -> None:
    engine = training_engine()
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    engine.optim_step(AdamParams(learning_rate=0.1))
    engine.save_state(tmp_path)
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    engine.load_state(tmp_path, optimizer=False)
    assert engine.step == 0
    assert not any(moment.any() for moment in engine._moments.first + engine._moments.second)
    with pytest.raises(RuntimeError, match="no gradient"):
        engine.optim_step(AdamParams())


MISFITS = {
    "other model": "saved on the base model",
    "other rank": r"was saved with r=4, this adapter has 32",
    "no folder": "holds no training state",
    "broken state": "holds no training state",
    "no configuration": "holds no adapter",
    "no alpha": "holds no adapter .*lora_alpha",
    "odd alpha": "lora_alpha",
    "rank-stabilised": "was saved with use_rslora=True",
    "broken moments": "optimizer.safetensors cannot be read",
    "moments of other layers": "optimizer.safetensors (has an unknown|lacks the) tensor .*mlp",
    "broken weights": "adapter_model.safetensors cannot be read",
    "half of a layer": r"adapter_model.safetensors lacks the tensor .*lora_B",
    "unknown layers": r"no adapter for this base model .*expected at least one",
    "other shapes": r"adapter_model.safetensors: .* has shape \[1, (32|64)\], expected \[32, (32|64)\]",
}


def misfit(wrong: str, folder: Path) -> None:
    """Spoil a folder that `save_state` wrote."""
    weights, moments = folder / "adapter_model.safetensors", folder / "optimizer.safetensors"
    config, state = folder / "adapter_config.json", folder / "training_state.json"
    settings, tensors = json.loads(config.read_text()), load_file(weights)
    first = next(name for name in tensors if "lora_A" in name)
    if wrong == "broken state":
        state.write_text("{")
    elif wrong == "no configuration":
        config.unlink()
    elif wrong == "no alpha":
        config.write_text(json.dumps({name: value for name, value in settings.items() if name != "lora_alpha"}))
    elif wrong in ("odd alpha", "rank-stabilised"):
        config.write_text(json.dumps(settings | ({"lora_alpha": 0} if wrong == "odd alpha" else {"use_rslora": True})))
    elif wrong in ("broken moments", "broken weights"):
        (moments if wrong == "broken moments" else weights).write_bytes(b"nothing")
    elif wrong == "moments of other layers":
        save_file({name: tensor for name, tensor in load_file(moments).items() if "mlp" not in name}, moments)
    elif wrong == "half of a layer":
        del tensors[first.replace("lora_A", "lora_B")]
        save_file(tensors, weights)
    elif wrong == "unknown layers":
        save_file({"base_model.model.somewhere.lora_A.weight": tensors[first]}, weights)
    elif wrong == "other shapes":
        save_file(tensors | {first: tensors[first][:1].clone()}, weights)


@pytest.mark.parametrize("wrong", MISFITS)
def test_a_state_that_does_not_fit_changes_nothing(training_engine: Engines, tmp_path: Path, wrong: str) -> None:
    saved = training_engine("tied" if wrong == "other model" else "llama")
    saved.init_adapter(AdapterConfig(lora_rank=4 if wrong == "other rank" else 32, lora_alpha=8, train_unembed=False))
    if wrong != "no folder":
        saved.save_state(tmp_path)
        misfit(wrong, tmp_path)
    engine = training_engine()
    engine.forward_backward(rl_data(4), "cross_entropy", None)
    before, config = {name: tensor.clone() for name, tensor in engine._adapter.tensors.items()}, engine.adapter_config
    with pytest.raises(RuntimeError, match=MISFITS[wrong]):
        engine.load_state(tmp_path, optimizer=True)
    assert engine.adapter_config == config
    assert engine._adapter.tensors.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in engine._adapter.tensors.items())
    assert engine.optim_step(AdamParams()).metrics["step"] == 1


@pytest.mark.parametrize("architecture", ["tied", "gpt2"])
@pytest.mark.parametrize(
    "config",
    [
        AdapterConfig(4, lora_alpha=64),
        AdapterConfig(4, train_mlp=False),
        AdapterConfig(4, lora_alpha=3, train_attn=False, train_mlp=False),
        AdapterConfig(4, train_attn=False, train_unembed=False),
    ],
    ids=["alpha", "no mlp", "alpha and head alone", "mlp alone"],
)
@pytest.mark.parametrize("optimizer", [True, False], ids=["with moments", "weights alone"])
def test_a_state_brings_its_alpha_and_its_layers(
    training_engine: Engines, tmp_path: Path, architecture: str, config: AdapterConfig, optimizer: bool
) -> None:
    def step(engine: TorchTrainingEngine) -> None:
        engine.forward_backward(rl_data(9, 5), "importance_sampling", None)
        engine.optim_step(AdamParams(learning_rate=0.01))

    first, second = training_engine(architecture), training_engine(architecture)
    first.init_adapter(config)
    step(first)
    first.save_state(tmp_path / "one")
    if not optimizer:
        first.load_state(tmp_path / "one", optimizer=False)
    second.init_adapter(AdapterConfig(4, seed=5))
    step(second)
    second.load_state(tmp_path / "one", optimizer=optimizer)
    assert second.adapter_config == first.adapter_config
    assert second.adapter_config["lora_alpha"] == config.lora_alpha
    assert second.step == first.step == optimizer
    for engine, name in ((first, "a"), (second, "b")):
        step(engine)
        engine.save_state(tmp_path / name)
    for file in ("adapter_model.safetensors", "optimizer.safetensors", "adapter_config.json", "training_state.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_alpha_scales_what_the_adapter_adds(training_engine: Engines, tmp_path: Path) -> None:
    """Twice the alpha with half of B is the same model."""
    engine, data = training_engine(), [Datum(list(range(10, 30)))]
    outputs = []
    for alpha, scale in ((16, 0.2), (32, 0.1), (32, 0.2)):
        engine.init_adapter(AdapterConfig(lora_rank=4, lora_alpha=alpha, seed=1))
        stir(engine, scale)
        outputs.append(engine.forward(data, "cross_entropy", None).loss)
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-6)
    assert outputs[0] != pytest.approx(outputs[2], rel=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_peft_loads_what_is_published(
    training_engine: Engines, model_folder: Folder, tmp_path: Path, architecture: str
) -> None:
    engine, tokens = training_engine(architecture), list(range(5, 25))
    stir(engine, 0.2)
    engine.save_adapter(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model_folder(architecture) == engine.tokenizer_path
    assert config == dict(engine.adapter_config)
    model = loaded_peft(model_folder(architecture), tmp_path)
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    wanted = [plain[k, tokens[k + 1]].item() for k in range(len(tokens) - 1)]
    got = engine.forward([Datum(tokens)], "cross_entropy", None).loss_fn_outputs[0]["logprobs"].tolist()
    assert got[:-1] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated")  # peft's own, on every model
def test_peft_loads_without_a_warning(training_engine: Engines, model_folder: Folder, tmp_path: Path) -> None:
    training_engine().save_adapter(tmp_path)
    peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder("llama")), tmp_path)


def test_it_is_a_training_engine(training_engine: Engines) -> None:
    engine: TrainingEngine = training_engine()
    assert engine.max_seq_len == 96
