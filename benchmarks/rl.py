"""Steps per second of GRPO, 8 prompts x 8 samples x 32 tokens, against the embedded deployment.

`sync` samples with the weights of the last step, trains, and so on. `ours` samples the next batch while it trains on
the present one, so that a batch comes from weights that are at most one step old (off-policy bound 1). `client_share`
is the client's part of the CPU time that all processes take for a step. The cases are threads per process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import numpy as np
from _contest import Contest, Contestant, Figures, Goal, Setting
from _deployment import cpu_s, service, serving, tireless

from loops_sdk import AdamParams, Datum, ModelInput, SamplingClient, SamplingParams, TrainingClient

PROMPTS, SAMPLES, TOKENS, RANK = 8, 8, 32, 16
PARAMS = AdamParams(learning_rate=1e-4)


def prompts() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, 1500, length).tolist() for length in np.linspace(8, 32, PROMPTS).astype(int)]


# ------------------------------------------------------------ GRPO


async def rollout(sampling: SamplingClient, seed: int) -> list[Datum]:
    """A batch: for each prompt a group of samples, and how much better than its group each of them is."""
    params = SamplingParams(max_tokens=TOKENS, seed=seed)
    results = await asyncio.gather(
        *(sampling.sample_async(ModelInput.from_ints(one), SAMPLES, params) for one in prompts())
    )
    batch = []
    for prompt, result in zip(prompts(), results, strict=True):
        rewards = np.array([np.mean(np.array(sequence.tokens) % 2) for sequence in result.sequences])
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for sequence, advantage in zip(result.sequences, advantages, strict=True):
            assert sequence.logprobs is not None  # asked for
            batch.append(datum(prompt, sequence.tokens, sequence.logprobs, float(advantage)))
    return batch


def datum(prompt: list[int], tokens: list[int], logprobs: list[float], advantage: float) -> Datum:
    """What is trained on is the sample; its prompt has advantage 0."""
    given, size = len(prompt) - 1, len(tokens)
    inputs = {
        "target_tokens": np.array(prompt[1:] + tokens),
        "logprobs": np.concatenate([np.zeros(given), logprobs]).astype(np.float32),
        "advantages": np.repeat([0.0, advantage], [given, size]).astype(np.float32),
    }
    return Datum(ModelInput.from_ints(prompt + tokens[:-1]), inputs)


async def learn(training: TrainingClient, batch: list[Datum]) -> SamplingClient:
    """One step on the batch; gives a client that samples with the new weights."""
    passed = await training.forward_backward_async(batch, "ppo")
    await training.optim_step_async(PARAMS)
    published = await training.save_weights_and_get_sampling_client_async("policy")
    await passed
    return await published


async def in_turn(training: TrainingClient, sampling: SamplingClient, steps: int) -> None:
    for step in range(steps):
        sampling = await learn(training, await rollout(sampling, step))


async def side_by_side(training: TrainingClient, sampling: SamplingClient, steps: int) -> None:
    batch = await rollout(sampling, 0)
    for step in range(1, steps):
        following = asyncio.create_task(rollout(sampling, step))
        sampling = await learn(training, batch)
        batch = await following
    await learn(training, batch)


# ------------------------------------------------------------ measured

Loop = Callable[[TrainingClient, SamplingClient, int], Awaitable[None]]


def playing(loop: Loop) -> Contestant:
    async def measure(setting: Setting) -> Figures:
        address, base_model = setting.server.split("|")
        async with service(address) as client:
            training = await client.create_lora_training_client_async(base_model, rank=RANK, seed=0)
            sampling = await (await training.save_weights_and_get_sampling_client_async("policy"))
            await loop(training, sampling, 1)
            steps, started = setting.size(5, 1), time.perf_counter()
            own, whole = time.process_time(), cpu_s(address)
            await loop(training, sampling, steps)
            seconds, own = time.perf_counter() - started, time.process_time() - own
            share = own / (own + cpu_s(address) - whole)
            return {"steps_s": steps / seconds, "client_share": share, "client_ms": own / steps * 1e3}

    return Contestant(lambda setting: asyncio.run(measure(setting)))


@contextmanager
def deployment(case: str) -> Iterator[str]:
    with tireless() as folder, serving("--base-model", folder, OMP_NUM_THREADS=case.split()[0]) as address:
        yield f"{address}|{folder}"


if __name__ == "__main__":
    Contest(
        name="rl",
        about=__doc__,
        contestants={"ours": playing(side_by_side), "sync": playing(in_turn)},
        goals=(
            Goal("steps_s", 1.25, against="sync", at_least=True),
            Goal("client_share", 0.03, against=None),
        ),
        cases=("1 thread", "2 threads"),
        smoke=("1 thread",),
        server=deployment,
    ).main()
