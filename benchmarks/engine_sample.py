"""Sampled tokens per second: 32 requests at once, prompts of 8 to 256 tokens, 64 new tokens each with logprobs.

`ours` sends them to the embedded deployment all at once, `serial` one after another; `raw` is one batch of them in
transformers' `generate`, made ready beforehand. In the case `adapter` a LoRA adapter is in use. The case `arrival`
counts steps of the engine: a request that comes while others are decoded waits so many for its first token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _contest import Contest, Contestant, Figures, Goal, Setting
from _deployment import TARGETS, cpu_s, service, serving, tireless

from loops_sdk import ModelInput, SamplingClient, SamplingParams

REQUESTS, TOKENS, RANK = 32, 64, 16
SPEED = ("base", "adapter")


def prompts() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [
        draw.integers(2, 1500, length).tolist()
        for length in draw.permutation(np.linspace(8, 256, REQUESTS)).astype(int)
    ]


class Watch:
    """What tokens cost since it was made: wall time, and CPU time of this process and of the deployment, if any."""

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._cpu, self._wall = self._spent(), time.perf_counter()

    def _spent(self) -> float:
        return time.process_time() + (cpu_s(self._address) if self._address else 0.0)

    def figures(self, tokens: int) -> Figures:
        wall, cpu = time.perf_counter() - self._wall, self._spent() - self._cpu
        return {"tokens_s": tokens / wall, "token_cpu_us": cpu / tokens * 1e6}


# ------------------------------------------------------------ ours


def ours(setting: Setting) -> Figures:
    return arrival() if setting.case == "arrival" else asyncio.run(together(setting))


def serial(setting: Setting) -> Figures:
    return {} if setting.case == "arrival" else asyncio.run(one_by_one(setting))


@asynccontextmanager
async def sampler(setting: Setting) -> AsyncIterator[SamplingClient]:
    """The sampler of a run: of its base model, or of its published adapter."""
    address, base_model = setting.server.split("|")
    async with service(address) as client:
        if setting.case == "base":
            yield await client.create_sampling_client_async(base_model=base_model)
        else:
            training = await client.create_lora_training_client_async(base_model, rank=RANK, seed=0)
            yield await (await training.save_weights_and_get_sampling_client_async("fresh"))


async def complete(client: SamplingClient, prompt: list[int], seed: int, tokens: int) -> int:
    params = SamplingParams(max_tokens=tokens, temperature=1.0, seed=seed)
    result = await client.sample_async(ModelInput.from_ints(prompt), sampling_params=params)
    (sequence,) = result.sequences
    return len(sequence.logprobs or ())  # tokens without are not counted


async def together(setting: Setting) -> Figures:
    tokens = setting.size(TOKENS, 4)
    async with sampler(setting) as client:
        await asyncio.gather(*(complete(client, prompt, 0, 2) for prompt in prompts()))
        watch = Watch(setting.server.split("|")[0])
        done = await asyncio.gather(*(complete(client, prompt, seed, tokens) for seed, prompt in enumerate(prompts())))
        return watch.figures(sum(done))


async def one_by_one(setting: Setting) -> Figures:
    tokens = setting.size(TOKENS, 4)
    async with sampler(setting) as client:
        await complete(client, prompts()[0], 0, 2)
        watch = Watch(setting.server.split("|")[0])
        done = [await complete(client, prompt, seed, tokens) for seed, prompt in enumerate(prompts())]
        return watch.figures(sum(done))


# ------------------------------------------------------------ raw


def raw(setting: Setting) -> Figures:
    if setting.case == "arrival":
        return {}
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(setting.server.split("|")[1], dtype="float32").eval()
    if setting.case == "adapter":
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
        model.eval()
    width = max(map(len, prompts()))
    rows = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts()])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts()])

    def generate(tokens: int) -> int:
        options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "max_new_tokens": tokens}
        given = {"input_ids": rows, "attention_mask": mask, "output_logits": True, "return_dict_in_generate": True}
        out = model.generate(**given, **options)
        new = out.sequences[:, width:]
        logprobs = torch.stack(out.logits, 1).log_softmax(-1).gather(-1, new[..., None]).squeeze(-1)
        return sum(map(len, logprobs.tolist()))

    with torch.inference_mode():
        generate(2)
        watch = Watch()
        return watch.figures(generate(setting.size(TOKENS, 4)))


# ------------------------------------------------------------ arrival


def arrival() -> Figures:
    """Steps from the arrival of a request, while 8 others are decoded, to its first token."""
    from loops_sdk.local.engine import GenerationRequest
    from loops_sdk.local.engine.torch_engine import load_generation_engine
    from loops_sdk.local.sampler.driver import Driver

    async def measure(engine: Any, steps: list[int]) -> float:
        driver = Driver(engine)
        driver.start()

        def request(prompt: list[int], tokens: int) -> Any:
            params = SamplingParams(max_tokens=tokens, temperature=1.0, seed=0)
            return driver.generate(lambda: (GenerationRequest(prompt, params), len(steps)))

        running = [asyncio.create_task(request(prompt, 400)) for prompt in prompts()[:8]]
        waited = []
        for prompt in prompts()[8:16]:
            await asyncio.sleep(0.05)
            _, came = await request(prompt, 1)  # one token: done with its first
            waited.append(finished[-1] - came)
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()
        await driver.aclose()
        return max(waited)

    with tireless() as folder, TemporaryDirectory() as cache:
        engine = load_generation_engine(folder, cache_dir=Path(cache))
        steps: list[int] = []
        finished: list[int] = []
        step = engine.step

        def counted() -> Any:
            done = step()
            steps.append(len(done))
            finished.extend([len(steps)] * len(done))
            return done

        engine.step = counted  # type: ignore[method-assign]  # to count them
        return {"late_steps": asyncio.run(measure(engine, steps))}


@contextmanager
def deployment(case: str) -> Iterator[str]:
    if case == "arrival":
        yield ""
        return
    with tireless() as folder, serving("--base-model", folder) as address:
        yield f"{address}|{folder}"


if __name__ == "__main__":
    Contest(
        name="engine-sample",
        about=__doc__,
        contestants={"ours": Contestant(ours), "serial": Contestant(serial), "raw": Contestant(raw)},
        goals=(
            Goal("tokens_s", 0.9, at_least=True, cases=SPEED),
            Goal("tokens_s", 4.0, against="serial", at_least=True, cases=SPEED),
            Goal("late_steps", 2, against=None, cases=("arrival",)),
        ),
        cases=(*SPEED, "arrival"),
        smoke=("adapter", "arrival"),
        server=deployment,
    ).main()
