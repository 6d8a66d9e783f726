"""What a blocking call costs: our portal against anyio's BlockingPortal, from 1, 8 and 64 threads, interleaved.

The call does nothing, so the bridge between thread and loop is all there is; the goal is at most 1.3 x anyio. Each
round also checks that calls began in the order in which they were made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from _report import arguments, conclude, shown, spread
from anyio.from_thread import start_blocking_portal

from loops_sdk_sync._portal import Portal

GOAL = 1.3
CALLS = 4096
THREADS = (1, 8, 64)

Call = Callable[[Callable[[int], Coroutine[Any, Any, int]], int], int]


async def nothing(number: int) -> int:
    return number


def microseconds(call: Call, threads: int) -> float:
    """Wall time per call when `threads` of them make `CALLS` calls together."""
    share = CALLS // threads

    def work(_: int) -> None:
        for number in range(share):
            call(nothing, number)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        started = time.perf_counter()
        list(pool.map(work, range(threads)))
        return (time.perf_counter() - started) / (share * threads) * 1e6


def check_order(portal: Portal, threads: int) -> None:
    """Calls begin on the loop in the order in which the threads made them."""
    made: list[int] = []
    begun: list[int] = []
    lock = threading.Lock()

    async def begin(number: int) -> None:
        begun.append(number)

    def work(_: int) -> None:
        for _ in range(CALLS // threads // 8):
            waiting: Future[None] = Future()
            with lock:
                made.append(len(made))
                portal.start(waiting, begin, made[-1])
            waiting.result()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    if begun != made:
        raise SystemExit(f"order lost with {threads} threads")


def measure(repeats: int) -> dict[int, dict[str, dict[str, float]]]:
    portal = Portal()
    with start_blocking_portal() as peer:
        rounds = {threads: [_round(portal, peer.call, threads) for _ in range(repeats)] for threads in THREADS}
    portal.close()
    return {
        threads: {
            "ours_us": spread([ours for ours, _ in pairs]),
            "anyio_us": spread([anyio for _, anyio in pairs]),
            "ratio": spread([ours / anyio for ours, anyio in pairs]),
        }
        for threads, pairs in rounds.items()
    }


def _round(portal: Portal, peer: Call, threads: int) -> tuple[float, float]:
    check_order(portal, threads)
    return microseconds(portal.call, threads), microseconds(peer, threads)


def main() -> None:
    options = arguments(__doc__, repeats=7)
    details = measure(options.repeats)
    print(f"{'threads':<9}{'ours us median (min-max)':>28}{'anyio us median (min-max)':>28}{'ratio':>20}")
    for threads, row in details.items():
        ours, anyio, ratio = shown(row["ours_us"], 1), shown(row["anyio_us"], 1), shown(row["ratio"], 2)
        print(f"{threads:<9}{ours:>28}{anyio:>28}{ratio:>20}")
    conclude(options.json, "facade", GOAL, max(row["ratio"]["median"] for row in details.values()), details)


if __name__ == "__main__":
    main()
