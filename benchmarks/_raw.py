"""The limit: aiohttp and orjson, written as tightly as possible on the same wire, giving the same numbers.

No retries, no order, no errors that explain themselves: what it does not do is what the client may cost.
"""

from __future__ import annotations

import uuid
from typing import Any

import aiohttp
import numpy as np
import orjson

KEY = "a key that nobody checks"
_HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


def session(connections: int = 0) -> aiohttp.ClientSession:
    """Connections without a limit, unless one is given."""
    connector = aiohttp.TCPConnector(limit=connections)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def submit(opened: aiohttp.ClientSession, url: str, body: Any) -> str:
    """The id of an operation, which the trainer has accepted."""
    headers = {**_HEADERS, "Idempotency-Key": uuid.uuid4().hex}
    data = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    async with opened.post(url, data=data, headers=headers) as response:
        operation_id: str = orjson.loads(await response.read())["operation_id"]
        return operation_id


async def retrieve(opened: aiohttp.ClientSession, url: str, operation_id: str) -> Any:
    """The result of an operation, as plain data."""
    while True:
        async with opened.get(f"{url}/operations/{operation_id}", headers=_HEADERS) as response:
            if response.status == 200:
                return orjson.loads(await response.read())["result"]


def logprobs(result: Any) -> list[Any]:
    """One array per datum."""
    return [
        np.array(output["logprobs"]["data"], np.float32).reshape(output["logprobs"]["shape"])
        for output in result["loss_fn_outputs"]
    ]


def arrays(result: Any) -> list[dict[str, Any]]:
    """All of them by name, for each datum."""
    return [
        {name: np.array(one["data"], one["dtype"]).reshape(one["shape"]) for name, one in output.items()}
        for output in result["loss_fn_outputs"]
    ]


async def sample(opened: aiohttp.ClientSession, url: str, body: Any) -> tuple[list[int], list[float]]:
    """Tokens and log-probabilities of a completion."""
    data = orjson.dumps(body)
    async with opened.post(f"{url}/v1/completions", data=data, headers=_HEADERS) as response:
        choice = orjson.loads(await response.read())["choices"][0]
        return choice["token_ids"], choice["logprobs"]["token_logprobs"]
