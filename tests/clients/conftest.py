"""A scripted service on loopback: control plane, trainer and sampler, each with a book of what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from loops_sdk import LocalDeployment, SamplingClient, ServiceClient, TrainingClient
from loops_sdk._clients import control, readiness
from loops_sdk._net import caller
from loops_sdk._wire.endpoints import OPERATIONS
from loops_sdk._wire.retrying import Backoff

KEY = "secret-key-of-the-tests"
MODEL = "acme/model"
BASE_CARD = {"id": "/models/base", "object": "model", "parent": None, "max_model_len": 64}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@attrs.define
class Asked:
    """One request: ``"POST /v1/loops/runs"``, its body or query, and its headers."""

    line: str
    body: Any
    headers: Any


@attrs.define(eq=False)
class Service:
    """Three servers. `on` holds answers by request line that come before the usual ones."""

    control: str = ""
    trainer: str = ""
    sampler: str = ""
    asked: list[Asked] = attrs.field(factory=list)
    on: dict[str, Answer] = attrs.field(factory=dict)
    runs: list[dict[str, Any]] = attrs.field(factory=list)
    sampler_status: list[str] = attrs.field(factory=lambda: ["ACTIVE"])
    sampler_made: bool = False
    deployment_status: list[str] = attrs.field(factory=lambda: ["ACTIVE"])
    sampler_ids: dict[str, Any] = attrs.field(factory=dict)
    alone: list[dict[str, Any]] = attrs.field(factory=list)
    teams: list[dict[str, Any]] = attrs.field(factory=list)
    offered: list[dict[str, Any]] = attrs.field(factory=list)
    status: dict[str, Any] = attrs.field(factory=dict)
    models: list[dict[str, Any]] = attrs.field(factory=lambda: [dict(BASE_CARD)])
    serves: int | None = 0
    steps: int = 0
    loads: int = 5
    saved: dict[str, Any] = attrs.field(factory=dict)
    states: list[dict[str, Any]] = attrs.field(factory=list)
    _operations: dict[str, Any] = attrs.field(factory=dict)

    def lines(self, containing: str = "") -> list[str]:
        return [one.line for one in self.asked if containing in one.line]

    def last(self, line: str) -> Asked:
        return next(one for one in reversed(self.asked) if one.line == line)

    def publish(self, version: int | None = None) -> None:
        """What the sampler does when it has swapped the published adapter in."""
        self.serves = self.steps if version is None else version
        self.models = [
            dict(BASE_CARD),
            {"id": "adapter", "parent": "/models/base", "max_model_len": 64, "policy_version": self.serves},
        ]

    # ---------------------------------------------------------------- the servers

    def application(self, routes: dict[str, Callable[[web.Request], Any]]) -> web.Application:
        app = web.Application(middlewares=[self._book])
        for line, handler in routes.items():
            method, path = line.split()
            app.router.add_route(method, path, self._json(handler))
        return app

    @web.middleware
    async def _book(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = json.loads(await request.read() or b"null") if request.method == "POST" else dict(request.query)
        line = f"{request.method} {request.path}"
        self.asked.append(Asked(line, body, request.headers.copy()))
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"detail": "who are you?"}, status=401)
        if line in self.on and (answer := await self.on[line](request)) is not None:
            return answer
        response: web.StreamResponse = await handler(request)
        return response

    def _json(self, handler: Callable[[web.Request], Any]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            said = handler(request)
            return web.json_response(said, status=202 if "operation_id" in said else 200)

        return handle

    def control_routes(self) -> dict[str, Any]:
        routes = self._control_routes()
        ours = {line: handler for line, handler in routes.items() if "/v1/loops/" in line}
        return routes | {line.replace("/v1/", "/v1/teams/t1/", 1): handler for line, handler in ours.items()}

    def _control_routes(self) -> dict[str, Any]:
        return {
            "POST /v1/loops/sessions": lambda _: {"session": {"id": f"s{len(self.lines('/sessions'))}"}},
            "POST /v1/loops/runs": lambda _: {"run": self.make_run(with_sampler=True)},
            "POST /v1/loops/trainers": lambda _: {"run": self.make_run(with_sampler=False)},
            "GET /v1/loops/runs": lambda _: {"runs": [self._run(run) for run in self.runs]},
            "GET /v1/loops/runs/{id}": lambda request: {"run": self._run(self._by_id(request))},
            "POST /v1/loops/samplers": lambda _: {"sampler": self._make_sampler()},
            "GET /v1/loops/samplers": lambda _: {
                "samplers": [*self.alone, *([self._sampler()] if self.sampler_made else [])]
            },
            "GET /v1/loops/samplers/{id}": lambda request: {"sampler": self._sampler_by_id(request)},
            "GET /v1/loops/capabilities": lambda _: {"supported_models": self.offered},
            "GET /v1/teams": lambda request: {
                "teams": [team for team in self.teams if team["name"] == request.query["name"]]
            },
            "GET /v1/models/{model}/deployments/{id}": lambda request: self._deployment(request),
            "GET /v1/loops/checkpoints": lambda _: {"checkpoints": [self.checkpoint("step-1"), *self.states]},
        }

    def trainer_routes(self) -> dict[str, Any]:
        operations = [endpoint.name for endpoint in OPERATIONS]
        return {
            **{f"POST /{name}": lambda _, name=name: self._accept(name) for name in operations},
            "GET /operations/{id}": lambda request: {
                "status": "done",
                "result": self._operations[request.match_info["id"]],
            },
            "GET /health": lambda _: {"status": "ok"},
            "GET /status": lambda _: {"step": self.steps, "world_size": 1, **self.status},
            "GET /policy_version": lambda _: {"policy_version": self.steps},
        }

    def sampler_routes(self) -> dict[str, Any]:
        return {
            "GET /v1/models": lambda _: {"object": "list", "data": self.models},
            "POST /v1/completions": lambda _: self.completion(),
            "POST /deployment/{id}/wake": lambda _: {},
        }

    # ---------------------------------------------------------------- what they hold

    def make_run(self, *, with_sampler: bool, **fields: Any) -> dict[str, Any]:
        self.sampler_made = self.sampler_made or with_sampler
        body = self.asked[-1].body
        run = {
            "id": f"r{len(self.runs) + 1}",
            "session_id": body["session_id"],
            "name": body.get("name") or body["base_model"],
            "base_model": body["base_model"],
            "base_url": self.trainer,
            "created_at": "2026-01-01T00:00:00Z",
            "status": {"name": "ACTIVE"},
            "user": {"email": None},
            **fields,
        }
        self.runs.append(run)
        return self._run(run)

    def _by_id(self, request: web.Request) -> dict[str, Any]:
        return next(run for run in self.runs if run["id"] == request.match_info["id"])

    def _run(self, run: dict[str, Any]) -> dict[str, Any]:
        return {**run, "sampler": self._sampler() if self.sampler_made else None}

    def _make_sampler(self) -> dict[str, Any]:
        if "run_id" not in self.asked[-1].body:
            return self.make_alone()
        self.sampler_made = True
        return self._sampler()

    def _sampler(self) -> dict[str, Any]:
        status = self.sampler_status.pop(0) if len(self.sampler_status) > 1 else self.sampler_status[0]
        return {
            "id": "sam1",
            "base_url": self.sampler,
            "base_model": MODEL,
            "created_at": "2026-01-01T00:00:00Z",
            "status": {"name": status},
            "user": {},
            **self.sampler_ids,
        }

    def make_alone(self, **fields: Any) -> dict[str, Any]:
        """A sampler that no run has; its state is read from `sampler_status` when it is asked for."""
        made = {**self._sampler(), "id": f"alone{len(self.alone) + 1}", **fields}
        self.alone.insert(0, made)
        return made

    def _sampler_by_id(self, request: web.Request) -> dict[str, Any]:
        found = next((one for one in self.alone if one["id"] == request.match_info["id"]), {})
        return {**self._sampler(), **{name: value for name, value in found.items() if name != "status"}}

    def _deployment(self, request: web.Request) -> dict[str, Any]:
        named = {"id": request.match_info["id"], "model_id": request.match_info["model"]}
        left = self.deployment_status
        return {**named, "status": left.pop(0) if len(left) > 1 else left[0]}

    def checkpoint(self, name: str, **fields: Any) -> dict[str, Any]:
        return {
            "id": f"id-{name}",
            "checkpoint_id": name,
            "run_id": "r1",
            "target": "sampler",
            "checkpoint_type": "lora",
            "base_model": MODEL,
            "size_bytes": 1,
            "created_at": "2026-01-01T00:00:00Z",
            **fields,
        }

    def _accept(self, name: str) -> dict[str, Any]:
        operation_id = f"op-{len(self._operations)}"
        self._operations[operation_id] = self._result(name, self.asked[-1].body)
        return {"operation_id": operation_id}

    def _result(self, name: str, body: Any) -> Any:
        if name == "optim_step":
            self.steps += 1
            return {"metrics": {"step": float(self.steps), "grad_norm": 1.0}}
        if name.startswith("forward"):
            return {"loss": 1.5, "metrics": {"loss:sum": 1.5}, "loss_fn_outputs": [{"logprobs": [-0.5]}]}
        if name == "init_trainer_server":
            self.steps = 0
            return {"lora_rank": body["lora_rank"], "device": "a field nobody knows"}
        if name.startswith("load_state"):
            self.steps = self.loads if name.endswith("with_optimizer") else 0
            return {"path": body["path"], "type": "load_weights", "policy_version": self.steps, **self.saved}
        kind = "weights" if name == "save_state" else "sampler_weights"
        path = f"bt://loops:{body.get('run_id', 'local')}/{kind}/{body['name']}"
        return {"path": path, "type": "save_weights", "policy_version": self.steps, **self.saved}

    def completion(self) -> dict[str, Any]:
        body = self.asked[-1].body
        choice = {
            "finish_reason": "length",
            "token_ids": [7, 8],
            "logprobs": {"token_logprobs": [-0.5, -1.0]},
            "prompt_token_ids": body["prompt"],
        }
        if body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [None] + [{str(t): {"logprob": -1.5, "rank": 1}} for t in body["prompt"][1:]]
        said: dict[str, Any] = {"choices": [{**choice, "index": index} for index in range(body["n"])]}
        return said if self.serves is None else {**said, "policy_version": self.serves}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made, runners = Service(), []
    for name in ("control", "trainer", "sampler"):
        runner = web.AppRunner(made.application(getattr(made, f"{name}_routes")()), shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        setattr(made, name, f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield made
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment, nothing else of ours, and pauses that suit a test."""
    ours = ("LOOPS_BASE_URL", "LOOPS_TEAM", "LOOPS_REUSE_FROM_SESSION_ID", "LOOPS_REUSE_FROM_RUN_ID", "S3_REGION")
    for name in (*ours, "LOOPS_METRICS_DIR", "LOOPS_WARM_START_SAMPLER", "BT_LOOPS_MAX_CONNECTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BASETEN_API_KEY", KEY)
    monkeypatch.setattr(caller, "Backoff", lambda: Backoff(first=0.01, cap=0.05))
    monkeypatch.setattr(readiness, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(readiness, "_LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(control, "_RECONCILE", 0.3)
    monkeypatch.setattr(control, "_LOOK_AGAIN", 0.02)


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert not {task for task in asyncio.all_tasks() - before if not task.done() and "loops_sdk" in repr(task)}


@pytest.fixture
async def client(service: Service) -> AsyncIterator[ServiceClient]:
    made = ServiceClient(base_url=service.control)
    yield made
    await made.aclose()


@pytest.fixture
async def training(service: Service) -> AsyncIterator[TrainingClient]:
    """A training client by address, with a paired sampler."""
    made = TrainingClient(
        service.trainer,
        base_model=MODEL,
        run_id="r1",
        timeout=20,
        publish_timeout=0.5,
        paired_sampling_deployment=LocalDeployment(service.sampler),
    )
    yield made
    await made.aclose()


@pytest.fixture
async def sampling(service: Service) -> AsyncIterator[Callable[..., SamplingClient]]:
    clients: list[SamplingClient] = []

    def make(**options: Any) -> SamplingClient:
        given = {"base_model": MODEL, "deployment": LocalDeployment(service.sampler), "timeout": 5.0, **options}
        clients.append(SamplingClient(**given))
        return clients[-1]

    yield make
    for made in clients:
        await made.aclose()


@pytest.fixture
def reply() -> Callable[..., web.Response]:
    def make(status: int, body: Any = None, **headers: str) -> web.Response:
        said = body if body is not None else {"detail": f"status {status}"}
        return web.json_response(said, status=status, headers=headers)

    return make
