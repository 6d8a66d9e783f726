"""Kill -9 of the trainer at random instants: training ends where it would have ended, to the bit."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import TrainingClient

from .conftest import KILLS, SEED, STEPS, children, deployment, train, until, weights


class Killer:
    """Kills the trainer so many times, each in another step, at instants that a seed decides.

    Some lie right behind the call of a step, while the client submits and results are written down; some find a trainer
    that is still loading, or that does again what its predecessor had done.
    """

    def __init__(self, kills: int, steps: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._steps = set(self._random.sample(range(1, steps + 1), kills))
        self._wanted: asyncio.Queue[float] = asyncio.Queue()
        self.killed = 0

    async def step(self, step: int) -> None:
        """The run goes on while a kill is due, but not so far that a second one is."""
        if step in self._steps:
            await self._wanted.join()
            self._wanted.put_nowait(self._random.choice((0.0, 0.05, 0.3, 6.0)) * self._random.random())

    async def run(self) -> None:
        while True:
            await asyncio.sleep(await self._wanted.get())
            await until(lambda: children("trainer"))
            for process in children("trainer"):
                process.kill()
            self.killed += 1
            self._wanted.task_done()

    async def done(self) -> None:
        """Wait until all of them are dead that were to be."""
        await self._wanted.join()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # transformers about itself
async def test_killed_at_random_instants_training_ends_where_it_would_have_ended(
    tmp_path: Path, undisturbed: dict[str, bytes], figures: list[str]
) -> None:
    killer = Killer(KILLS, STEPS, SEED)
    start = time.monotonic()
    async with deployment(tmp_path) as (_, service):
        training = await service.create_lora_training_client_async("loops/tiny", rank=8, seed=11)
        async with asyncio.TaskGroup() as group:  # a killer that finds nobody to kill ends the test
            killing = group.create_task(killer.run())
            await train(training, STEPS, killer.step)
            await killer.done()
            killing.cancel()
        assert await training.policy_version_async() == STEPS
        assert training.last_policy_version == STEPS
        assert weights(tmp_path, training.run_id, STEPS) == undisturbed
        assert killer.killed == KILLS
        await every_checkpoint_loads(training, tmp_path)
    elapsed = time.monotonic() - start
    figures.append(
        f"{killer.killed} kills of the trainer in {STEPS} steps ({elapsed:.0f} s): adapter and moments identical"
    )


async def every_checkpoint_loads(training: TrainingClient, data_dir: Path) -> None:
    checkpoints = await training.list_checkpoints_async()
    names = {checkpoint.checkpoint_id for checkpoint in checkpoints}
    assert {f"step-{step}" for step in range(8, STEPS + 1, 8)} <= names
    for checkpoint in checkpoints:
        steps = int(checkpoint.checkpoint_id.split("-")[1])
        if checkpoint.target == "trainer":
            loaded = await (await training.load_state_with_optimizer_async(checkpoint.path))
            assert loaded.policy_version == steps
        _peft_loads(data_dir / "runs" / str(training.run_id), checkpoint)


def _peft_loads(run: Path, checkpoint: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    import loops_sdk

    base = Path(loops_sdk.__file__).parent / "local" / "engine" / "tiny" / "weights"
    kind = "weights" if checkpoint.target == "trainer" else "sampler_weights"
    model = AutoModelForCausalLM.from_pretrained(base)
    PeftModel.from_pretrained(model, str(run / kind / checkpoint.checkpoint_id))
