"""The main job as a user lives it: order, checkpoints, publishing, mistakes, and the commands."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loops_sdk
from loops_sdk import (
    AdamParams,
    AuthenticationError,
    BadRequestError,
    Datum,
    InvalidInputError,
    RemoteOpError,
    SamplingParams,
    ServiceClient,
)

EXAMPLE = Path(loops_sdk.__file__).parent / "examples" / "quickstart.py"


async def test_200_operations_in_call_order_over_four_connections(deployment: Any, batch: list[Datum]) -> None:
    async with deployment.service() as service, deployment.run(service, rank=4, seed=1) as training:
        calls: list[Any] = []
        for step in range(100):
            calls.append(training.forward_backward_async(batch[:1]))
            calls.append(training.optim_step_async(AdamParams(learning_rate=1e-4 * (step + 1))))
        futures = await asyncio.gather(*calls)
        order = list(range(200))
        random.Random(5).shuffle(order)
        results = dict(zip(order, await asyncio.gather(*[futures[index] for index in order]), strict=True))
        for step in range(100):
            metrics = results[2 * step + 1].metrics
            assert metrics["step"] == step + 1
            assert metrics["learning_rate"] == pytest.approx(1e-4 * (step + 1))
        assert results[198].loss < results[0].loss
        assert await training.policy_version_async() == training.last_policy_version == 100


async def test_checkpoints_are_listed_with_all_their_fields(deployment: Any) -> None:
    async with deployment.service() as service, deployment.run(service, rank=4) as training:
        assert await training.list_checkpoints_async() == []
        state = await (await training.save_state_async("first"))
        adapter = await (await training.save_weights_for_sampler_async("first"))
        assert state.path == f"bt://loops:{training.run_id}/weights/first"
        assert adapter.path == f"bt://loops:{training.run_id}/sampler_weights/first"
        found = {checkpoint.path: checkpoint for checkpoint in await training.list_checkpoints_async()}
        assert found.keys() == {state.path, adapter.path}
        assert found[adapter.path].size_bytes == sum(
            file.stat().st_size
            for file in deployment.folder(training.run_id, "first").iterdir()
            if file.name.startswith("adapter_")
        )
        assert found[state.path].target == "trainer"
        assert found[state.path].created_at.tzinfo is not None
        assert len({checkpoint.id for checkpoint in found.values()}) == 2


async def test_a_client_of_a_checkpoint_keeps_its_weights_while_training_goes_on(
    deployment: Any, batch: list[Datum]
) -> None:
    async with deployment.service() as service, deployment.run(service, rank=8, seed=3) as training:
        saved = await (await training.save_weights_for_sampler_async("base"))
        of_base = await training.create_sampling_client_async(saved.path)
        tokens = batch[1].model_input.to_ints()
        before = await of_base.compute_logprobs_async(tokens)
        for _ in range(5):
            await training.forward_backward_async(batch)
            await training.optim_step_async(AdamParams(learning_rate=5e-3))
        newest = await (await training.save_weights_and_get_sampling_client_async("newest"))
        after = await newest.compute_logprobs_async(tokens)
        assert sum(value for value in after if value) > sum(value for value in before if value) + 1
        assert await of_base.compute_logprobs_async(tokens) == pytest.approx(before, abs=1e-5)
        result = await newest.sample_async(tokens, sampling_params=SamplingParams(max_tokens=2))
        assert result.policy_version == 5


async def test_mistakes_are_told_in_a_helpful_way(deployment: Any, batch: list[Datum]) -> None:
    with pytest.raises(InvalidInputError, match="api_key: none was given and BASETEN_API_KEY is not set"):
        ServiceClient(base_url=deployment.base_url)
    with pytest.raises(AuthenticationError, match="check the API key"):
        async with ServiceClient(base_url=deployment.base_url, api_key="wrong"):
            raise AssertionError("a wrong key opened a session")
    async with deployment.service() as service, deployment.run(service, rank=4) as training:
        with pytest.raises(BadRequestError, match="some/other-model"):
            await service.create_lora_training_client_async("some/other-model")
        with pytest.raises(InvalidInputError, match=r"loss_fn: expected one of cross_entropy, .* got 'cross_entrpy'"):
            await training.forward_backward_async(batch, "cross_entrpy")  # type: ignore[arg-type]
        with pytest.raises(BadRequestError, match="clip_low"):
            await training.forward_backward_async(batch, "cross_entropy", {"clip_low": 0.8})
        with pytest.raises(BadRequestError, match=r"data\[0\].*vocabulary"):
            await training.forward_backward_async([Datum([10**9], {"target_tokens": [1]})])
        with pytest.raises(RemoteOpError, match="forward_backward"):
            await (await training.optim_step_async(AdamParams()))
        assert await training.policy_version_async() == 0


def _loops(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "loops_sdk", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=170,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_the_documented_quickstart_prints_its_eight_lines() -> None:
    done = _loops("run", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    names = [line.split(":", 1)[0] for line in done.stdout.splitlines()]
    assert names == ["session_id", "run_id", "loss", "saved", "completion", "id", "checkpoint_id", "created_at"]
    values = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert float(values["loss"]) > 0
    assert values["saved"] == f"bt://loops:{values['run_id']}/sampler_weights/step-1"
    assert values["checkpoint_id"] == "step-1"


def test_loops_run_passes_on_arguments_and_exit_code(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    told = "os.environ['LOOPS_BASE_URL'][:17], os.environ['LOOPS_BASE_MODEL']"
    script.write_text(f"import os, sys\nprint(sys.argv[1:], {told})\nsys.exit(7)\n")
    done = _loops("run", str(script), "--steps", "3")
    assert done.stdout == "['--steps', '3'] http://127.0.0.1: loops/tiny\n"
    assert done.returncode == 7


def test_the_tour_teaches_the_model_what_it_did_not_know() -> None:
    import orjson

    done = _loops("quickstart", "--json")
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert len(figures["train_losses"]) >= 30
    assert figures["held_out_loss_after"] <= 0.7 * figures["held_out_loss_before"]
    changed = zip(figures["held_out_answers_before"], figures["held_out_answers_after"], strict=True)
    assert all(after != before for before, after in changed)
    assert figures["held_out_right_after"] > figures["held_out_right_before"]
