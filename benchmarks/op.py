"""One operation after another: forward_backward and its result, optim_step and its result; small, at no delay.

An operation is two requests, submission and retrieval, whoever plays.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import _raw
from _contest import Contest, Contestant, Figures, Goal, Meter, Setting
from _mock import MODEL, Mock

_LENGTH = 16
_TOKENS = list(range(_LENGTH))
_PASS = {
    "data": [
        {
            "model_input": {"chunks": [{"type": "encoded_text", "tokens": _TOKENS}]},
            "loss_fn_inputs": {"target_tokens": {"data": _TOKENS, "dtype": "int64", "shape": [_LENGTH]}},
        }
    ],
    "loss_fn": "cross_entropy",
}
_STEP = {"adam_params": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}}


def _figures(meter: Meter, operations: int) -> Figures:
    return {**meter.figures, "rate": operations / meter.figures["wall_s"]}


def _size(setting: Setting) -> int:
    return setting.size(1000, 20)


async def _measured(setting: Setting, step: Callable[[], Awaitable[Any]]) -> Figures:
    """Of so many steps, two operations each; the first few, with their imports and connections, do not count."""
    for _ in range(10):
        await step()
    with Meter() as meter:
        for _ in range(_size(setting)):
            await step()
    return _figures(meter, 2 * _size(setting))


def ours(setting: Setting) -> Figures:
    from loops_sdk import AdamParams, Datum, TrainingClient

    async def play() -> Figures:
        async with TrainingClient(setting.server, base_model=MODEL, api_key=_raw.KEY) as client:
            data, params = [Datum(_TOKENS, {"target_tokens": _TOKENS[::-1]})], AdamParams(learning_rate=1e-3)

            async def step() -> None:
                await (await client.forward_backward_async(data))
                await (await client.optim_step_async(params))

            return await _measured(setting, step)

    return asyncio.run(play())


def facade(setting: Setting) -> Figures:
    from loops_sdk_sync import AdamParams, Datum, TrainingClient

    with TrainingClient(setting.server, base_model=MODEL, api_key=_raw.KEY) as client:
        data, params = [Datum(_TOKENS, {"target_tokens": _TOKENS[::-1]})], AdamParams(learning_rate=1e-3)

        def step() -> None:
            client.forward_backward(data).result()
            client.optim_step(params).result()

        for _ in range(10):
            step()
        with Meter() as meter:
            for _ in range(_size(setting)):
                step()
    return _figures(meter, 2 * _size(setting))


def raw(setting: Setting) -> Figures:
    async def play() -> Figures:
        async with _raw.session() as session:

            async def operation(name: str, body: Any) -> Any:
                operation_id = await _raw.submit(session, f"{setting.server}/{name}", body)
                return await _raw.retrieve(session, setting.server, operation_id)

            async def step() -> None:
                _raw.logprobs(await operation("forward_backward", _PASS))
                await operation("optim_step", _STEP)

            return await _measured(setting, step)

    return asyncio.run(play())


def httpx(setting: Setting) -> Figures:
    """httpx with the json module, as people use it."""
    import httpx

    async def play() -> Figures:
        async with httpx.AsyncClient(
            base_url=setting.server, headers={"Authorization": f"Bearer {_raw.KEY}"}
        ) as client:

            async def operation(name: str, body: Any) -> Any:
                accepted = await client.post(f"/{name}", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
                answer = await client.get(f"/operations/{accepted.json()['operation_id']}")
                return answer.json()["result"]

            async def step() -> None:
                _raw.logprobs(await operation("forward_backward", _PASS))
                await operation("optim_step", _STEP)

            return await _measured(setting, step)

    return asyncio.run(play())


if __name__ == "__main__":
    Contest(
        name="op",
        about=__doc__,
        contestants={
            "raw": Contestant(raw),
            "ours": Contestant(ours),
            "facade": Contestant(facade),
            "httpx": Contestant(httpx, needs=("httpx",)),
        },
        goals=(
            Goal("cpu_s", 1.25),
            Goal("rate", 0.8, at_least=True),
            Goal("cpu_s", 2.0, of="facade", against="ours"),
        ),
        server=lambda case: Mock(length=_LENGTH).serving(),
    ).main()
