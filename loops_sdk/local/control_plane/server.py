"""The control plane's server: sessions, teams, capabilities, and where everything else is answered.

Whatever is made belongs to the one team there is, whether a call names it or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import CreateSessionBody
from loops_sdk.errors import InvalidInputError, NotFoundError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.control_plane.checkpoints import CheckpointRoutes
from loops_sdk.local.control_plane.launcher import Launcher
from loops_sdk.local.control_plane.page import KEYLESS, PageRoutes
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.control_plane.replies import Replies
from loops_sdk.local.control_plane.routes import Route, reply
from loops_sdk.local.control_plane.runs import RunRoutes
from loops_sdk.local.control_plane.signing import FILE_PATH, Signer
from loops_sdk.local.serving import Handler, application, query, read_request, whole_number
from loops_sdk.local.storage import Storage
from loops_sdk.types import Session

__all__ = ["ControlPlane"]

_BODY_LIMIT = 2**20
_FILE = "file"
#: Looking through all checkpoints is work; expired ones may stay for a minute.
_LOOKS_PER_REMOVAL = 12
_log = logger(__name__)


class ControlPlane:
    """The server that clients know first.

    Args:
        storage: the data directory.
        launcher: runs trainers and samplers.
        api_key: the key that every request must carry, but for those to the address of a checkpoint's file and to the
            page, which holds nothing without the key.
        host: where trainers and samplers listen. When they listen everywhere, clients are told the host by which they
            reached the control plane.
        url_lifetime: seconds that the address of a checkpoint's file is good for.
        look_every: seconds between two looks at which runs have been idle, and which checkpoints kept, for long enough.
        metrics: folder in which clients write down the metrics of runs, for the page. Default: ``metrics`` in the data
            directory.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        storage: Storage,
        launcher: Launcher,
        *,
        api_key: str,
        host: str = "127.0.0.1",
        url_lifetime: float = 900.0,
        look_every: float = 5.0,
        metrics: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage, self._launcher, self._look_every = storage, launcher, look_every
        self._registry = Registry(storage, launcher)
        self._runs = RunRoutes(self._registry, Replies(self._registry, host))
        self._checkpoints = CheckpointRoutes(storage, Signer(url_lifetime, clock=clock))
        self.app = application(api_key=api_key, form="plain", body_limit=_BODY_LIMIT, keyless=(_FILE, *KEYLESS))
        for route in (*self._routes(), *self._runs.routes(), *self._checkpoints.routes()):
            self._add(route)
        PageRoutes(self._registry, api_key=api_key, host=host, metrics=metrics, clock=clock).add_to(self.app)
        self.app.router.add_get(FILE_PATH, self._checkpoints.file, name=_FILE)
        self.app.cleanup_ctx.append(self._looking)

    async def resume(self) -> None:
        """Serve again what an earlier deployment on the same data directory was serving when it ended.

        Raises:
            LoopsError: a process cannot be started.
        """
        await self._registry.resume()

    def _routes(self) -> Iterator[Route]:
        yield endpoints.CREATE_SESSION, self._create_session
        yield endpoints.GET_SESSION, self._get_session
        yield endpoints.LIST_TEAMS, self._list_teams
        yield endpoints.CAPABILITIES, self._capabilities

    def _add(self, route: Route) -> None:
        endpoint, handler = route
        self.app.router.add_route(endpoint.method, endpoint.path, handler)
        if endpoint in endpoints.TEAM_SCOPED:
            self.app.router.add_route(endpoint.method, endpoints.of_team(endpoint).path, self._for_team(handler))

    def _for_team(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        async def of_ours(request: web.Request) -> web.StreamResponse:
            if (team_id := request.match_info["team_id"]) != self._storage.team().id:
                raise NotFoundError(f"there is no team {team_id!r}", status=404)
            return await handler(request)

        return of_ours

    async def _looking(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._tidy(), name="end idle runs, remove expired checkpoints")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _tidy(self) -> None:
        for looks in itertools.count():
            await asyncio.sleep(self._look_every)
            try:
                await self._registry.end_the_overdue()
                if looks % _LOOKS_PER_REMOVAL == 0:
                    await self._registry.remove_expired()
            except Exception:
                _log.exception("idle runs could not be ended, or expired checkpoints not removed; tried again soon")

    # ------------------------------------------------------------ sessions and teams

    async def _create_session(self, request: web.Request) -> web.Response:
        await read_request(request, CreateSessionBody)
        return reply({"session": Session(self._storage.new_session())})

    async def _get_session(self, request: web.Request) -> web.Response:
        query(request)
        session_id = request.match_info["session_id"]
        if not self._storage.has_session(session_id):
            raise NotFoundError(f"there is no session {session_id!r}", status=404)
        return reply({"session": Session(session_id)})

    async def _list_teams(self, request: web.Request) -> web.Response:
        team = self._storage.team()
        shown = {"id": team.id, "name": team.name, "default": True, "created_at": team.created_at}
        return reply({"teams": [shown] if query(request, "name").get("name", team.name) == team.name else []})

    # ------------------------------------------------------------ capabilities

    async def _capabilities(self, request: web.Request) -> web.Response:
        wanted = query(request, "model", "use_case", "max_seq_len")
        if wanted.get("use_case", "rl") not in ("rl", "sft"):
            raise InvalidInputError(f"use_case: expected 'rl' or 'sft', got {wanted['use_case']!r}")
        length = whole_number("max_seq_len", wanted.get("max_seq_len", "1"), 1)
        models = [] if wanted.get("model", self._launcher.base_model) != self._launcher.base_model else [length]
        return reply({"supported_models": [self._supported_model(length) for length in models]})

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
