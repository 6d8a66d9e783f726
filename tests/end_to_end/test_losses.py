"""All six losses through client, wire and trainer: golden numbers, raw gradients, metrics, and what is refused.

The golden numbers are read off a model made by hand, whose log-probabilities are known. The gradients are those of a
small random model, compared with formulas written here once more, the plain way, for autograd in float64.
"""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import numpy as np
import pytest

from loops_sdk import (
    AdamParams,
    BadRequestError,
    Datum,
    EncodedTextChunk,
    ForwardBackwardOutput,
    ImageChunk,
    InvalidInputError,
    ModelInput,
    RemoteOpError,
    TensorData,
    TrainingClient,
)

from .conftest import Deployment, Reference, serve

pytestmark = [
    # peft's advice for merging adapters of tied heads; nothing is merged here
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    # peft asks transformers for an attribute that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

TOKENS, TARGETS = [0, 1, 2, 3], [5, 6, 7, 8]
#: What the learner gives each target, what the behaviour policy gave it, the advantages and the weights.
LEARNER = [-0.5, -1.0, -2.0, -0.1]
BEHAVIOUR = [-0.7, -0.6, -2.0, -1.4]
ADVANTAGES = [1.0, -1.0, 0.5, 2.0]
WEIGHTS = [0.0, 1.0, 1.0, 0.5]
RATIOS = [1.221403, 0.670320, 1.0, 3.669297]

RL = {"target_tokens": TARGETS, "logprobs": BEHAVIOUR, "advantages": ADVANTAGES}

#: Loss, settings, loss per token, sum, clipped tokens.
GOLDEN: dict[str, tuple[str, dict[str, Any] | None, list[float], float, int | None]] = {
    "cross_entropy": ("cross_entropy", None, [0, 1, 2, 0.05], 3.05, None),
    "importance_sampling": ("importance_sampling", None, [-1.221403, 0.670320, -0.5, -7.338593], -8.389676, None),
    "ppo": ("ppo", None, [-1.2, 0.8, -0.5, -2.4], -3.3, 3),
    "cispo": ("cispo", None, [0.610701, -0.670320, 1, 0.733859], 1.674241, 0),
    "dro": ("dro", None, [0.501, -0.996, 1, 0.24225], 0.74725, None),
    "dppo tv": ("dppo", None, [-1.221403, 0.670320, -0.5, 0], -1.051083, 1),
    "dppo kl": ("dppo", {"dppo_type": "binary_kl"}, [-1.221403, 0, -0.5, 0], -1.721403, 2),
}


# ---------------------------------------------------------------- deployments


SIZE = 16  # of vocabulary and hidden states of the model made by hand


def known_model(folder: Path) -> None:
    """A Llama whose log-probabilities after token `i` are known: `LEARNER[i]` for `TARGETS[i]`, the rest shared evenly.

    Attention and MLP add nothing and embeddings are one-hot, so the last norm makes of token `i` four times the `i`-th
    unit vector, and the `i`-th column of the head, times four, is the distribution.
    """
    import torch
    from safetensors.torch import save_file

    _config(vocab_size=SIZE, hidden_size=SIZE, num_hidden_layers=1, rms_norm_eps=1e-12).save_pretrained(folder)
    table = torch.full((SIZE, SIZE), -math.log(SIZE), dtype=torch.float64)
    for token, target, logprob in zip(TOKENS, TARGETS, LEARNER, strict=True):
        table[:, token] = math.log1p(-math.exp(logprob)) - math.log(SIZE - 1)
        table[target, token] = logprob
    layer = "model.layers.0."
    nothing = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    weights = {
        "model.embed_tokens.weight": torch.eye(SIZE),
        "lm_head.weight": (table / SIZE**0.5).float(),
        **{f"{layer}{name}.weight": torch.zeros(SIZE, SIZE) for name in nothing},
        **{f"{layer}{name}_layernorm.weight": torch.ones(SIZE) for name in ("input", "post_attention")},
        "model.norm.weight": torch.ones(SIZE),
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def random_model(folder: Path) -> None:
    """A Llama of two layers, shallow enough that float32 leaves five digits of every gradient."""
    import torch
    from transformers import LlamaForCausalLM

    config = _config(vocab_size=64, hidden_size=32, num_hidden_layers=2, initializer_range=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(folder)


def _config(*, hidden_size: int, **sizes: Any) -> Any:
    from transformers import LlamaConfig

    special = {"bos_token_id": None, "eos_token_id": SIZE - 1}
    widths = {"hidden_size": hidden_size, "intermediate_size": hidden_size, "num_attention_heads": 2}
    named = {"architectures": ["LlamaForCausalLM"], "dtype": "float32", "max_position_embeddings": 32}
    return LlamaConfig(**named, **special, **widths, **sizes)


def write_tokenizer(folder: Path) -> None:
    """Samplers want one."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(SIZE)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"w{SIZE - 1}").save_pretrained(folder)


@attrs.frozen
class Trainer:
    """The trainer of one run, for clients of any event loop."""

    deployment: Deployment
    run_id: str
    url: str

    def client(self) -> TrainingClient:
        deployment = self.deployment
        return TrainingClient(
            self.url, lora_rank=8, base_model=deployment.base_model, run_id=self.run_id, api_key=deployment.api_key
        )


@contextmanager
def run_of(deployment: Deployment) -> Iterator[Trainer]:
    """A run for several tests: made and ended outside their event loops."""
    headers = {"Authorization": f"Bearer {deployment.api_key}"}

    async def make() -> Trainer:
        async with deployment.service() as service:
            made = await service.create_lora_training_client_async(deployment.base_model, rank=8, seed=7)
        async with aiohttp.request("GET", f"{deployment.base_url}/v1/loops/runs/{made.run_id}", headers=headers) as got:
            return Trainer(deployment, str(made.run_id), (await got.json())["run"]["base_url"])

    async def end(run: Trainer) -> None:
        url = f"{deployment.base_url}/v1/loops/runs/{run.run_id}/deactivate"
        async with aiohttp.request("POST", url, headers=headers) as response:
            assert response.status == 200

    with ThreadPoolExecutor(1) as elsewhere:
        run = elsewhere.submit(lambda: asyncio.run(make())).result()
        yield run
        elsewhere.submit(lambda: asyncio.run(end(run))).result()


@contextmanager
def trainer_of(write_model: Callable[[Path], None], paths: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A deployment of a model, and a run on it."""
    folder = paths.mktemp(write_model.__name__)
    write_model(folder)
    write_tokenizer(folder)
    serving = serve(str(folder), paths.mktemp("data"))
    with run_of(next(serving)) as run:
        yield run
    assert not list(serving)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    with trainer_of(known_model, tmp_path_factory) as trainer:
        yield trainer


@pytest.fixture
async def golden(known: Trainer) -> AsyncIterator[TrainingClient]:
    async with known.client() as client:
        yield client


async def done(submitted: Awaitable[Any]) -> Any:
    return await (await submitted)


async def passed(
    client: TrainingClient, inputs: dict[str, Any], loss_fn: Any, config: dict[str, Any] | None = None
) -> ForwardBackwardOutput:
    """One datum forward; and backward, which must say the same."""
    data = [Datum(TOKENS, inputs)]
    forward, backward = await asyncio.gather(
        done(client.forward_async(data, loss_fn, config)), done(client.forward_backward_async(data, loss_fn, config))
    )
    assert forward == backward
    return backward


def per_token(output: ForwardBackwardOutput, name: str = "elementwise_loss") -> Any:
    (datum,) = output.loss_fn_outputs
    assert datum.keys() == {"logprobs", "elementwise_loss"}
    assert (datum[name].dtype, datum[name].shape) == ("float32", (4,))
    return datum[name].tolist()


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


# ---------------------------------------------------------------- golden numbers


@pytest.mark.parametrize("row", GOLDEN)
async def test_golden(golden: TrainingClient, row: str) -> None:
    loss_fn, config, wanted, total, clipped = GOLDEN[row]
    inputs = {"target_tokens": TARGETS, "weights": WEIGHTS} if loss_fn == "cross_entropy" else RL
    output = await passed(golden, inputs, loss_fn, config)
    assert per_token(output, "logprobs") == close(LEARNER)
    assert per_token(output) == close(wanted)
    assert output.loss == output.metrics["loss:sum"] == close(total)
    tokens = 3.0 if loss_fn == "cross_entropy" else 4.0
    expected = {"loss:sum": output.loss, "loss_tokens:sum": tokens}
    if loss_fn not in ("cross_entropy", "dro"):
        expected["ratio:sum"] = close(sum(RATIOS))
    if clipped is not None:
        expected["clipped_tokens:sum"] = clipped
    assert output.metrics == expected


@pytest.mark.parametrize("row", [row for row in GOLDEN if row != "cross_entropy"])
async def test_policy_losses_are_weighted_and_masked_too(golden: TrainingClient, row: str) -> None:
    loss_fn, config, wanted, _, _ = GOLDEN[row]
    output = await passed(golden, RL | {"weights": [-1.0, 0.5, 2.0, 3.0], "mask": [1, 1, 0, 1]}, loss_fn, config)
    assert per_token(output, "logprobs") == close([*LEARNER[:2], 0, LEARNER[3]])
    expected = [weight * value for weight, value in zip([-1.0, 0.5, 0.0, 3.0], wanted, strict=True)]
    assert per_token(output) == close(expected)
    assert output.loss == close(sum(expected))
    assert output.metrics["loss_tokens:sum"] == 3
    if "ratio:sum" in output.metrics:
        assert output.metrics["ratio:sum"] == close(RATIOS[0] + RATIOS[1] + RATIOS[3])


@pytest.mark.parametrize("row", GOLDEN)
async def test_what_is_ignored_is_nothing_whatever_stands_there(golden: TrainingClient, row: str) -> None:
    """A ratio that overflows and a logprob of minus infinity, on positions that are out."""
    loss_fn, config, wanted, _, _ = GOLDEN[row]
    inputs = {**RL, "target_tokens": [5, -100, 7, -100], "logprobs": [-0.7, -1e30, -2.0, -math.inf]}
    output = await passed(golden, inputs, loss_fn, config)
    if loss_fn == "cross_entropy":
        wanted = [0.5, 1, 2, 0.1]
    assert per_token(output, "logprobs") == close([-0.5, 0, -2, 0])
    assert per_token(output) == close([wanted[0], 0, wanted[2], 0])
    assert output.loss == close(wanted[0] + wanted[2])
    assert output.metrics["loss_tokens:sum"] == 2


async def test_fractional_and_negative_weights_of_cross_entropy(golden: TrainingClient) -> None:
    inputs = {"target_tokens": TARGETS, "weights": [-2.0, 0.25, 1.0, 3.0]}
    assert per_token(await passed(golden, inputs, "cross_entropy")) == close([-1, 0.25, 2, 0.3])


async def test_without_targets_the_input_is_its_own_and_the_last_slot_is_zero(golden: TrainingClient) -> None:
    output = (await done(golden.forward_async([Datum(TOKENS)]))).loss_fn_outputs[0]
    rest = [math.log1p(-math.exp(logprob)) - math.log(15) for logprob in LEARNER[:3]]
    assert output["logprobs"].tolist() == close([*rest, 0])
    assert output["elementwise_loss"].tolist() == close([*(-value for value in rest), 0])


# ---------------------------------------------------------------- settings


def plain(name: str, config: dict[str, Any], l: Any, b: float, a: float) -> Any:  # noqa: E741
    """One token, the plain way: minimum, clamp and detach, for autograd."""
    import torch

    ratio = torch.exp(l - b)
    if name == "cross_entropy":
        return -l
    if name == "importance_sampling":
        return -ratio * a
    if name == "ppo":
        low, high = config.get("clip_low_threshold", 0.8), config.get("clip_high_threshold", 1.2)
        return -torch.minimum(ratio * a, ratio.clamp(low, high) * a)
    if name == "cispo":
        low, high = config.get("clip_low_threshold", 0.0), config.get("clip_high_threshold", 4.0)
        return -ratio.clamp(low, high).detach() * a * l
    if name == "dro":
        return -(a * l - 0.5 * config.get("beta", 0.05) * (l - b) ** 2)
    return 0 * l if _left_region(config, l.item(), b, a) else -ratio * a


def _left_region(config: dict[str, Any], l: float, b: float, a: float) -> bool:  # noqa: E741
    """Whether DPPO drops the token."""
    p, q = math.exp(l), math.exp(b)
    binary_kl = config.get("dppo_type") == "binary_kl"
    default = 0.05 if binary_kl else 0.2
    low, high = config.get("delta_low", default), config.get("delta_high", default)
    distance = q * (b - l) + (1 - q) * math.log((1 - q) / (1 - p)) if binary_kl else abs(p - q)
    return (a > 0 and p > q and distance > high) or (a < 0 and p < q and distance > low)


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("ppo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}),
    ("ppo", {"clip_high_threshold": 3}),
    ("ppo", {"clip_low_threshold": 0.5}),
    ("cispo", {"clip_low_threshold": 0.9}),
    ("cispo", {"clip_high_threshold": 1.1}),
    ("dro", {"beta": 0}),
    ("dro", {"beta": 2.5}),
    ("dppo", {"delta_high": 0.7}),
    ("dppo", {"delta_low": 0.1}),
    ("dppo", {"dppo_type": "binary_tv", "delta_low": 0.2, "delta_high": 0.2}),
    ("dppo", {"dppo_type": "binary_kl", "delta_low": 10}),
    ("dppo", {"dppo_type": "binary_kl", "delta_high": 10.0}),
    ("importance_sampling", {}),
]


@pytest.mark.parametrize(("loss_fn", "config"), SETTINGS, ids=str)
async def test_settings_are_honoured_and_the_rest_is_default(
    golden: TrainingClient, loss_fn: str, config: dict[str, Any]
) -> None:
    import torch

    output = await passed(golden, RL, loss_fn, config)
    learner = torch.tensor(LEARNER, dtype=torch.float64)
    wanted = [plain(loss_fn, config, *token).item() for token in zip(learner, BEHAVIOUR, ADVANTAGES, strict=True)]
    assert per_token(output) == close(wanted)


async def test_thresholds_per_token_stand_above_the_setting(golden: TrainingClient) -> None:
    high = RL | {"clip_high_threshold": [1.1, 9.0, 9.0, 9.0]}
    config = {"clip_low_threshold": 0.5, "clip_high_threshold": 1.15}
    assert per_token(await passed(golden, high, "ppo", config)) == close([-1.1, 0.67032, -0.5, -7.338593])
    both = high | {"clip_low_threshold": [0.0, 0.9, 0.0, 0.0]}
    assert per_token(await passed(golden, both, "ppo", config)) == close([-1.1, 0.9, -0.5, -7.338593])
    assert per_token(await passed(golden, both, "cispo")) == close([0.55, -0.9, 1, 0.733859])


# ---------------------------------------------------------------- metrics of a batch


@pytest.mark.parametrize("row", GOLDEN)
async def test_a_batch_in_parts_adds_up(golden: TrainingClient, row: str) -> None:
    loss_fn, config, _, _, _ = GOLDEN[row]
    data = [
        Datum(TOKENS[:length], {name: values[:length] for name, values in (RL | {"mask": [1, 0, 1, 1]}).items()})
        for length in (4, 1, 3, 2, 4)
    ]
    whole: ForwardBackwardOutput = await done(golden.forward_backward_async(data, loss_fn, config))
    parts = await asyncio.gather(
        *(done(golden.forward_backward_async(part, loss_fn, config)) for part in (data[:1], data[1:3], data[3:]))
    )
    assert all(name.endswith(":sum") for name in whole.metrics)
    for name, value in whole.metrics.items():
        assert sum(part.metrics[name] for part in parts) == pytest.approx(value, rel=1e-6)
    assert [output for part in parts for output in part.loss_fn_outputs] == whole.loss_fn_outputs
    assert sum(sum(output["elementwise_loss"].tolist()) for output in whole.loss_fn_outputs) == close(whole.loss)


# ---------------------------------------------------------------- raw gradients

# The first step from fresh moments without memory moves a weight by lr * g / (|g| + eps). With both this large that is
# the gradient itself, to the precision of the weights, and nothing is lost on the way back.
READING = 2.0**20
READ = AdamParams(learning_rate=READING, beta1=0.0, beta2=0.0, eps=READING)


@attrs.frozen
class Start:
    """A trainer, and the weights that every gradient is taken at."""

    trainer: Trainer
    path: str
    logprobs: list[list[float]]

    @property
    def folder(self) -> Path:
        return self.trainer.deployment.data_dir / "runs" / self.trainer.run_id


def texts() -> list[Datum]:
    """Token ids of unequal length, a few targets ignored."""
    rng = np.random.default_rng(4)
    data = []
    for size in (9, 17, 4):
        targets = rng.integers(0, 64, size)
        targets[rng.random(size) < 0.2] = -100
        data.append(Datum(rng.integers(0, 64, size), {"target_tokens": targets}))
    return data


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Weights whose B is not zero any more: there, half of all gradients are."""

    async def train(trainer: Trainer) -> Start:
        async with trainer.client() as client:
            for _ in range(2):
                await client.forward_backward_async(texts())
                await done(client.optim_step_async(AdamParams(learning_rate=2e-2)))
            saved = await done(client.save_state_async("start"))
            output = await done(client.forward_async(texts()))
            return Start(trainer, saved.path, [out["logprobs"].tolist() for out in output.loss_fn_outputs])

    with trainer_of(random_model, tmp_path_factory) as trainer, ThreadPoolExecutor(1) as elsewhere:
        yield elsewhere.submit(lambda: asyncio.run(train(trainer))).result()


def policy_data(logprobs: list[list[float]]) -> list[Datum]:
    """The texts with a policy that is near to `logprobs`, so that every clip is met from both sides."""
    rng = np.random.default_rng(5)
    data = []
    for text, learner in zip(texts(), logprobs, strict=True):
        size = text.model_input.length
        inputs = {
            "logprobs": np.minimum(np.array(learner) + rng.normal(0, 0.7, size), -1e-3),
            "advantages": rng.normal(0, 0.3, size) * (rng.random(size) < 0.9),
            "weights": rng.choice([-0.1, 0.0, 0.1, 0.2], size),
            "mask": rng.random(size) < 0.8,
        }
        data.append(Datum(text.model_input, {**text.loss_fn_inputs, **inputs}))
    return data


def exact(model: Reference, data: list[Datum], name: str, config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Loss and gradients by tensor, in float64, token by token."""
    import torch

    total = torch.zeros((), dtype=torch.float64)
    for datum in data:
        logprobs = model.logits(datum.model_input.to_ints()).log_softmax(-1)
        columns = [datum.loss_fn_inputs[column].tolist() for column in ("target_tokens", "logprobs", "advantages")]
        scale = datum.loss_fn_inputs["weights"].data * datum.loss_fn_inputs["mask"].data
        for position, (target, b, a) in enumerate(zip(*columns, strict=True)):
            if target != -100:
                total = total + float(scale[position]) * plain(name, config, logprobs[position, target], b, a)
    total.backward()
    trained = [(name, tensor) for name, tensor in model.model.named_parameters() if tensor.requires_grad]
    return total.item(), {name.replace(".default.", "."): tensor.grad for name, tensor in trained}


@pytest.mark.parametrize("row", GOLDEN)
async def test_raw_gradients_are_those_of_float64(start: Start, row: str) -> None:
    import torch
    from safetensors.torch import load_file

    loss_fn, settings, *_ = GOLDEN[row]
    data = policy_data(start.logprobs)
    async with start.trainer.client() as client:
        await done(client.load_state_async(start.path))
        output = await done(client.forward_backward_async(data, loss_fn, settings))
        stepped = await done(client.optim_step_async(READ))
        await done(client.save_weights_for_sampler_async("after"))
    before, after = (
        load_file(start.folder / kind / "adapter_model.safetensors")
        for kind in ("weights/start", "sampler_weights/after")
    )
    clipped = output.metrics.get("clipped_tokens:sum")
    assert clipped is None or 0 < clipped < output.metrics["loss_tokens:sum"]
    model = Reference(Path(start.trainer.deployment.base_model), start.folder / "weights/start", "float64")
    loss, gradients = exact(model, data, loss_fn, settings or {})
    assert output.loss == close(loss)
    assert before.keys() == after.keys() == gradients.keys()
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
    assert stepped.metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    for name, gradient in gradients.items():
        moved = before[name].double() - after[name].double()
        read = moved / (1 - moved.abs() / READING)
        assert gradient.any()
        torch.testing.assert_close(read, gradient, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


# ---------------------------------------------------------------- refusals

PIXEL = base64.b64encode(b"not really a picture").decode()


def second(inputs: dict[str, Any]) -> list[Datum]:
    """A datum that is right, and one that is to be refused."""
    return [Datum(TOKENS, RL), Datum(TOKENS, inputs)]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in RL.items() if key != name}


#: What only the trainer can judge: data, loss, settings, and what it says.
REFUSED: dict[str, tuple[Callable[[], list[Datum]], str, dict[str, Any] | None, str]] = {
    "unknown setting": (
        lambda: second(RL),
        "ppo",
        {"clip_low": 0.8},
        r"loss_fn_config\['clip_low'\]: ppo has no such setting \(it has: clip_low_threshold, clip_high_threshold\)",
    ),
    "setting of another loss": (
        lambda: second(RL),
        "cross_entropy",
        {"beta": 0.1},
        r"loss_fn_config\['beta'\]: cross_entropy has no such setting \(it has: none\)",
    ),
    "setting out of range": (
        lambda: second(RL),
        "dro",
        {"beta": -1},
        r"loss_fn_config\['beta'\]: expected a finite number >= 0, got -1",
    ),
    "setting of another type": (
        lambda: second(RL),
        "dppo",
        {"dppo_type": "tv"},
        r"loss_fn_config\['dppo_type'\]: expected one of .* got 'tv'",
    ),
    "thresholds crossed": (
        lambda: second(RL),
        "ppo",
        {"clip_low_threshold": 1.3},
        r"loss_fn_config\['clip_low_threshold'\]: 1.3 is above clip_high_threshold 1.2",
    ),
    **{
        f"missing {name}": (
            lambda name=name: second(without(name)),
            "importance_sampling",
            None,
            rf"data\[1\]\.loss_fn_inputs\['{name}'\]: missing, importance_sampling needs it",
        )
        for name in RL
    },
    "unknown input": (
        lambda: second(RL | {"rewards": [1.0] * 4}),
        "ppo",
        None,
        r"data\[1\]\.loss_fn_inputs\['rewards'\]: no loss has such an input \(known: target_tokens, ",
    ),
    "threshold of another loss": (
        lambda: second(RL | {"clip_high_threshold": [1.0] * 4}),
        "dro",
        None,
        r"data\[1\]\.loss_fn_inputs\['clip_high_threshold'\]: dro has no such threshold",
    ),
    "wrong dtype of advantages": (
        lambda: second(RL | {"advantages": TensorData([1, 0, 1, 0])}),
        "ppo",
        None,
        r"data\[1\]\.loss_fn_inputs\['advantages'\]: expected dtype float32, got int64",
    ),
    "wrong dtype of targets": (
        lambda: second(RL | {"target_tokens": TensorData([1.0, 2.0, 3.0, 4.0])}),
        "ppo",
        None,
        r"data\[1\]\.loss_fn_inputs\['target_tokens'\]: expected dtype int64, got float32",
    ),
    "more than one value per position": (
        lambda: second(RL | {"logprobs": [[-1.0, -2.0]] * 4}),
        "ppo",
        None,
        r"data\[1\]\.loss_fn_inputs\['logprobs'\]: expected one value per position, got shape \[4, 2\]",
    ),
    "target outside the vocabulary": (
        lambda: second(RL | {"target_tokens": [5, 16, 7, 8]}),
        "ppo",
        None,
        r"data\[1\]\.loss_fn_inputs\['target_tokens'\]: 16 is neither -100 nor a token id below 16",
    ),
    "token outside the vocabulary": (
        lambda: [Datum(TOKENS), Datum([1, 99])],
        "cross_entropy",
        None,
        r"data\[1\]\.model_input\.chunks\[0\]: token id 99 is outside the vocabulary of 16",
    ),
    "too long": (
        lambda: [Datum(TOKENS), Datum([1] * 33)],
        "cross_entropy",
        None,
        r"data\[1\]\.model_input: expected .*32.* got 33",
    ),
    "nothing to read": (
        lambda: [Datum(TOKENS), Datum([])],
        "cross_entropy",
        None,
        r"data\[1\]\.model_input: expected 1 to 32 tokens, got 0",
    ),
    "an image": (
        lambda: [Datum(ModelInput((EncodedTextChunk(TOKENS), ImageChunk(PIXEL, 3), EncodedTextChunk([1]))))],
        "cross_entropy",
        None,
        r"data\[0\]\.model_input\.chunks\[1\]: an image, but the model reads only text",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_the_trainer_refuses_at_submit_by_name_and_place(golden: TrainingClient, case: str) -> None:
    make, loss_fn, config, says = REFUSED[case]
    for submit in (golden.forward_async, golden.forward_backward_async):
        with pytest.raises(BadRequestError, match=says):
            await submit(make(), loss_fn, config)


async def test_what_was_refused_leaves_no_trace(golden: TrainingClient) -> None:
    """Neither a gradient nor a window that the next step would refuse."""
    await done(golden.init_trainer_server_async(8))
    with pytest.raises(BadRequestError):
        await golden.forward_backward_async([Datum(TOKENS, RL), Datum([99])], "ppo")
    with pytest.raises(RemoteOpError, match="no gradient has been accumulated"):
        await done(golden.optim_step_async(AdamParams()))
    await golden.forward_backward_async([Datum(TOKENS, RL)], "ppo")
    with pytest.raises(BadRequestError):
        await golden.forward_backward_async([Datum([99])], "ppo")
    assert (await done(golden.optim_step_async(AdamParams(learning_rate=0)))).metrics["step"] == 1
    await done(golden.init_trainer_server_async(8))


async def test_a_forward_leaves_the_gradient_alone(golden: TrainingClient) -> None:
    """Between passes that accumulate, and where nothing has been accumulated."""
    one, other = [Datum(TOKENS, RL)], [Datum(TOKENS[::-1], RL)]

    async def norm(between: list[list[Datum]]) -> float:
        await golden.forward_backward_async(one, "ppo")
        for data in between:
            await golden.forward_async(data, "ppo")
        await golden.forward_backward_async(one, "ppo")
        return float((await done(golden.optim_step_async(AdamParams(learning_rate=0)))).metrics["grad_norm"])

    await done(golden.init_trainer_server_async(8, seed=7))
    assert await norm([one, other]) == await norm([]) > 0
    await golden.forward_async(one, "ppo")
    with pytest.raises(RemoteOpError, match="no gradient has been accumulated"):
        await done(golden.optim_step_async(AdamParams()))
    await done(golden.init_trainer_server_async(8))


#: What a client says before anything is sent.
UNSENT: dict[str, tuple[Callable[[TrainingClient], Any], str]] = {
    "unknown loss": (
        lambda client: client.forward_backward_async([Datum(TOKENS)], "mse"),  # type: ignore[arg-type]
        r"^loss_fn: expected one of cross_entropy, .* got 'mse'$",
    ),
    "settings that are none": (
        lambda client: client.forward_async([Datum(TOKENS, RL)], "ppo", [("beta", 1)]),  # type: ignore[arg-type]
        r"^loss_fn_config: expected a dict or None, got list$",
    ),
    "wrong length": (
        lambda _: Datum(TOKENS, RL | {"advantages": [1.0, 2.0]}),
        r"^loss_fn_inputs\['advantages'\]: has 2 values, but model_input has 4 positions$",
    ),
    "fractions of tokens": (
        lambda _: Datum(TOKENS, {"target_tokens": [0.5] * 4}),
        r"^loss_fn_inputs\['target_tokens'\]: data: dtype int64 was asked for, but 0.5 is not such a whole number$",
    ),
}


@pytest.mark.parametrize("case", UNSENT)
async def test_the_client_refuses_before_anything_is_sent(case: str) -> None:
    call, says = UNSENT[case]
    async with TrainingClient("http://127.0.0.1:9", base_model="nobody/listens", api_key="key") as client:
        with pytest.raises(InvalidInputError, match=says):
            await call(client)


#: The same and more from a client that checks nothing, as the trainer answers it.
UNCHECKED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown loss": ({"loss_fn": "mse"}, "loss_fn: expected one of cross_entropy, .* got 'mse'"),
    "no object of settings": ({"loss_fn_config": [1]}, "loss_fn_config"),
    "wrong length": ({"advantages": {"data": [1.0], "dtype": "float32", "shape": [1]}}, r"'advantages'.* has 1 values"),
    "shape that does not hold": ({"advantages": {"data": [1.0], "dtype": "float32", "shape": [4]}}, "shape"),
    "unknown dtype": ({"advantages": {"data": [1.0] * 4, "dtype": "float16", "shape": [4]}}, "dtype: .* 'float16'"),
    "text": ({"advantages": {"data": ["1"] * 4, "dtype": "float32", "shape": [4]}}, "expected integers or floats"),
    "fractions": ({"target_tokens": {"data": [0.5] * 4, "dtype": "int64", "shape": [4]}}, "0.5 is not such a whole"),
    "no dtype": ({"advantages": [1, 2, 3, 4]}, r"\['advantages'\]: expected dtype float32, got int64"),
}


@pytest.mark.parametrize("case", UNCHECKED)
async def test_the_trainer_does_not_rely_on_the_client(known: Trainer, case: str) -> None:
    changed, says = UNCHECKED[case]
    kinds = {"target_tokens": "int64", "logprobs": "float32", "advantages": "float32"}
    inputs = {name: {"data": values, "dtype": kinds[name], "shape": [4]} for name, values in RL.items()}
    of_input = {name: value for name, value in changed.items() if name in inputs}
    datum = {
        "model_input": {"chunks": [{"type": "encoded_text", "tokens": TOKENS}]},
        "loss_fn_inputs": inputs | of_input,
    }
    rest = {name: value for name, value in changed.items() if name not in inputs}
    body = {"data": [datum], "loss_fn": "ppo", **rest}
    headers = {"Authorization": f"Bearer {known.deployment.api_key}"}
    async with aiohttp.request("POST", f"{known.url}/forward_backward", json=body, headers=headers) as answer:
        said = (await answer.json())["detail"]
    assert answer.status == 422
    assert re.search(says, said), said
    if of_input:
        assert re.search(r"data\[0\]", said), said
