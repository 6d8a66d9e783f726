"""Training and sampling through a bad network for minutes: nothing may grow, nothing may be lost.

    python tests/soak/soak.py [MINUTES] [SEED]

A real deployment (torch, `loops/tiny`); between it and the client two proxies that spoil 5 % of all requests. After a
warm-up of a quarter of the time, memory, file descriptors, threads and tasks of the client and of the servers are held
against one another. Ends with one line of figures, and with exit code 1 when something grew or was lost.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / "faults"), str(Path(__file__).parents[1] / "local" / "doubles")]

from fault_kinds import FAULTS  # noqa: E402  # found by the line above
from fault_proxy import FaultProxy, Plan  # noqa: E402

from loops_sdk import (  # noqa: E402
    AdamParams,
    Datum,
    LocalDeployment,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TrainingClient,
)
from loops_sdk.local import LocalStack  # noqa: E402

_RATE = 0.05
_EVERY = 2.0
_SAMPLES = 8
_PUBLISH_EVERY = 5
#: What may differ between the second quarter and the last: allocators keep pages, pools keep connections.
_SLACK = {"client MiB": 12.0, "servers MiB": 48.0, "client fds": 6, "servers fds": 6, "threads": 4, "tasks": 12}


@attrs.define
class Books:
    """What was done, and what it took, over time."""

    operations: int = 0
    samples: int = 0
    steps: int = 0
    rows: list[dict[str, float]] = attrs.field(factory=list)

    def measure(self, children: list[psutil.Process]) -> None:
        gc.collect()
        me = psutil.Process()
        self.rows.append(
            {
                "client MiB": me.memory_info().rss / 2**20,
                "servers MiB": sum(child.memory_info().rss for child in children) / 2**20,
                "client fds": me.num_fds(),
                "servers fds": sum(child.num_fds() for child in children),
                "threads": me.num_threads() + sum(child.num_threads() for child in children),
                "tasks": len(asyncio.all_tasks()),
            }
        )

    def growth(self) -> dict[str, tuple[float, float]]:
        """Medians of the second and of the last quarter, by what was measured."""
        quarter = max(1, len(self.rows) // 4)
        early, late = self.rows[quarter : 2 * quarter], self.rows[-quarter:]
        return {
            name: (statistics.median(row[name] for row in early), statistics.median(row[name] for row in late))
            for name in _SLACK
        }


async def train(training: TrainingClient, books: Books, until: float) -> None:
    data = [Datum([2, 3, 5, 7, 11, 13], {"target_tokens": [3, 5, 7, 11, 13, 17]})]
    while time.monotonic() < until:
        passes = [await training.forward_backward_async(data) for _ in range(2)]
        step = await training.optim_step_async(AdamParams(learning_rate=1e-5))
        for future in passes:
            await future
        await step
        books.operations, books.steps = books.operations + 3, books.steps + 1
        if books.steps % _PUBLISH_EVERY == 0:
            await (await training.save_weights_for_sampler_async(f"soak-{books.steps % 3}"))
            books.operations += 1


async def sample(sampling: SamplingClient, books: Books, until: float) -> None:
    params = SamplingParams(max_tokens=8)
    while time.monotonic() < until:
        result = await sampling.sample_async([2, 3, 5, 7], sampling_params=params)
        assert result.sequences[0].tokens
        books.samples += 1


async def watch(books: Books, until: float) -> None:
    children = psutil.Process().children(recursive=True)
    while time.monotonic() < until:
        await asyncio.sleep(_EVERY)
        books.measure(children)


async def soak(minutes: float, seed: int) -> tuple[Books, int, int]:
    books = Books()
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(LocalStack())
        service = await opened.enter_async_context(ServiceClient(base_url=stack.base_url, api_key=stack.api_key))
        made = await service.create_lora_training_client_async("loops/tiny", rank=8, seed=seed, with_sampler=True)
        await (await made.save_weights_for_sampler_async("first"))
        run = await service._way.control("the trainer").get_run(str(made.run_id))
        assert run.sampler is not None
        proxies = [
            await opened.enter_async_context(_proxy(url, seed + place))
            for place, url in enumerate((run.base_url, run.sampler.base_url))
        ]
        training = await opened.enter_async_context(
            TrainingClient(proxies[0].url, base_model="loops/tiny", lora_rank=8, run_id=run.id, api_key=stack.api_key)
        )
        sampling = await opened.enter_async_context(
            SamplingClient(base_model="loops/tiny", deployment=LocalDeployment(proxies[1].url), api_key=stack.api_key)
        )
        until = time.monotonic() + minutes * 60
        async with asyncio.TaskGroup() as group:
            group.create_task(train(training, books, until))
            group.create_task(watch(books, until))
            for _ in range(_SAMPLES):
                group.create_task(sample(sampling, books, until))
        version = await made.policy_version_async()
        return books, version, sum(proxy.plan.met.total() for proxy in proxies)


def _proxy(url: str, seed: int) -> FaultProxy:
    place = urlsplit(url)
    quick = tuple(sorted(FAULTS.keys() - {"late"}))
    return FaultProxy((str(place.hostname), int(place.port or 80)), Plan(quick, rate=_RATE, seed=seed), FAULTS)


def main() -> int:
    logging.getLogger("loops_sdk").setLevel(logging.ERROR)
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    books, version, faults = asyncio.run(soak(minutes, seed))
    grown = []
    print(f"{'':14}{'warm':>10}{'end':>10}{'allowed':>10}")
    for name, (early, late) in books.growth().items():
        grown += [name] if late - early > _SLACK[name] else []
        print(f"{name:14}{early:10.1f}{late:10.1f}{early + _SLACK[name]:10.1f}")
    lost = books.steps - version
    print(
        f"soak: {minutes:g} min, {books.operations} operations, {books.samples} samples, {faults} faults, "
        f"{lost} steps lost or repeated, grown: {', '.join(grown) or 'nothing'}"
    )
    return 1 if grown or lost else 0


if __name__ == "__main__":
    sys.exit(main())
