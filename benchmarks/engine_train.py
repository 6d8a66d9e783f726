"""Training tokens per second: the embedded deployment through HTTP against a bare torch + peft loop of the same math.

`ours` trains through client, wire and a trainer that keeps every step on the disk, in the case `8x128 --no-durable`
through one that does not; `raw` is a loop around transformers and peft that pads the batch to its longest sequence;
both have one thread, or OMP_NUM_THREADS. In the case `vocabulary` only the loss is computed, over 2,048 positions of
which every other one is needed and 150,000 token ids; what counts is the memory that it takes beyond its inputs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from _contest import Contest, Contestant, Figures, Goal, Meter, Setting
from _deployment import TARGETS, TINY, service, serving

from loops_sdk import AdamParams, Datum, ModelInput, TrainingClient

RATE, RANK = 1e-4, 16
LENGTHS = {"8x128": [128] * 8, "8x512": [512] * 8, "mixed": np.linspace(16, 1024, 16).astype(int).tolist()}
LENGTHS["8x128 --no-durable"] = LENGTHS["8x128"]
TIMED = 12_000  #: tokens
POSITIONS, HIDDEN, VOCABULARY = 2048, 576, 150_000


def sequences(case: str) -> list[list[int]]:
    """Token ids, one more than a sequence is long, so that each has a target."""
    draw = np.random.default_rng(0)
    return [draw.integers(2, 1500, length + 1).tolist() for length in draw.permutation(LENGTHS[case])]


def speed(setting: Setting, seconds: float, steps: int) -> Figures:
    return {"tokens_s": sum(LENGTHS[setting.case]) * steps / seconds, "step_ms": seconds / steps * 1e3}


def ours(setting: Setting) -> Figures:
    return ours_vocabulary(setting) if setting.case == "vocabulary" else asyncio.run(train(setting))


async def train(setting: Setting) -> Figures:
    data = [
        Datum(ModelInput.from_ints(one[:-1]), {"target_tokens": np.array(one[1:])}) for one in sequences(setting.case)
    ]
    async with service(setting.server) as client:
        training = await client.create_lora_training_client_async("loops/tiny", rank=RANK, seed=0)
        steps = setting.size(-(-TIMED // sum(LENGTHS[setting.case])), 1)
        await take_steps(training, data, 1 + steps // 4)
        started = time.perf_counter()
        await take_steps(training, data, steps)
        return speed(setting, time.perf_counter() - started, steps)


async def take_steps(training: TrainingClient, data: list[Datum], steps: int) -> None:
    for _ in range(steps):
        passed = await training.forward_backward_async(data)
        stepped = await training.optim_step_async(AdamParams(learning_rate=RATE))
        await passed
        await stepped


def raw(setting: Setting) -> Figures:
    if setting.case == "vocabulary":
        return raw_vocabulary(setting)
    import torch

    rows = sequences(setting.case)
    width = max(map(len, rows)) - 1
    tokens = torch.tensor([[*row[:-1], *[0] * (width - len(row) + 1)] for row in rows])
    targets = torch.tensor([[*row[1:], *[-100] * (width - len(row) + 1)] for row in rows])
    model = adapted()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), eps=1e-12, weight_decay=0.0, fused=True)

    def step() -> None:
        logits = model(input_ids=tokens, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(trained, float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        losses.tolist()  # what a caller asks for: the loss of every token

    steps = setting.size(-(-TIMED // sum(LENGTHS[setting.case])), 1)
    for _ in range(1 + steps // 4):
        step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return speed(setting, time.perf_counter() - started, steps)


def adapted() -> Any:
    """The default model with a fresh adapter on all its linear layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(TINY, dtype="float32")
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))


def head(setting: Setting) -> tuple[Any, Any, Any]:
    """Hidden states, the weight of a large vocabulary layer, and targets of which every other one is left out."""
    import torch

    torch.manual_seed(0)
    positions = setting.size(POSITIONS, 64)
    hidden = torch.randn(positions, HIDDEN, requires_grad=True)
    targets = torch.randint(VOCABULARY, (positions,))
    targets[::2] = -100
    return hidden, torch.randn(VOCABULARY, HIDDEN) / HIDDEN**0.5, targets


def raw_vocabulary(setting: Setting) -> Figures:
    import torch

    hidden, weight, targets = head(setting)
    with Meter() as meter:
        logprobs = torch.log_softmax(torch.nn.functional.linear(hidden, weight).float(), -1)
        torch.nn.functional.nll_loss(logprobs, targets, reduction="sum").backward()
    return {"loss_mib": meter.figures["rss_mib"], "cpu_s": meter.figures["cpu_s"]}


def ours_vocabulary(setting: Setting) -> Figures:
    import torch

    from loops_sdk.local.engine import datums, losses
    from loops_sdk.local.engine.torch_engine.heads import Head
    from loops_sdk.local.engine.torch_engine.scoring import Scorer

    hidden, weight, targets = head(setting)
    datum = Datum(ModelInput.from_ints([1] * len(targets)), {"target_tokens": targets.numpy()})
    batch = datums.columns([datum], "cross_entropy", {})
    loss = losses.LOSSES["cross_entropy"]
    with Meter() as meter:
        scorer = Scorer(Head("lm_head", weight, None), None, loss, {}, batch, torch.arange(len(targets)))
        scorer.forward_backward(hidden)
    return {"loss_mib": meter.figures["rss_mib"], "cpu_s": meter.figures["cpu_s"]}


@contextmanager
def deployment(case: str) -> Iterator[str]:
    """None where no training takes place."""
    with nullcontext("") if case == "vocabulary" else serving(*case.split()[1:]) as address:
        yield address


if __name__ == "__main__":
    Contest(
        name="engine-train",
        about=__doc__,
        contestants={"ours": Contestant(ours), "raw": Contestant(raw)},
        goals=(
            Goal("tokens_s", 0.95, at_least=True, cases=("8x128", "8x512")),
            Goal("tokens_s", 1.3, at_least=True, cases=("mixed",)),
            Goal("loss_mib", 0.5, cases=("vocabulary",)),
        ),
        cases=(*LENGTHS, "vocabulary"),
        smoke=("8x128", "vocabulary"),
        server=deployment,
    ).main()
