"""The same deployment with the engine and the base model that users get."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from loops_sdk.local import LocalStack

from .deployment import Client

TOKENS = [11, 40, 7, 93, 25, 60, 31, 8, 77, 50]


def datum(tokens: list[int]) -> dict[str, Any]:
    chunk = {"type": "encoded_text", "tokens": tokens}
    return {"data": [{"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {}}], "loss_fn": "cross_entropy"}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")  # peft's use of it
async def test_one_run(tmp_path: Path) -> None:
    async with LocalStack(data_dir=tmp_path) as stack, aiohttp.ClientSession() as session:
        client = Client(stack, session)
        run = await client.run(base_model="loops/tiny", lora_rank=8, seed=1)
        await refusals_come_at_submit(client, run["base_url"], run["sampler"]["base_url"])
        untrained, whole, scored = await it_learns_and_the_sampler_agrees(client, run)
        await a_downloaded_checkpoint_is_a_peft_folder(client, run, tmp_path / "got", whole, scored)
        await the_next_run_begins_with_the_base_model(client, run, untrained)


async def it_learns_and_the_sampler_agrees(client: Client, run: Any) -> tuple[float, list[int], list[float]]:
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
    return losses[0], whole, scored


async def a_downloaded_checkpoint_is_a_peft_folder(
    client: Client, run: Any, folder: Path, whole: list[int], scored: list[float]
) -> None:
    _, found = await client.ask("GET", f"/v1/loops/checkpoints?run_id={run['id']}")
    (checkpoint,) = found["checkpoints"]
    _, page = await client.ask("GET", f"/v1/loops/checkpoints/{checkpoint['id']}/files")
    files = {}
    for file in page["presigned_urls"]:
        async with client.session.get(file["url"]) as response:
            files[file["relative_file_name"]] = await response.read()
    assert files.keys() == {"adapter_config.json", "adapter_model.safetensors"}
    _, models = await client.ask("GET", run["sampler"]["base_url"] + "/v1/models")
    loaded = await asyncio.to_thread(peft_logprobs, models["data"][0]["root"], folder, files, whole)
    assert np.allclose(loaded, scored[: len(whole) - 1], atol=1e-3)


def peft_logprobs(base: str, folder: Path, files: dict[str, bytes], tokens: list[int]) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    torch.set_num_threads(1)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    with torch.no_grad():
        logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return logprobs[torch.arange(len(tokens) - 1), tokens[1:]].numpy()


async def the_next_run_begins_with_the_base_model(client: Client, run: Any, untrained: float) -> None:
    new = await client.run(base_model="loops/tiny", lora_rank=4, reuse_from_run_id=run["id"])
    assert new["deployment_id"] == run["deployment_id"]
    trainer, sampler = new["base_url"], new["sampler"]["base_url"]
    assert abs((await client.do(trainer, "forward", datum(TOKENS)))["loss"] - untrained) < 1e-4
    await client.do(trainer, "forward_backward", datum(TOKENS))
    await client.do(trainer, "optim_step", {"adam_params": {"learning_rate": 0.01}})
    await client.do(trainer, "save_weights_for_sampler", {"name": "step-1"})
    status, reply = await client.ask("POST", f"{sampler}/v1/completions", {"model": new["id"], "prompt": TOKENS})
    assert (status, reply["policy_version"]) == (200, 1), reply


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
