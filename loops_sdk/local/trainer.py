"""The trainer's server (`dp_worker`): operations are checked when they arrive and done one after another.

It decides what is refused at submit and what an operation does with engine and storage. It knows an engine by its
protocol only.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from aiohttp import web

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import Accepted, ForwardBackwardBody, InitBody, LoadBody, OptimStepBody, SaveBody
from loops_sdk._wire.codec import decode_request, dumps, encode
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk._wire.idempotency import HEADER, fingerprint
from loops_sdk.errors import InvalidInputError, ServerShutdownError
from loops_sdk.local.engine import AdapterConfig, TrainingEngine
from loops_sdk.local.operations import Bounds, Operations
from loops_sdk.local.serving import BODY_LIMIT, application, json_reply, query, read_body
from loops_sdk.local.storage import RunRecord, Storage
from loops_sdk.types import CheckpointPath, InitTrainerServerResponse, LoadWeightsResponse, SaveWeightsResponse
from loops_sdk.types.checkpoints import check_name

__all__ = ["Trainer"]

Work = Callable[[], Any]
_KEY = re.compile(r"[!-~]{1,255}")
_SEED_BITS = 53  #: of a seed that is drawn here and told: as many as every reader of JSON keeps


class Trainer:
    """The server of one run. It answers from the start, and 503 until `open` has been given a run and an engine.

    Args:
        storage: where checkpoints go.
        api_key: the key that every request must carry.
        hold: seconds that a question about an unfinished operation is held.
        bounds: how much is queued and kept.
        body_limit: largest request in bytes.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        api_key: str,
        hold: float = 30.0,
        bounds: Bounds | None = None,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._storage = storage
        self._operations = Operations(hold=hold, bounds=bounds)
        # One thread, so that requests leave it in the order in which they came, however long each takes to decode.
        self._admission = ThreadPoolExecutor(1, thread_name_prefix="admission")
        self._run: RunRecord | None = None
        self._engine: TrainingEngine | None = None
        self._closing = False
        self._plans: dict[str, Callable[[Any], Work]] = {
            endpoints.FORWARD.name: partial(self._plan_pass, backward=False),
            endpoints.FORWARD_BACKWARD.name: partial(self._plan_pass, backward=True),
            endpoints.OPTIM_STEP.name: self._plan_step,
            endpoints.SAVE_STATE.name: partial(self._plan_save, kind="weights"),
            endpoints.SAVE_WEIGHTS_FOR_SAMPLER.name: partial(self._plan_save, kind="sampler_weights"),
            endpoints.LOAD_STATE.name: partial(self._plan_load, optimizer=False),
            endpoints.LOAD_STATE_WITH_OPTIMIZER.name: partial(self._plan_load, optimizer=True),
            endpoints.INIT_TRAINER_SERVER.name: self._plan_init,
        }
        self.app = application(api_key=api_key, form="detail", body_limit=body_limit)
        self._add_routes()

    def _add_routes(self) -> None:
        for endpoint in endpoints.OPERATIONS:
            if endpoint.name in self._plans:
                self.app.router.add_post(endpoint.path, partial(self._submit, endpoint))
        for read, handler in (
            (endpoints.RETRIEVE, self._retrieve),
            (endpoints.HEALTH, self._health),
            (endpoints.POLICY_VERSION, self._policy_version),
            (endpoints.STATUS, self._status),
        ):
            self.app.router.add_get(read.path, handler)
        self.app.on_shutdown.append(self._shut_down)

    async def open(self, run: RunRecord, engine: TrainingEngine) -> None:
        """Make the run's adapter, load the weights it starts from, and begin to take operations.

        Raises:
            LoopsError, RuntimeError: the adapter cannot be made, or the weights do not fit.
        """
        await asyncio.to_thread(self._prepare, run, engine)
        self._operations.start()
        self._run, self._engine = run, engine

    def _prepare(self, run: RunRecord, engine: TrainingEngine) -> None:
        engine.init_adapter(AdapterConfig(lora_rank=run.lora_rank, seed=run.seed))
        if run.load_from is not None:
            self._load(engine, CheckpointPath.parse(run.load_from), optimizer=False)

    async def _shut_down(self, _app: web.Application) -> None:
        self._closing = True
        await self._operations.aclose()
        self._admission.shutdown(wait=False, cancel_futures=True)

    async def release(self, timeout: float) -> bool:
        """Wait until the operation that was running when the server stopped has ended; says whether it has, so that
        the engine is free.
        """
        return await self._operations.aclose(timeout)

    # ------------------------------------------------------------ submit

    async def _submit(self, endpoint: Endpoint[Any], request: web.Request) -> web.Response:
        self._opened()
        key = request.headers.get(HEADER)
        if key is not None and not _KEY.fullmatch(key):
            raise InvalidInputError(f"{HEADER}: expected 1 to 255 visible ASCII characters, got {key[:80]!r}")
        body = await read_body(request)
        if self._closing:
            raise ServerShutdownError("the trainer is shutting down", status=503, retry_after=1.0)
        admitted = asyncio.get_running_loop().run_in_executor(self._admission, self._admit, endpoint, key, body)
        return json_reply(encode(Accepted(await admitted)), status=202)

    def _admit(self, endpoint: Endpoint[Any], key: str | None, body: bytes) -> str:
        """Decode, check and queue one request: in the admission thread, so never two at a time."""
        assert endpoint.body is not None  # every operation has one
        mark = fingerprint(endpoint.path, body)
        if (known := self._operations.known(key, mark)) is not None:  # whatever has become of what it named
            return known
        work = self._plans[endpoint.name](decode_request(body, endpoint.body))
        return self._operations.submit(endpoint.name, key, mark, lambda: encode(work()), size=len(body))

    def _plan_pass(self, body: ForwardBackwardBody, *, backward: bool) -> Work:
        _, engine = self._opened()
        self._check_lengths(body)
        engine.check(body.data, body.loss_fn, body.loss_fn_config)
        run_pass = engine.forward_backward if backward else engine.forward
        return lambda: run_pass(body.data, body.loss_fn, body.loss_fn_config)

    def _check_lengths(self, body: ForwardBackwardBody) -> None:
        run, _ = self._opened()
        for index, datum in enumerate(body.data):
            if run.max_seq_len is not None and datum.model_input.length > run.max_seq_len:
                raise InvalidInputError(
                    f"data[{index}].model_input: expected at most the run's max_seq_len of {run.max_seq_len} tokens, "
                    f"got {datum.model_input.length}"
                )

    def _plan_step(self, body: OptimStepBody) -> Work:
        _, engine = self._opened()
        return lambda: engine.optim_step(body.adam_params)

    def _plan_save(self, body: SaveBody, *, kind: Any) -> Work:
        run, _ = self._opened()
        if body.run_id not in (None, run.id):
            raise InvalidInputError(f"run_id: this trainer serves run {run.id!r}, got {body.run_id!r}")
        if body.ttl_seconds is not None and body.ttl_seconds < 1:
            raise InvalidInputError(f"ttl_seconds: expected a whole number >= 1, got {body.ttl_seconds}")
        path = CheckpointPath(run.id, kind, check_name("name", body.name))
        return partial(self._save, path, body.ttl_seconds)

    def _save(self, path: CheckpointPath, ttl_seconds: int | None) -> SaveWeightsResponse:
        """Save and publish: the sampler follows the newest save, of either kind."""
        run, engine = self._opened()
        saved = self._storage.save(
            path,
            partial(_write, engine, path.kind),
            base_model=run.base_model,
            adapter_config=dict(engine.adapter_config),
            policy_version=engine.step,
            ttl_seconds=ttl_seconds,
        )
        self._storage.publish(saved)
        self._storage.sweep(run.id)
        return SaveWeightsResponse(str(path), policy_version=saved.policy_version)

    def _plan_load(self, body: LoadBody, *, optimizer: bool) -> Work:
        _, engine = self._opened()
        path = CheckpointPath.parse(body.path)
        if path.kind != "weights":
            raise InvalidInputError(f"path: expected bt://loops:<run_id>/weights/<name>, got {body.path!r}")
        self._storage.checkpoint(path)  # refuses one that is not there; read when its turn has come
        return partial(self._load, engine, path, optimizer=optimizer)

    def _load(self, engine: TrainingEngine, path: CheckpointPath, *, optimizer: bool) -> LoadWeightsResponse:
        """Take over a checkpoint of any run. Nothing is published: the sampler keeps what was saved last."""
        saved = self._storage.checkpoint(path)
        try:
            engine.load_state(saved.folder, optimizer=optimizer)
        except RuntimeError as error:
            raise RuntimeError(f"{path} does not fit this trainer, which stays as it was: {error}") from error
        return LoadWeightsResponse(str(path), policy_version=engine.step)

    def _plan_init(self, body: InitBody) -> Work:
        _, engine = self._opened()
        settings: dict[str, Any] = {"seed": secrets.randbits(_SEED_BITS)}
        settings |= {name: value for name, value in attrs.asdict(body).items() if value is not None}
        return partial(_init, engine, AdapterConfig(**settings))

    # ------------------------------------------------------------ reads

    async def _retrieve(self, request: web.Request) -> web.Response:
        reply = await self._operations.retrieve(request.match_info["operation_id"])
        return json_reply(reply if reply is not None else b'{"status":"running"}')

    async def _health(self, request: web.Request) -> web.Response:
        query(request)
        self._opened()
        return json_reply(b'{"status":"ok"}')

    async def _policy_version(self, request: web.Request) -> web.Response:
        query(request)
        _, engine = self._opened()
        return json_reply(dumps({"policy_version": engine.step}))

    async def _status(self, request: web.Request) -> web.Response:
        query(request)
        run, engine = self._opened()
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

    def _opened(self) -> tuple[RunRecord, TrainingEngine]:
        if self._run is None or self._engine is None:
            raise ServerShutdownError("the trainer is still loading its base model", status=503, retry_after=1.0)
        return self._run, self._engine


def _init(engine: TrainingEngine, config: AdapterConfig) -> InitTrainerServerResponse:
    """Start over, and confirm everything that was set, also what was not asked for."""
    engine.init_adapter(config)
    return InitTrainerServerResponse(**attrs.asdict(config))


def _write(engine: TrainingEngine, kind: str, folder: Path) -> None:
    if kind == "weights":
        engine.save_state(folder)
    engine.save_adapter(folder)
