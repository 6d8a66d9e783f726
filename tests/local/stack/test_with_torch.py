"""The same deployment with the engine and the base model that users get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from loops_sdk.local import LocalStack

from .deployment import Client

TOKENS = [11, 40, 7, 93, 25, 60, 31, 8, 77, 50]


def datum(tokens: list[int]) -> dict[str, Any]:
    chunk = {"type": "encoded_text", "tokens": tokens}
    return {"data": [{"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {}}], "loss_fn": "cross_entropy"}


async def test_one_run(tmp_path: Path) -> None:
    async with LocalStack(data_dir=tmp_path) as stack, aiohttp.ClientSession() as session:
        client = Client(stack, session)
        run = await client.run(base_model="loops/tiny", lora_rank=8, seed=1)
        await refusals_come_at_submit(client, run["base_url"], run["sampler"]["base_url"])
        await it_learns_and_the_sampler_agrees(client, run)


async def it_learns_and_the_sampler_agrees(client: Client, run: Any) -> None:
    trainer, sampler = run["base_url"], run["sampler"]["base_url"]
    losses = []
    for _ in range(5):
        losses.append((await client.do(trainer, "forward_backward", datum(TOKENS)))["loss"])
        await client.do(trainer, "optim_step", {"adam_params": {"learning_rate": 0.01}})
    assert losses[-1] < 0.7 * losses[0]
    saved = await client.do(trainer, "save_weights_for_sampler", {"name": "step-5"})
    assert saved["policy_version"] == 5
    body = {
        "model": run["id"],
        "prompt": TOKENS,
        "max_tokens": 4,
        "logprobs": 0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }
    status, reply = await client.ask("POST", f"{sampler}/v1/completions", body)
    assert (status, reply["policy_version"]) == (200, 5), reply
    choice = reply["choices"][0]
    whole = TOKENS + choice["token_ids"]
    scored = (await client.do(trainer, "forward", datum(whole)))["loss_fn_outputs"][0]["logprobs"]["data"]
    sampled = [
        entry[str(token)]["logprob"] for entry, token in zip(choice["prompt_logprobs"][1:], TOKENS[1:], strict=True)
    ]
    sampled += choice["logprobs"]["token_logprobs"]
    assert np.allclose(scored[: len(whole) - 1], sampled, atol=1e-3)


async def refusals_come_at_submit(client: Client, trainer: str, sampler: str) -> None:
    status, refused = await client.ask("POST", trainer + "/forward_backward", datum([10**6]))
    assert status == 422
    assert "data[0].model_input" in refused["detail"]
    status, refused = await client.ask("POST", trainer + "/forward", {**datum([1, 2]), "loss_fn": "dpo"})
    assert status == 422
    assert "loss_fn" in refused["detail"]
    body = {"model": "loops/tiny", "prompt": [10**6]}
    status, refused = await client.ask("POST", sampler + "/v1/completions", body)
    assert status == 422
    assert "prompt" in refused["error"]["message"]
