"""The control plane's routes, and how its records look to clients.

Fields that only a cluster can honour (replicas, availability, scale-down, reuse) are checked and otherwise play no
part: there is one machine, and it is always up.
"""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
from aiohttp import web

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody, CreateSessionBody
from loops_sdk._wire.codec import encode
from loops_sdk.errors import InvalidInputError, NotFoundError
from loops_sdk.local.control_plane.launcher import Launcher
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.serving import application, json_reply, query, read_request
from loops_sdk.local.storage import RunRecord, SamplerRecord, Saved, Storage
from loops_sdk.types import CheckpointPath, Run, Sampler, Session, Status, User

__all__ = ["ControlPlane"]

_BODY_LIMIT = 2**20
_NOBODY = User()
_WILDCARDS = ("0.0.0.0", "::", "")


@attrs.frozen
class _NoFields:
    """An empty object, or no body at all."""


class ControlPlane:
    """The server that clients know first.

    Args:
        storage: the data directory.
        launcher: runs trainers and samplers.
        api_key: the key that every request must carry.
        host: where trainers and samplers listen. When they listen everywhere, clients are told the host by which they
            reached the control plane.
    """

    def __init__(self, storage: Storage, launcher: Launcher, *, api_key: str, host: str = "127.0.0.1") -> None:
        self._registry = Registry(storage, launcher)
        self._storage, self._launcher, self._host = storage, launcher, host
        self.app = application(api_key=api_key, form="plain", body_limit=_BODY_LIMIT)
        self._add_routes()

    async def resume(self) -> None:
        """Serve again what an earlier deployment on the same data directory was serving when it ended.

        Raises:
            LoopsError: a process cannot be started.
        """
        await self._registry.resume()

    def _add_routes(self) -> None:
        router = self.app.router
        router.add_post(endpoints.CREATE_SESSION.path, self._create_session)
        router.add_get(endpoints.GET_SESSION.path, self._get_session)
        router.add_post(endpoints.CREATE_RUN.path, self._create_run)
        router.add_post(endpoints.CREATE_TRAINER.path, self._create_trainer)
        router.add_get(endpoints.LIST_RUNS.path, self._list_runs)
        router.add_get(endpoints.GET_RUN.path, self._get_run)
        router.add_post(endpoints.GET_RUN.path + "/deactivate", self._end_run)
        router.add_post(endpoints.CREATE_SAMPLER.path, self._create_sampler)
        router.add_get(endpoints.CREATE_SAMPLER.path, self._list_samplers)
        router.add_get(endpoints.GET_SAMPLER.path, self._get_sampler)
        router.add_post(endpoints.GET_SAMPLER.path + "/deactivate", self._end_sampler)
        router.add_get(endpoints.LIST_CHECKPOINTS.path, self._list_checkpoints)
        router.add_get("/v1/loops/capabilities", self._capabilities)

    # ------------------------------------------------------------ sessions

    async def _create_session(self, request: web.Request) -> web.Response:
        await read_request(request, CreateSessionBody)
        return _reply({"session": Session(self._storage.new_session())})

    async def _get_session(self, request: web.Request) -> web.Response:
        session_id = request.match_info["session_id"]
        if not self._storage.has_session(session_id):
            raise NotFoundError(f"there is no session {session_id!r}", status=404)
        return _reply({"session": Session(session_id)})

    # ------------------------------------------------------------ runs

    async def _create_run(self, request: web.Request) -> web.Response:
        body = await read_request(request, CreateRunBody)
        return self._run_reply(request, await self._registry.create_run(body, with_sampler=True))

    async def _create_trainer(self, request: web.Request) -> web.Response:
        body = await read_request(request, CreateRunBody)
        if body.sampler_num_replicas is not None:
            raise InvalidInputError("sampler_num_replicas: a run without a sampler has no such field")
        return self._run_reply(request, await self._registry.create_run(body, with_sampler=False))

    async def _list_runs(self, request: web.Request) -> web.Response:
        wanted = _with_scope(query(request, "run_id", "base_model", "scope"))
        runs = [
            self._run(request, run)
            for run in self._storage.runs()
            if run.id == wanted.get("run_id", run.id) and run.base_model == wanted.get("base_model", run.base_model)
        ]
        return _reply({"runs": runs})

    async def _get_run(self, request: web.Request) -> web.Response:
        query(request)
        return self._run_reply(request, self._storage.run(request.match_info["run_id"]))

    async def _end_run(self, request: web.Request) -> web.Response:
        await read_request(request, _NoFields)
        run = await self._registry.end_run(request.match_info["run_id"])
        return _reply({"id": run.id, "base_model": run.base_model, "user": _NOBODY})

    def _run_reply(self, request: web.Request, run: RunRecord) -> web.Response:
        return _reply({"run": self._run(request, run)})

    def _run(self, request: web.Request, run: RunRecord) -> Run:
        trainer = self._registry.trainer(run)
        sampler = self._registry.sampler_of(run.id)
        return Run(
            id=run.id,
            session_id=run.session_id,
            name=run.name,
            base_model=run.base_model,
            base_url=self._url(request, trainer.port if trainer else None, f"runs/{run.id}/trainer"),
            created_at=run.created_at,
            status=Status("ACTIVE" if trainer else "INACTIVE"),
            user=_NOBODY,
            lora_config_version="v1",
            sampler=self._sampler(request, sampler) if sampler else None,
        )

    # ------------------------------------------------------------ samplers

    async def _create_sampler(self, request: web.Request) -> web.Response:
        body = await read_request(request, CreateSamplerBody)
        return self._sampler_reply(request, await self._registry.create_sampler(body))

    async def _list_samplers(self, request: web.Request) -> web.Response:
        _with_scope(query(request, "scope"))
        return _reply({"samplers": [self._sampler(request, one) for one in self._storage.samplers()]})

    async def _get_sampler(self, request: web.Request) -> web.Response:
        query(request)
        return self._sampler_reply(request, self._storage.sampler(request.match_info["sampler_id"]))

    async def _end_sampler(self, request: web.Request) -> web.Response:
        await read_request(request, _NoFields)
        sampler = await self._registry.end_sampler(request.match_info["sampler_id"])
        return _reply({"id": sampler.id, "base_model": sampler.base_model, "user": _NOBODY})

    def _sampler_reply(self, request: web.Request, sampler: SamplerRecord) -> web.Response:
        return _reply({"sampler": self._sampler(request, sampler)})

    def _sampler(self, request: web.Request, sampler: SamplerRecord) -> Sampler:
        return Sampler(
            id=sampler.id,
            base_url=self._url(request, self._registry.sampler_port(sampler), f"samplers/{sampler.id}/server"),
            base_model=sampler.base_model,
            created_at=sampler.created_at,
            status=Status(self._registry.sampler_state(sampler)),
            user=_NOBODY,
        )

    def _url(self, request: web.Request, port: int | None, gone: str) -> str:
        """Where a server listens. One that is gone gets an address of the control plane that answers 404."""
        here = request.url.host or "127.0.0.1"
        if port is None:
            return f"{request.url.origin()}/v1/loops/{gone}"
        host = here if self._host in _WILDCARDS else self._host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    # ------------------------------------------------------------ checkpoints and capabilities

    async def _list_checkpoints(self, request: web.Request) -> web.Response:
        wanted = query(request, "run_id", "base_model", "checkpoint_path")
        if len(wanted) != 1:
            given = ", ".join(wanted) or "none"
            raise InvalidInputError(f"run_id, base_model, checkpoint_path: give exactly one of them, got {given}")
        found = await asyncio.to_thread(self._checkpoints, **wanted)
        return _reply({"checkpoints": [saved.checkpoint for saved in found]})

    def _checkpoints(
        self, run_id: str | None = None, base_model: str | None = None, checkpoint_path: str | None = None
    ) -> list[Saved]:
        if checkpoint_path is not None:
            return [self._storage.checkpoint(CheckpointPath.parse(checkpoint_path, "checkpoint_path"))]
        if run_id is not None:
            return self._storage.checkpoints(self._storage.run(run_id).id)
        runs = [run for run in self._storage.runs() if run.base_model == base_model]
        return [saved for run in runs for saved in self._storage.checkpoints(run.id)]

    async def _capabilities(self, request: web.Request) -> web.Response:
        wanted = query(request, "model", "use_case", "max_seq_len")
        if wanted.get("use_case", "rl") not in ("rl", "sft"):
            raise InvalidInputError(f"use_case: expected 'rl' or 'sft', got {wanted['use_case']!r}")
        length = _positive("max_seq_len", wanted.get("max_seq_len", "1"))
        models = [] if wanted.get("model", self._launcher.base_model) != self._launcher.base_model else [length]
        return _reply({"supported_models": [self._supported_model(length) for length in models]})

    def _supported_model(self, length: int) -> dict[str, Any]:
        longest = self._launcher.max_seq_len
        details = {
            "reason": "sequence_length_unsupported",
            "reason_detail": f"{self._launcher.base_model} takes at most {longest} tokens, {length} were asked for",
            "remediation": f"ask for at most {longest} tokens",
        }
        return {
            "model_name": self._launcher.base_model,
            "max_seq_len": longest,
            "max_enabled_seq_len": longest,
            "max_context_length": longest,
            "supports_vision_language": False,
            "enabled": length <= longest,
            "serverless": None,
            "enablement_details": None if length <= longest else details,
        }


def _reply(value: dict[str, Any]) -> web.Response:
    return json_reply(encode(value))


def _with_scope(wanted: dict[str, str]) -> dict[str, str]:
    if wanted.get("scope", "org") != "org":
        raise InvalidInputError(f"scope: expected 'org', got {wanted['scope']!r}")
    return wanted


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise InvalidInputError(f"{name}: expected a whole number >= 1, got {text[:80]!r}")
    return int(text)
