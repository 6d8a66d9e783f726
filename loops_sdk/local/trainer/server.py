"""The trainer's server (`dp_worker`): operations are checked when they arrive and done one after another.

It decides when a run is open, what is answered before that, and how a request becomes an accepted operation. What the
operation does is a plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
from aiohttp import web

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import Accepted, OperationsReply
from loops_sdk._wire.codec import dumps, encode
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk._wire.forms import Offer
from loops_sdk._wire.idempotency import HEADER, fingerprint
from loops_sdk._wire.packing import MEDIA_TYPE, is_packed
from loops_sdk.errors import DeploymentFailedError, InvalidInputError, ServerShutdownError
from loops_sdk.local.engine import AdapterConfig, TrainingEngine
from loops_sdk.local.operations import Bounds, Done, Operations, State, in_json, success
from loops_sdk.local.serving import BODY_LIMIT, WATCHING, application, json_reply, query, read_body, whole_number
from loops_sdk.local.storage import RunRecord, Storage
from loops_sdk.local.trainer.durability import LASTING, Durability
from loops_sdk.local.trainer.history import History
from loops_sdk.local.trainer.plans import Plans, Work
from loops_sdk.types import CheckpointPath

__all__ = ["Trainer"]

_KEY = re.compile(r"[!-~]{1,255}")
#: Not zstd: on the way from one process of a machine to another it costs more than it saves.
_OFFER = {"Accept": f"application/json, {MEDIA_TYPE}"}


class Trainer:
    """The server of one run. It answers from the start, and 503 until `open` has been given a run and an engine.

    Args:
        storage: where checkpoints go.
        api_key: the key that every request must carry.
        durable: whether operations, results and the engine's state are kept on the disk, so that another process can go
            on after the sudden death of this one.
        hold: seconds that a question about an unfinished operation is held, and that a request waits for `open`.
        bounds: how much is queued and kept.
        body_limit: largest request in bytes.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        api_key: str,
        durable: bool = True,
        hold: float = 30.0,
        bounds: Bounds | None = None,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._storage, self._durable, self._hold = storage, durable, hold
        self._operations = Operations(hold=hold, bounds=bounds, lasting=LASTING)
        # One thread, so that requests leave it in the order in which they came, however long each takes to decode.
        self._admission = ThreadPoolExecutor(1, thread_name_prefix="admission")
        self._durability: Durability | None = None
        self._window: list[Done] = []
        self._plans: Plans | None = None
        self._history: History | None = None
        self._attached, self._up = asyncio.Event(), asyncio.Event()
        self._closing = False
        self.app = application(api_key=api_key, form="detail", body_limit=body_limit)
        self._add_routes()

    def _add_routes(self) -> None:
        for endpoint in endpoints.OPERATIONS:
            self.app.router.add_post(endpoint.path, partial(self._submit, endpoint))
        for read, handler in (
            (endpoints.RETRIEVE, self._retrieve),
            (endpoints.LIST_OPERATIONS, self._list),
            (endpoints.HEALTH, self._health),
            (endpoints.POLICY_VERSION, self._policy_version),
            (endpoints.STATUS, self._status),
        ):
            self.app.router.add_get(read.path, handler)
        self.app.router.add_get(f"{WATCHING}/operations", self._unfinished)
        self.app.on_shutdown.append(self._shut_down)

    async def attach(self, run: RunRecord) -> None:
        """Take over what an earlier process left of the run; its operations are known and its results there from now
        on, also while the engine is still loading.

        Raises:
            DeploymentFailedError: the journal cannot be opened.
        """
        if self._durable:
            await asyncio.to_thread(self._take_over, run)
        self._attached.set()

    def _take_over(self, run: RunRecord) -> None:
        self._durability = Durability(self._storage.progress(run.id))
        self._window = self._operations.restore(self._durability.journal, self._redo)

    async def open(self, run: RunRecord, engine: TrainingEngine) -> None:
        """Bring the engine to where the run is, which for a new one is its beginning, and begin to take operations.

        Raises:
            DeploymentFailedError: the weights that the run starts from, or those it had, do not fit.
            LoopsError: the adapter cannot be made.
        """
        if not self._attached.is_set():
            await self.attach(run)
        self._plans = Plans(self._storage, run, engine)
        await asyncio.to_thread(self._prepare, self._plans)
        self._history = History(self._storage.history(run.id))
        self._operations.start(self._keep, self._history.write)
        self._up.set()

    def _prepare(self, plans: Plans) -> None:
        run, engine = plans.run, plans.engine
        if self._durability is not None and self._durability.begun:
            self._durability.resume(engine, self._window, lambda one: plans.plan(one.name, one.body)())
            self._window = []
            return
        engine.init_adapter(AdapterConfig(lora_rank=run.lora_rank, seed=run.seed))
        if run.load_from is not None:
            _start_from(plans, CheckpointPath.parse(run.load_from))
        if self._durability is not None:
            self._durability.begin(engine)

    def _keep(self, name: str, error: str | None) -> State | None:
        engine = self._opened().engine
        if error is not None and name in LASTING:  # an engine does so itself, unless it was never asked
            engine.poison(error)
        if self._durability is None:
            return None
        return self._durability.keep(engine, name, failed=error is not None)

    async def broken(self) -> None:
        """Wait until this trainer can do nothing more; see `Operations.broken`."""
        await self._operations.broken()

    async def _shut_down(self, _app: web.Application) -> None:
        self._closing = True
        self._attached.set()
        self._up.set()
        await self._operations.aclose()
        self._admission.shutdown(wait=False, cancel_futures=True)

    async def release(self, timeout: float) -> bool:
        """Wait until the operation that was running when the server stopped has ended; says whether it has, so that
        the engine is free.
        """
        return await self._operations.aclose(timeout)

    # ------------------------------------------------------------ submit

    async def _submit(self, endpoint: Endpoint[Any], request: web.Request) -> web.Response:
        await self._reached(self._up)
        key = request.headers.get(HEADER)
        if key is not None and not _KEY.fullmatch(key):
            raise InvalidInputError(f"{HEADER}: expected 1 to 255 visible ASCII characters, got {key[:80]!r}")
        body = await read_body(request)
        self._require_open(self._up)
        admitted = asyncio.get_running_loop().run_in_executor(self._admission, self._admit, endpoint, key, body)
        return json_reply(encode(Accepted(await admitted)), status=202, headers=_OFFER)

    def _admit(self, endpoint: Endpoint[Any], key: str | None, body: bytes) -> str:
        """Decode, check and queue one request: in the admission thread, so never two at a time."""
        mark = fingerprint(endpoint.path, body)
        if (known := self._operations.known(key, mark)) is not None:  # whatever has become of what it named
            return known
        work = self._opened().plan(endpoint.name, body)
        return self._operations.submit(endpoint.name, key, mark, self._replying(work, body), body=body)

    def _redo(self, name: str, body: bytes) -> Callable[[], bytes]:
        """The work of an operation that was accepted by an earlier process. What it names may be gone by now, so it is
        looked at in its turn.
        """
        return self._replying(lambda: self._opened().plan(name, body)(), body)

    def _replying(self, work: Work, body: bytes) -> Callable[[], bytes]:
        """The work with the reply about its success, in the form in which the request came: who sent it reads that."""

        def reply() -> bytes:
            result = work()
            if self._history is not None:
                self._history.note(result)
            return success(result, packed=is_packed(body))

        return reply

    # ------------------------------------------------------------ reads

    async def _retrieve(self, request: web.Request) -> web.Response:
        await self._reached(self._attached)  # until then nobody knows which operations there are
        reply = await self._operations.retrieve(request.match_info["operation_id"])
        if reply is None:
            return json_reply(b'{"status":"running"}')
        if not is_packed(reply):
            return json_reply(reply)
        if Offer.of(request.headers).packed:
            return web.Response(body=reply, content_type=MEDIA_TYPE)
        return json_reply(await asyncio.to_thread(in_json, reply))

    async def _list(self, request: web.Request) -> web.Response:
        query(request)
        await self._reached(self._attached)
        return json_reply(encode(OperationsReply(self._operations.listed())))

    async def _unfinished(self, request: web.Request) -> web.Response:
        """What runs and what waits, for people who watch. It is answered at once, also while the engine is loading."""
        most = whole_number("limit", query(request, "limit").get("limit", "100"), 1)
        return json_reply(
            dumps(
                {
                    "unfinished": [attrs.asdict(one) for one in self._operations.unfinished(most)],
                    "queued": self._operations.queued,
                }
            )
        )

    async def _health(self, request: web.Request) -> web.Response:
        query(request)
        self._require_open(self._up)
        return json_reply(b'{"status":"ok"}')

    async def _policy_version(self, request: web.Request) -> web.Response:
        query(request)
        await self._reached(self._up)
        return json_reply(dumps({"policy_version": self._opened().engine.step}))

    async def _status(self, request: web.Request) -> web.Response:
        query(request)
        await self._reached(self._up)
        run, engine = self._opened().run, self._opened().engine
        status = {
            "run_id": run.id,
            "step": engine.step,
            "world_size": 1,
            "base_model": run.base_model,
            "lora_rank": engine.adapter_config["r"],
            "max_seq_len": min(engine.max_seq_len, run.max_seq_len or engine.max_seq_len),
            "running": self._operations.running,
            "queued": self._operations.queued,
        }
        return json_reply(dumps(status))

    async def _reached(self, stage: asyncio.Event) -> None:
        """Wait a while for a trainer that is coming up, rather than to turn its clients away.

        Raises:
            ServerShutdownError: 503, it takes longer, or the trainer is going.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._hold):
                await stage.wait()
        self._require_open(stage)

    def _require_open(self, stage: asyncio.Event) -> None:
        if self._closing:
            raise ServerShutdownError("the trainer is shutting down", status=503, retry_after=1.0)
        if not stage.is_set():
            raise ServerShutdownError("the trainer is still loading its base model", status=503, retry_after=1.0)

    def _opened(self) -> Plans:
        assert self._plans is not None  # `open` was called: nothing asks before
        return self._plans


def _start_from(plans: Plans, path: CheckpointPath) -> None:
    try:
        plans.load(path, optimizer=False)
    except RuntimeError as error:  # no process that tries again will fare better
        raise DeploymentFailedError(str(error)) from error
