"""Seconds from an optimizer step to the first token of the weights that it made.

`ours` steps, publishes and samples through the embedded deployment, where each of these is on the disk before it is
reported; `raw` does it in one process: a step of torch's AdamW, `save_pretrained`, `load_adapter` into a second copy of
the model, one token. In the case `busy` four long requests are running at the sampler meanwhile: none may be dropped.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _contest import Contest, Contestant, Figures, Goal, Setting
from _deployment import TARGETS, service, serving, tireless

from loops_sdk import AdamParams, Datum, ModelInput, SamplingParams, TrainingClient

RANK, RUNNING, ONE = 16, 4, SamplingParams(max_tokens=1, temperature=0.0)


def tokens(count: int) -> list[int]:
    return np.random.default_rng(0).integers(2, 1500, count).tolist()


def ours(setting: Setting) -> Figures:
    return asyncio.run(publish_often(setting))


async def publish_often(setting: Setting) -> Figures:
    address, base_model = setting.server.split("|")
    async with service(address) as client:
        training = await client.create_lora_training_client_async(base_model, rank=RANK, seed=0)
        await publish(training)
        sampling = await (await training.save_weights_and_get_sampling_client_async("start"))
        params = SamplingParams(max_tokens=setting.size(900, 100))
        prompt = ModelInput.from_ints(tokens(16))
        count = RUNNING if setting.case == "busy" else 0
        running = [asyncio.create_task(sampling.sample_async(prompt, sampling_params=params)) for _ in range(count)]
        waited = [await publish(training) for _ in range(setting.size(10, 2))]
        ended = await asyncio.gather(*running, return_exceptions=True)
        whole = sum(
            not isinstance(one, BaseException) and len(one.sequences[0].tokens) == params.max_tokens for one in ended
        )
        return {"token_ms": statistics.median(waited) * 1e3, "dropped": count - whole}


async def publish(training: TrainingClient) -> float:
    data = [Datum(ModelInput.from_ints(tokens(16)), {})]
    await (await training.forward_backward_async(data))
    started = time.perf_counter()
    await training.optim_step_async(AdamParams())
    sampling = await (await training.save_weights_and_get_sampling_client_async("newest"))
    result = await sampling.sample_async(ModelInput.from_ints(tokens(16)), sampling_params=ONE)
    seconds = time.perf_counter() - started
    assert result.policy_version == await training.policy_version_async()
    return seconds


def raw(setting: Setting) -> Figures:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base_model = setting.server.split("|")[1]
    lora = LoraConfig(r=RANK, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base_model, dtype="float32"), lora)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    row = torch.tensor([tokens(16)])
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        served: Any = AutoModelForCausalLM.from_pretrained(base_model, dtype="float32")
        served = PeftModel.from_pretrained(served, folder, adapter_name="0").eval()

        def publish(version: int) -> float:
            model(input_ids=row, labels=row).loss.backward()
            started = time.perf_counter()
            optimizer.step()
            optimizer.zero_grad()
            model.save_pretrained(folder)
            served.load_adapter(folder, str(version))
            served.set_adapter(str(version))
            with torch.inference_mode():
                served.generate(input_ids=row, max_new_tokens=1, do_sample=False)
            seconds = time.perf_counter() - started
            served.delete_adapter(str(version - 1))
            return seconds

        publish(1)
        waited = [publish(2 + turn) for turn in range(setting.size(10, 2))]
    return {"token_ms": statistics.median(waited) * 1e3}


@contextmanager
def deployment(case: str) -> Iterator[str]:
    with tireless() as folder, serving("--base-model", folder) as address:
        yield f"{address}|{folder}"


if __name__ == "__main__":
    Contest(
        name="publish",
        about=__doc__,
        contestants={"ours": Contestant(ours), "raw": Contestant(raw)},
        goals=(
            Goal("token_ms", 3.0, cases=("idle",)),
            Goal("dropped", 0, against=None, cases=("busy",)),
        ),
        cases=("idle", "busy"),
        smoke=("busy",),
        server=deployment,
    ).main()
