"""The types alone: a large forward_backward to bytes, against orjson on the same dict with bare numpy arrays.

Those who hold lists, or pydantic models, are there for comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import _batch
import orjson
from _contest import Contest, Contestant, Figures, Goal, Setting


def _batch_of(setting: Setting) -> list[_batch.Arrays]:
    return _batch.arrays(setting.size(8, 2), setting.size(32_768, 64))


def _measured(setting: Setting, encode: Callable[[], bytes]) -> Figures:
    encode()
    started = time.process_time()
    times = setting.size(10, 1)
    for _ in range(times):
        body = encode()
    return {"cpu_ms": (time.process_time() - started) / times * 1e3, "mb": len(body) / 1e6}


def ours(setting: Setting) -> Figures:
    from loops_sdk import Datum
    from loops_sdk._wire import codec
    from loops_sdk._wire.bodies import ForwardBackwardBody

    data = [Datum(one.pop("tokens"), one) for one in _batch_of(setting)]
    body = ForwardBackwardBody(data, "ppo")
    if codec.encode(body) != orjson.dumps(_batch.body(_batch_of(setting)), option=orjson.OPT_SERIALIZE_NUMPY):
        raise SystemExit("the bodies differ")
    return _measured(setting, lambda: codec.encode(body))


def bare(setting: Setting) -> Figures:
    body = _batch.body(_batch_of(setting))
    return _measured(setting, lambda: orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def lists(setting: Setting) -> Figures:
    body = _batch.body(_batch_of(setting))
    plain = orjson.loads(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
    return _measured(setting, lambda: orjson.dumps(plain))


def pydantic(setting: Setting) -> Figures:
    import pydantic

    class Tensor(pydantic.BaseModel):
        data: list[int] | list[float]
        dtype: str
        shape: list[int]

    class Chunk(pydantic.BaseModel):
        type: str
        tokens: list[int]

    class Input(pydantic.BaseModel):
        chunks: list[Chunk]

    class Example(pydantic.BaseModel):
        model_input: Input
        loss_fn_inputs: dict[str, Tensor]

    class Body(pydantic.BaseModel):
        data: list[Example]
        loss_fn: str

    plain: Any = orjson.dumps(_batch.body(_batch_of(setting)), option=orjson.OPT_SERIALIZE_NUMPY)
    body = Body.model_validate_json(plain)
    return _measured(setting, lambda: body.model_dump_json().encode())


if __name__ == "__main__":
    Contest(
        name="codec",
        about=__doc__,
        contestants={
            "bare": Contestant(bare),
            "ours": Contestant(ours),
            "lists": Contestant(lists),
            "pydantic": Contestant(pydantic, needs=("pydantic",)),
        },
        goals=(Goal("cpu_ms", 1.05, against="bare"),),
    ).main()
