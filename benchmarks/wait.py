"""1, 100 and 10,000 operations outstanding for ten seconds, which are then finished one every 5 ms.

While they wait: the share of a core that waiting takes. When they finish: how long after that moment, which the server
writes into each result, its awaiter has it; and how long a bare request takes on the same server at the same time.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import _raw
import aiohttp
import orjson
from _contest import Contest, Contestant, Figures, Goal, Setting
from _mock import MODEL, Mock

_PACE = 0.005
#: Operations whose completion is timed, at that pace; those that are left are forgotten.
_TIMED = 500


async def _say(session: aiohttp.ClientSession, method: str, url: str) -> bytes:
    async with session.request(method, url) as answer:
        return await answer.read()


async def _round_trips(session: aiohttp.ClientSession, url: str, until: asyncio.Event) -> list[float]:
    """Milliseconds of bare requests, twenty a second."""
    took = []
    while not until.is_set():
        started = time.perf_counter()
        await _say(session, "GET", f"{url}/health")
        took.append((time.perf_counter() - started) * 1e3)
        await asyncio.sleep(0.05)
    return took


def ours(setting: Setting) -> Figures:
    from loops_sdk import AdamParams, OperationFuture, TrainingClient
    from loops_sdk.types import OptimStepResponse

    number = int(setting.case)

    async def play(session: aiohttp.ClientSession, client: TrainingClient) -> Figures:
        late: list[float] = []

        async def waiter(future: OperationFuture[OptimStepResponse]) -> None:
            result = await future
            late.append((time.monotonic() - result.metrics["finished_at"]) * 1e3)

        await _say(session, "POST", f"{setting.server}/hold")
        futures = [await client.optim_step_async(AdamParams()) for _ in range(number)]
        waiting = [asyncio.create_task(waiter(future)) for future in futures]
        await asyncio.sleep(0.2)
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(setting.size(10, 1))
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        connections = orjson.loads(await _say(session, "GET", f"{setting.server}/connections"))["open"] - 1
        enough = asyncio.Event()
        bare = asyncio.create_task(_round_trips(session, setting.server, enough))
        await _say(session, "POST", f"{setting.server}/release")
        await asyncio.wait(waiting[:_TIMED])
        while len(late) < setting.size(20, 2):  # one alone would say little
            await waiter(await client.optim_step_async(AdamParams()))
        enough.set()
        for task in waiting:
            task.cancel()
        late_p50, round_trip = statistics.median(late), statistics.median(await bare)
        return {
            "connections": connections,
            "core_percent": share * 100,
            "late_ms": late_p50,
            "round_trip_ms": round_trip,
            "over_round_trip_ms": late_p50 - round_trip,
        }

    async def main() -> Figures:
        client = TrainingClient(setting.server, base_model=MODEL, api_key=_raw.KEY)
        async with client, _raw.session() as session:
            return await play(session, client)

    return asyncio.run(main())


if __name__ == "__main__":
    Contest(
        name="wait",
        about=__doc__,
        contestants={"ours": Contestant(ours)},
        goals=(
            Goal("connections", 4, against=None),
            Goal("core_percent", 1.0, against=None),
            Goal("over_round_trip_ms", 1.0, against=None),
        ),
        cases=("1", "100", "10000"),
        server=lambda case: Mock(delay=_PACE).serving(),
    ).main()
