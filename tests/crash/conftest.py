"""A deployment whose processes can be killed, the same run with and without, and what is left of each on the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from loops_sdk import AdamParams, Datum, ServiceClient, TrainingClient
from loops_sdk.local import LocalStack

#: How often something is killed, and how many optimizer steps there are meanwhile. `nox -s crash -- 50 200` sets both.
KILLS = int(os.environ.get("LOOPS_CRASH_KILLS", "4"))
STEPS = int(os.environ.get("LOOPS_CRASH_STEPS", "24"))
SEED = int(os.environ.get("LOOPS_CRASH_SEED", "4"))

_FIGURES: list[str] = []


@pytest.fixture(scope="session")
def figures() -> list[str]:
    """What was done, for the last line."""
    return _FIGURES


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _FIGURES:
        terminalreporter.write_line("crash: " + "; ".join(_FIGURES))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the children, too: sums come out the same to the bit only when they are cut into the same pieces."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def children(kind: str, of: int | None = None) -> list[psutil.Process]:
    """The processes of one kind that are alive."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and f"loops_sdk.local.stack.{kind}_child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


async def until(reached: Callable[[], Any], seconds: float = 60) -> None:
    """Look again and again until something has come about that tells nobody."""
    async with asyncio.timeout(seconds):
        while True:
            if reached():
                return
            await asyncio.sleep(0.01)


def batch(step: int) -> list[Datum]:
    """Data that differ from step to step, so that one too many, too few or out of order would show."""
    tokens = [50 + (step * 37 + place * (step % 7 + 3)) % 900 for place in range(24)]
    return [Datum(tokens[:-1], {"target_tokens": tokens[1:]})]


async def nothing(_step: int) -> None:
    """What happens at a step when nothing is to happen."""


async def train(training: TrainingClient, steps: int, on_step: Callable[[int], Awaitable[None]] = nothing) -> None:
    """`steps` optimizer steps, two passes each, submitted a little ahead; a checkpoint at every eighth."""
    waiting: list[Any] = []
    for step in range(1, steps + 1):
        waiting.append(await training.forward_backward_async(batch(2 * step)))
        waiting.append(await training.forward_backward_async(batch(2 * step + 1)))
        params = AdamParams(learning_rate=1e-3 * (1 + step % 3), weight_decay=0.01, grad_clip_norm=1.0)
        waiting.append(await training.optim_step_async(params))
        if step % 8 == 0 or step == steps:
            waiting.append(await training.save_state_async(f"step-{step}"))
        if step % 8 == 0:
            waiting.append(await training.save_weights_for_sampler_async(f"published-{step}"))
        while len(waiting) > 6:
            await waiting.pop(0)
        await on_step(step)
    for future in waiting:
        await future


def weights(data_dir: Path, run_id: str | None, steps: int) -> dict[str, bytes]:
    """Adapter and moments after the last step, byte by byte."""
    folder = data_dir / "runs" / str(run_id) / "weights" / f"step-{steps}"
    return {name: (folder / f"{name}.safetensors").read_bytes() for name in ("adapter_model", "optimizer")}


@asynccontextmanager
async def deployment(data_dir: Path) -> AsyncIterator[tuple[LocalStack, ServiceClient]]:
    async with (
        LocalStack(data_dir=data_dir) as stack,
        ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service,
    ):
        yield stack, service


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the same training gives when nothing is killed."""
    data_dir = tmp_path_factory.mktemp("undisturbed")

    async def run() -> dict[str, bytes]:
        async with deployment(data_dir) as (_, service):
            training = await service.create_lora_training_client_async("loops/tiny", rank=8, seed=11)
            await train(training, STEPS)
            return weights(data_dir, training.run_id, STEPS)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        return asyncio.run(run())
