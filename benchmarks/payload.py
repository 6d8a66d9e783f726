"""Large bodies: eight datums of 32,768 tokens with four arrays each, and a result of the same size.

`submit` sends such a pass, `reply` retrieves such a result; `embedded` does both with the embedded trainer, to which
the client speaks as the two of them agree, and the limit JSON. A stall is the longest time for which the event loop did
not get round to anything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import _batch
import _embedded
import _raw
from _contest import Contest, Contestant, Figures, Goal, Meter, Setting
from _mock import MODEL, Mock

_DATUMS, _LENGTH = 8, 32_768
_SMALL = 16
_TIMES = 5


@contextmanager
def _server(case: str) -> Iterator[str]:
    large = Mock(datums=_DATUMS, length=_LENGTH, arrays=5)
    serving = {"submit": Mock().serving, "reply": large.serving}
    with serving[case]() if case in serving else _embedded.serving(_raw.KEY, _LENGTH) as url:
        yield url


class _Stall:
    """How long the loop does not get round to a task that wants to run all the time but for a millisecond."""

    async def __aenter__(self) -> _Stall:
        self.longest = 0.0
        self._ticking = asyncio.create_task(self._tick())
        await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.01)  # so that the last one counts
        self._ticking.cancel()

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - began - 0.001)


async def _measured(
    setting: Setting, warm: Callable[[], Awaitable[Any]], work: Callable[[], Awaitable[Any]]
) -> Figures:
    """A few times the work. Of the stalls the least, because what else runs on the machine makes them longer."""
    await warm()
    stalls = []
    with Meter() as meter:
        for _ in range(setting.size(_TIMES, 1)):
            async with _Stall() as stall:
                await work()
            stalls.append(stall.longest)
    return {**meter.figures, "stall_ms": min(stalls) * 1e3}


def _batch_of(setting: Setting) -> list[_batch.Arrays]:
    """What is sent: something small where the result is what counts."""
    if setting.case == "reply":
        return _batch.arrays(1, _SMALL)
    return _batch.arrays(setting.size(_DATUMS, 2), setting.size(_LENGTH, _SMALL))


def ours(setting: Setting) -> Figures:
    from loops_sdk import AdamParams, Datum, TrainingClient

    def datums(batch: list[_batch.Arrays]) -> list[Datum]:
        return [Datum(one.pop("tokens"), one) for one in batch]

    async def play() -> Figures:
        async with TrainingClient(setting.server, base_model=MODEL, api_key=_raw.KEY) as client:
            small, data = datums(_batch.arrays(1, _SMALL)), datums(_batch_of(setting))

            async def warm() -> None:
                if setting.case == "reply":
                    await (await client.optim_step_async(AdamParams()))
                else:
                    await (await client.forward_backward_async(small, "ppo"))

            async def work() -> None:
                output = await (await client.forward_backward_async(data, "ppo"))
                assert all(one.to_numpy().size for named in output.loss_fn_outputs for one in named.values())

            return await _measured(setting, warm, work)

    return asyncio.run(play())


def raw(setting: Setting) -> Figures:
    async def play() -> Figures:
        async with _raw.session() as session:
            small, data = _batch.body(_batch.arrays(1, _SMALL)), _batch.body(_batch_of(setting))

            async def operation(name: str, body: Any) -> Any:
                operation_id = await _raw.submit(session, f"{setting.server}/{name}", body)
                return await _raw.retrieve(session, setting.server, operation_id)

            async def warm() -> None:
                if setting.case == "reply":
                    await operation("optim_step", {"adam_params": {}})
                else:
                    _raw.arrays(await operation("forward_backward", small))

            async def work() -> None:
                _raw.arrays(await operation("forward_backward", data))

            return await _measured(setting, warm, work)

    return asyncio.run(play())


if __name__ == "__main__":
    Contest(
        name="payload",
        about=__doc__,
        contestants={"raw": Contestant(raw), "ours": Contestant(ours)},
        goals=(
            Goal("cpu_s", 1.2, cases=("submit",)),
            Goal("stall_ms", 0.4, cases=("submit",)),
            Goal("rss_mib", 0.6, cases=("submit",)),
            Goal("cpu_s", 0.9, cases=("reply",)),
            Goal("stall_ms", 0.7, cases=("reply",)),
            Goal("cpu_s", 0.3, cases=("embedded",)),
        ),
        cases=("submit", "reply", "embedded"),
        server=_server,
        repeats=7,
    ).main()
