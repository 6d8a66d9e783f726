"""The sampler's routes: which models there are, and completions from any of them.

It decides which weights a request means and how long it waits for them. It knows an engine by its protocol only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from functools import partial

from aiohttp import web

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import CompletionBody, ModelCard, ModelList
from loops_sdk._wire.codec import dumps, encode
from loops_sdk._wire.completions import POLICY_VERSION
from loops_sdk.errors import BadRequestError, InvalidInputError, NotFoundError, ServerShutdownError
from loops_sdk.local.engine import GenerationEngine, GenerationRequest
from loops_sdk.local.sampler.adapters import BASE, Adapters, Weights
from loops_sdk.local.sampler.completions import encode_reply, generation_request
from loops_sdk.local.sampler.driver import Driver
from loops_sdk.local.sampler.following import Following, least_version
from loops_sdk.local.sampler.spoken import SpokenBody, spoken_reply, spoken_request
from loops_sdk.local.serving import BODY_LIMIT, WATCHING, application, json_reply, query, read_request
from loops_sdk.local.storage import SamplerRecord, Storage
from loops_sdk.types import CheckpointPath

__all__ = ["SPOKEN", "Sampler"]

#: Not of the protocol: completions of texts and conversations, for people who try a model.
SPOKEN = "/local/v1/sample"

#: Above this many numbers a reply is put together in a thread.
_LARGE_REPLY = 4096


class Sampler:
    """The server of one sampler. It answers from the start, and 503 until `open` has been given a record and an engine.

    Args:
        storage: where checkpoints and pointers lie.
        api_key: the key that every request must carry.
        wait: seconds that a request waits for `open`, and for the policy version it asks for.
        interval: seconds between two looks at the pointer of the run.
        most_adapters: adapters that stay loaded besides the live one.
        most_requests: requests at the same time.
        body_limit: largest request in bytes.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        api_key: str,
        wait: float = 30.0,
        interval: float = 0.05,
        most_adapters: int = 4,
        most_requests: int = 20_000,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._storage, self._wait, self._interval = storage, wait, interval
        self._most_adapters, self._most_requests = most_adapters, most_requests
        self._serving: _Serving | None = None
        self._up = asyncio.Event()
        self.app = application(api_key=api_key, form="openai", body_limit=body_limit)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_post(endpoints.WAKE.path, self._wake)
        self.app.router.add_get(endpoints.MODELS.path, self._models)
        self.app.router.add_post(endpoints.COMPLETIONS.path, self._completions)
        self.app.router.add_post(SPOKEN, self._spoken)
        self.app.router.add_get(f"{WATCHING}/weights", self._weights)
        self.app.on_shutdown.append(self._shut_down)

    async def open(self, record: SamplerRecord, engine: GenerationEngine) -> None:
        """Begin to sample, with the adapter that is published already, if there is one.

        Args:
            record: what to serve.
            engine: a loaded engine; clients are told its `tokenizer_path`.

        Raises:
            NotFoundError, RuntimeError: the checkpoint to serve is missing or does not fit.
        """
        driver = Driver(engine, most=self._most_requests)
        adapters = Adapters(engine, self._storage, most=self._most_adapters)
        driver.start()
        try:
            following = Following(adapters, driver, self._storage, record.run_id, interval=self._interval)
            if record.run_id is not None:
                await following.look()
            elif record.model_path is not None:
                await driver.call(partial(adapters.load_fixed, CheckpointPath.parse(record.model_path)))
        except BaseException:
            await driver.aclose()
            raise
        limit = min(engine.max_seq_len, record.max_seq_len or engine.max_seq_len)
        root = engine.tokenizer_path
        self._serving = _Serving(record, self._storage, engine, driver, adapters, following, limit, root, self._wait)
        self._up.set()

    async def _shut_down(self, _app: web.Application) -> None:
        self._up.set()
        if self._serving is not None:
            await self._serving.aclose()

    async def _reached(self) -> _Serving:
        """Wait a while for a sampler that is coming up, rather than to turn its clients away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                await self._up.wait()
        return self._opened()

    async def release(self, timeout: float) -> bool:
        """Wait until the server, which has stopped, generates no more, and take its adapters out of the engine; says
        whether the engine is free.
        """
        return self._serving is None or await self._serving.release(timeout)

    def _opened(self) -> _Serving:
        if self._serving is None:
            raise ServerShutdownError("the sampler is still loading its base model", status=503, retry_after=1.0)
        return self._serving

    async def _health(self, request: web.Request) -> web.Response:
        query(request)
        self._opened()
        return json_reply(b'{"status":"ok"}')

    async def _weights(self, request: web.Request) -> web.Response:
        """Which weights answer now, for people who watch; null before any were published, and while it is loading."""
        query(request)
        live = None if self._serving is None else self._serving.live
        return json_reply(dumps({"policy_version": live and live.policy_version}))

    async def _wake(self, request: web.Request) -> web.Response:
        """There is nothing to wake: a sampler that answers is awake."""
        query(request)
        self._opened().require(request.match_info["deployment_id"])
        return web.Response(status=202)

    async def _models(self, request: web.Request) -> web.Response:
        query(request)
        return json_reply(encode(await (await self._reached()).models()))

    async def _completions(self, request: web.Request) -> web.Response:
        floor = least_version(request.headers)
        serving = await self._reached()
        body = await read_request(request, CompletionBody)
        reply, version = await serving.complete(body, floor)
        return json_reply(reply, headers={POLICY_VERSION: str(version)})

    async def _spoken(self, request: web.Request) -> web.Response:
        body = await read_request(request, SpokenBody)
        return json_reply(await (await self._reached()).answer(body))


class _Serving:
    """A sampler that has its engine."""

    def __init__(
        self,
        record: SamplerRecord,
        storage: Storage,
        engine: GenerationEngine,
        driver: Driver,
        adapters: Adapters,
        following: Following,
        max_seq_len: int,
        root: str,
        wait: float,
    ) -> None:
        self._record, self._storage, self._encode = record, storage, engine.encode
        self._driver, self._adapters = driver, adapters
        self._following, self._max_seq_len, self._root, self._wait = following, max_seq_len, root, wait
        self._live_id = record.run_id or record.model_path
        self._task = asyncio.create_task(following.run(), name="follow the pointer")

    async def aclose(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._driver.aclose()

    async def release(self, timeout: float) -> bool:
        ended = await self._driver.aclose(timeout)
        if ended:  # the engine is nobody's now, so that it may be used in this thread
            self._adapters.unload()
        return ended

    def require(self, deployment_id: str) -> None:
        if deployment_id != self._record.deployment_id:
            raise NotFoundError(f"there is no deployment {deployment_id!r} here", status=404)

    @property
    def live(self) -> Weights | None:
        """What is sampled from without a name."""
        return self._following.live

    async def models(self) -> ModelList:
        """The base model, the live adapter, then every checkpoint the run has published for sampling."""
        await self._following.look()
        base = self._record.base_model
        cards = [ModelCard(base, max_model_len=self._max_seq_len, root=self._root)]
        live = self._following.live
        if live is not None and self._live_id is not None:
            cards.append(self._card(self._live_id, live.policy_version))
            saved = (
                await asyncio.to_thread(self._storage.checkpoints, self._record.run_id) if self._record.run_id else []
            )
            cards += [
                self._card(one.checkpoint.path, one.policy_version)
                for one in saved
                if one.checkpoint.target == "sampler"
            ]
        return ModelList(cards)

    def _card(self, name: str, policy_version: int) -> ModelCard:
        base = self._record.base_model
        return ModelCard(name, base, max_model_len=self._max_seq_len, policy_version=policy_version, root=self._root)

    async def complete(self, body: CompletionBody, floor: int) -> tuple[bytes, int]:
        """The reply as JSON and the policy version that produced it, at least `floor`."""
        request = generation_request(body, self._max_seq_len)
        if body.model == self._live_id:
            await self._following.look()
            await self._following.reach(floor, self._wait)
        generation, weights = await self._driver.generate(partial(self._prepare, request, body.model, floor))
        prompt = list(request.prompt)
        numbers = sum(map(len, generation.tokens)) + len(prompt) * (generation.prompt_logprobs is not None)
        build = partial(encode_reply, body, prompt, generation, weights.policy_version)
        return (await asyncio.to_thread(build) if numbers > _LARGE_REPLY else build()), weights.policy_version

    async def answer(self, body: SpokenBody) -> bytes:
        """What the model says to a text or a conversation, as JSON. Checkpoints of either kind answer."""
        if body.model == self._live_id:
            await self._following.look()
            await self._following.reach(0, self._wait)
        generation, (request, weights) = await self._driver.generate(partial(self._prepare_spoken, body))
        return spoken_reply(request, generation, weights.policy_version)

    def _prepare_spoken(self, body: SpokenBody) -> tuple[GenerationRequest, tuple[GenerationRequest, Weights]]:
        weights = self._weights(body.model, ("weights", "sampler_weights"))
        request = spoken_request(body, self._encode, weights.adapter, self._max_seq_len)
        return request, (request, weights)

    def _prepare(self, request: GenerationRequest, model: str, floor: int) -> tuple[GenerationRequest, Weights]:
        """In the driver's thread: pick the weights at the last moment, so that they are the newest."""
        weights = self._weights(model)
        if weights.policy_version < floor:
            raise self._below(model, weights, floor)
        whole = GenerationRequest(
            request.prompt, request.params, request.num_samples, weights.adapter, request.prompt_logprobs
        )
        return whole, weights

    def _weights(self, model: str, kinds: Collection[str] = ("sampler_weights",)) -> Weights:
        if model == self._record.base_model:
            return BASE
        if model == self._live_id and self._adapters.live is not None:
            return self._adapters.live
        try:
            path = CheckpointPath.parse(model, "model")
        except InvalidInputError:
            path = None
        if path is None or path.kind not in kinds:
            known = ", ".join(repr(name) for name in (self._record.base_model, self._live_id) if name)
            text = f"model: there is no {model!r}; known are {known} and bt://loops:<run_id>/sampler_weights/<name>"
            raise NotFoundError(text, status=404)
        return self._adapters.published(path)

    def _below(self, model: str, weights: Weights, floor: int) -> Exception:
        if model == self._live_id:  # it was new enough a moment ago: the run has been set back
            return self._following.too_old(floor)
        text = f"policy version {floor} was asked for, but {model!r} is version {weights.policy_version} for good"
        return BadRequestError(text, status=400)
