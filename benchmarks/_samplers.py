"""Who samples: each opens, at an address, a function that samples once, 64 tokens with their log-probabilities."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import _raw
import attrs
from _contest import Contestant, Figures, Meter, Setting
from _mock import MODEL

TOKENS = 64
PROMPT = list(range(1, 17))
#: What a completion is asked for with, on the wire; the client sends the same.
REQUEST: dict[str, Any] = {
    "model": MODEL,
    "prompt": PROMPT,
    "n": 1,
    "max_tokens": TOKENS,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "logprobs": 0,
    "return_tokens_as_token_ids": True,
    "return_token_ids": True,
}

Sample = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Sample]:
    from loops_sdk import LocalDeployment, SamplingClient, SamplingParams

    async with SamplingClient(base_model=MODEL, deployment=LocalDeployment(url), api_key=_raw.KEY) as client:
        params = SamplingParams(max_tokens=TOKENS)
        yield lambda: client.sample_async(PROMPT, sampling_params=params)


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Sample]:
    async with _raw.session() as session:
        yield lambda: _raw.sample(session, url, REQUEST)


@asynccontextmanager
async def httpx(url: str) -> AsyncIterator[Sample]:
    import httpx

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {_raw.KEY}"}, limits=limits, timeout=60) as client:

        async def sample() -> Any:
            answer = await client.post(f"{url}/v1/completions", json=REQUEST)
            choice = answer.json()["choices"][0]
            return choice["token_ids"], choice["logprobs"]["token_logprobs"]

        yield sample


@asynccontextmanager
async def openai(url: str) -> AsyncIterator[Sample]:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=_raw.KEY) as client:
        yield lambda: _completion(client)


@asynccontextmanager
async def openai_aiohttp(url: str) -> AsyncIterator[Sample]:
    import openai

    http = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=_raw.KEY, http_client=http) as client:
        yield lambda: _completion(client)


@asynccontextmanager
async def tinker(url: str) -> AsyncIterator[Sample]:
    """On its own wire, where a sample is two requests: it is asked for, and retrieved."""
    import tinker

    service = tinker.ServiceClient(base_url=url, api_key="tml-nobody-checks")
    client = await service.create_sampling_client(base_model=MODEL)
    prompt, params = tinker.ModelInput.from_ints(PROMPT), tinker.SamplingParams(max_tokens=TOKENS)
    yield lambda: client.sample(prompt, num_samples=1, sampling_params=params)


async def _completion(client: Any) -> Any:
    extra = {name: REQUEST[name] for name in ("top_k", "return_tokens_as_token_ids", "return_token_ids")}
    standard = {name: value for name, value in REQUEST.items() if name not in extra}
    reply = await client.completions.create(**standard, extra_body=extra)
    return reply.choices[0].token_ids, reply.choices[0].logprobs.token_logprobs


@attrs.frozen
class Sampler:
    open: Callable[[str], AbstractAsyncContextManager[Sample]]
    needs: tuple[str, ...] = ()


SAMPLERS = {
    "raw": Sampler(raw),
    "ours": Sampler(ours),
    "httpx": Sampler(httpx, needs=("httpx",)),
    "openai": Sampler(openai, needs=("openai",)),
    "tinker": Sampler(tinker, needs=("tinker",)),
    "openai-aiohttp": Sampler(openai_aiohttp, needs=("openai", "httpx_aiohttp")),
}

Work = Callable[[Setting, Sample], Awaitable[Figures]]


def contestants(work: Work, *names: str, peers_in: str = "") -> Mapping[str, Contestant]:
    """Those named, all doing the same work; all but `raw` and `ours` in the case `peers_in` only, if one is given."""

    def playing(name: str) -> Contestant:
        sampler = SAMPLERS[name]

        async def play(setting: Setting) -> Figures:
            async with sampler.open(setting.server) as sample:
                return await work(setting, sample)

        cases = (peers_in,) if peers_in and name not in ("raw", "ours") else ()
        return Contestant(lambda setting: asyncio.run(play(setting)), sampler.needs, cases)

    return {name: playing(name) for name in names}


def at_once(number: int) -> Work:
    """So many samples together. Where the case is `warm`, five times more, over the connections that are open then: the
    figures are those of one time.
    """

    async def work(setting: Setting, sample: Sample) -> Figures:
        times: list[float] = []

        async def timed() -> None:
            started = time.perf_counter()
            await sample()
            times.append(time.perf_counter() - started)

        async def all_of_them() -> None:
            await asyncio.gather(*(timed() for _ in range(setting.size(number, 20))))

        await sample()  # with what is imported and looked up only once
        repeats = 1
        if setting.case.startswith("warm"):
            await all_of_them()
            repeats = 5
        times.clear()
        with Meter() as meter:
            for _ in range(repeats):
                await all_of_them()
        each = {name: meter.figures[name] / repeats for name in ("wall_s", "cpu_s")}
        return {**meter.figures, **each, "p99_s": sorted(times)[len(times) * 99 // 100]}

    return work
