"""What the client costs against outstanding operations (1 to 10,000) and the size of a datum (1k to 262k tokens).

Submission and result together, in CPU time. The goal is the slope in logarithms over the upper half of the sizes: 1 is
linear.
"""

from __future__ import annotations

import asyncio
import math
import time

import _raw
from _contest import Contest, Contestant, Figures, Goal, Setting
from _mock import MODEL, Mock

OUTSTANDING = (1, 10, 100, 1000, 10000)
TOKENS = (1024, 4096, 16384, 65536, 262144)


def slope(costs: dict[int, float]) -> float:
    """Of the line through the upper three points, in logarithms, by least squares: below, fixed costs hide it."""
    points = [(math.log(size), math.log(cost)) for size, cost in sorted(costs.items())[-3:]]
    middle_x, middle_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)


def _figures(costs: dict[int, float]) -> Figures:
    return {"slope": slope(costs), **{f"ms at {size}": cost * 1e3 for size, cost in sorted(costs.items())}}


async def _outstanding(setting: Setting) -> Figures:
    """So many steps are submitted before the first result is asked for; the smaller ones several times."""
    from loops_sdk import AdamParams, TrainingClient

    sizes = OUTSTANDING[: setting.size(len(OUTSTANDING), 3)]
    costs: dict[int, float] = {}
    async with TrainingClient(setting.server, base_model=MODEL, api_key=_raw.KEY) as client:
        for size in (sizes[0], *sizes):  # once more, to warm up
            repeats = max(1, 1000 // size)
            started = time.process_time()
            for _ in range(repeats):
                futures = [await client.optim_step_async(AdamParams()) for _ in range(size)]
                await asyncio.gather(*futures)
            costs[size] = (time.process_time() - started) / repeats
    return _figures(costs)


async def _datum(setting: Setting) -> Figures:
    """One datum with targets, its arrays from numpy; the log-probabilities of the result are as long as the mock makes
    them for all sizes, so what grows is what is sent.
    """
    import numpy as np

    from loops_sdk import Datum, TrainingClient

    sizes = TOKENS[: setting.size(len(TOKENS), 3)]
    costs: dict[int, float] = {}
    async with TrainingClient(setting.server, base_model=MODEL, api_key=_raw.KEY) as client:
        for size in (sizes[0], *sizes):
            tokens = np.arange(size, dtype=np.int64) % 50000
            repeats = max(1, 100 * 1024 // size)
            started = time.process_time()
            for _ in range(repeats):
                await (await client.forward_backward_async([Datum(tokens, {"target_tokens": tokens[::-1]})]))
            costs[size] = (time.process_time() - started) / repeats
    return _figures(costs)


def ours(setting: Setting) -> Figures:
    return asyncio.run((_outstanding if setting.case == "outstanding" else _datum)(setting))


if __name__ == "__main__":
    Contest(
        name="growth",
        about=__doc__,
        contestants={"ours": Contestant(ours)},
        goals=(Goal("slope", 1.05, against=None),),
        cases=("outstanding", "datum"),
        server=lambda case: Mock().serving(),
    ).main()
