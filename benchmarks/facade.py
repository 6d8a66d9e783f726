"""What a blocking call costs from 1, 8 and 64 threads: our portal against anyio's BlockingPortal.

The call does nothing, so the bridge between thread and loop is all there is. Ours also checks that calls began in the
order in which they were made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from _contest import Contest, Contestant, Figures, Goal, Setting
from anyio.from_thread import start_blocking_portal

from loops_sdk_sync._portal import Portal

Call = Callable[[Callable[[int], Coroutine[Any, Any, int]], int], int]


async def nothing(number: int) -> int:
    return number


def per_call(call: Call, setting: Setting) -> Figures:
    """Wall time per call when all threads call together."""
    threads = int(setting.case)
    share = setting.size(8192, 128) // threads

    def work(_: int) -> None:
        for number in range(share):
            call(nothing, number)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        started = time.perf_counter()
        list(pool.map(work, range(threads)))
        return {"call_us": (time.perf_counter() - started) / (share * threads) * 1e6}


def check_order(portal: Portal, setting: Setting) -> None:
    """Calls begin on the loop in the order in which the threads made them."""
    threads = int(setting.case)
    made: list[int] = []
    begun: list[int] = []
    lock = threading.Lock()

    async def begin(number: int) -> None:
        begun.append(number)

    def work(_: int) -> None:
        for _ in range(setting.size(512, 64) // threads):
            waiting: Future[None] = Future()
            with lock:
                made.append(len(made))
                portal.start(waiting, begin, made[-1])
            waiting.result()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    if begun != made:
        raise SystemExit(f"order lost with {threads} threads")


def ours(setting: Setting) -> Figures:
    portal = Portal()
    check_order(portal, setting)
    figures = per_call(portal.call, setting)
    portal.close()
    return figures


def anyio(setting: Setting) -> Figures:
    with start_blocking_portal() as portal:
        return per_call(portal.call, setting)


if __name__ == "__main__":
    Contest(
        name="facade",
        about=__doc__,
        contestants={"ours": Contestant(ours), "anyio": Contestant(anyio)},
        goals=(Goal("call_us", 1.3, against="anyio"),),
        cases=("1", "8", "64"),
        repeats=7,
    ).main()
