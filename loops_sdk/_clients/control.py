"""The control plane: sessions, runs, samplers and checkpoints. It decides what to do when the answer to a create is
lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from loops_sdk._net.caller import READS, Patience
from loops_sdk._net.network import Network
from loops_sdk._wire import codec, endpoints
from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody, CreateSessionBody, RunReply
from loops_sdk._wire.endpoints import TEAM_SCOPED, Endpoint, of_team
from loops_sdk.errors import (
    ConnectionFailedError,
    LoopsError,
    NotFoundError,
    ProtocolError,
    RequestTimeoutError,
    StatusError,
)
from loops_sdk.instrumentation.waiting import waiting
from loops_sdk.types import (
    Checkpoint,
    CheckpointFilesResponse,
    CheckpointPath,
    CheckpointSource,
    Deactivated,
    Run,
    Sampler,
    ServerCapabilities,
    Session,
)

T = TypeVar("T")

#: How long to look for the result of a create whose answer was lost.
_RECONCILE = 60.0
_LOOK_AGAIN = 2.0


class ControlPlane:
    """Calls of the control plane at `base_url`."""

    def __init__(self, base_url: str, network: Network) -> None:
        self.base_url = base_url
        self.caller = network.caller
        self._network = network
        self._team_id: str | None = None
        self._seen: set[str] = set()
        self._creating = asyncio.Lock()
        network.transport.trust(base_url, "base_url")

    async def act_for(self, team: str) -> None:
        """From now on, what is made and listed belongs to a team.

        Raises:
            NotFoundError: there is no team of this name.
        """
        try:
            teams = (await self._list(endpoints.LIST_TEAMS, {"name": team})).teams
        except NotFoundError as error:
            raise NotFoundError(f"team: cannot look up {team!r}: {error.message}", **error.context()) from error
        found = next((one for one in teams if one.name == team), None)
        if found is None:
            raise NotFoundError(f"team: there is no team {team!r} that this key may act for")
        self._team_id = found.id

    async def create_session(self, training_project_id: str | None) -> Session:
        """Open a session."""
        body = CreateSessionBody(training_project_id)
        with waiting(self.caller.emit, endpoints.CREATE_SESSION.name, f"session at {self.base_url}"):
            reply = await self._post(endpoints.CREATE_SESSION, body, Patience(total=60.0))
        return reply.session

    async def create_run(self, body: CreateRunBody, *, with_sampler: bool, timeout: float) -> Run:
        """Provision a trainer, with its sampler if wanted. Sent once; a lost answer is looked up among the session's
        runs.

        One at a time: of two creates whose answers are both out, nobody could tell whose run is in the list.
        """
        endpoint = endpoints.CREATE_RUN if with_sampler else endpoints.CREATE_TRAINER
        with waiting(self.caller.emit, endpoint.name, f"new trainer for {body.base_model}"):
            return await self._run_created(endpoint, body, timeout)

    async def _run_created(self, endpoint: Endpoint[RunReply], body: CreateRunBody, timeout: float) -> Run:
        async with self._creating:
            try:
                run = (await self._post(endpoint, body, Patience(total=timeout))).run
            except LoopsError as error:
                error.add_context(session_id=body.session_id)
                found = await self._recovered(error, lambda: self._new_run(body))
                if found is None:
                    raise
                run = found
            self._seen.add(run.id)
        return self._trusted_run(run)

    async def get_run(self, run_id: str, patience: Patience = READS) -> Run:
        """A run with its paired sampler."""
        return self._trusted_run((await self._ask(endpoints.GET_RUN, patience, run_id=run_id)).run)

    async def create_sampler(
        self, body: CreateSamplerBody, base_model: str | None = None, *, timeout: float
    ) -> Sampler:
        """Provision a sampler. Sent once; a lost answer is looked up on the run that it is paired with, or else among
        the samplers of `base_model` that no run has and that were not there before.

        One of the latter at a time: samplers do not say whose they are.
        """
        if body.run_id is not None:
            return await self._created(body, timeout, lambda: self._paired_with(body))
        async with self._creating:
            before = {sampler.id for sampler in await self.list_samplers()}
            return await self._created(body, timeout, lambda: self._newest_alone(base_model, before))

    async def _created(
        self, body: CreateSamplerBody, timeout: float, look: Callable[[], Awaitable[Sampler | None]]
    ) -> Sampler:
        subject = f"new sampler for {body.run_id or body.model_path or body.base_model}"
        with waiting(self.caller.emit, endpoints.CREATE_SAMPLER.name, subject, body.run_id):
            try:
                sampler = (await self._post(endpoints.CREATE_SAMPLER, body, Patience(total=timeout))).sampler
            except LoopsError as error:
                error.add_context(session_id=body.session_id, run_id=body.run_id)
                found = await self._recovered(error, look)
                if found is None:
                    raise
                sampler = found
        self._seen.add(sampler.id)
        return self._trusted(sampler)

    async def get_sampler(self, sampler_id: str, patience: Patience = READS) -> Sampler:
        """A sampler with its state."""
        return self._trusted((await self._ask(endpoints.GET_SAMPLER, patience, sampler_id=sampler_id)).sampler)

    async def list_runs(
        self, *, run_id: str | None = None, base_model: str | None = None, scope: str | None = None
    ) -> list[Run]:
        """Runs, the caller's own unless `scope` is ``"org"``; the filters combine."""
        wanted = {"run_id": run_id, "base_model": base_model, "scope": scope}
        return (await self._list(endpoints.LIST_RUNS, wanted)).runs

    async def list_samplers(self, *, scope: str | None = None) -> list[Sampler]:
        """Samplers, paired ones and others, the caller's own unless `scope` is ``"org"``."""
        return (await self._list(endpoints.LIST_SAMPLERS, {"scope": scope})).samplers

    async def deactivate_run(self, run_id: str) -> Deactivated:
        """Stop a run's trainer and its paired sampler; its checkpoints stay."""
        return await self._ask(endpoints.DEACTIVATE_RUN, run_id=run_id)

    async def capabilities(
        self,
        *,
        model: str | None = None,
        use_case: str | None = None,
        max_seq_len: int | None = None,
        patience: Patience = READS,
    ) -> ServerCapabilities:
        """The base models on offer."""
        length = None if max_seq_len is None else str(max_seq_len)
        wanted = {"model": model, "use_case": use_case, "max_seq_len": length}
        return await self._list(endpoints.CAPABILITIES, wanted, patience)

    async def checkpoints(
        self, *, run_id: str | None = None, base_model: str | None = None, checkpoint_path: str | None = None
    ) -> list[Checkpoint]:
        """Checkpoints by exactly one of: their run, their base model, their address."""
        wanted = {"run_id": run_id, "base_model": base_model, "checkpoint_path": checkpoint_path}
        return (await self._list(endpoints.LIST_CHECKPOINTS, wanted)).checkpoints

    async def checkpoint(self, path: str) -> Checkpoint:
        """The checkpoint under an address.

        Raises:
            NotFoundError: there is none.
        """
        wanted = CheckpointPath.parse(path)
        target = "trainer" if wanted.kind == "weights" else "sampler"
        listed = await self.checkpoints(checkpoint_path=path)
        # Field by field, for others in the list may have names of which no address can be made.
        named = (one for one in listed if (one.run_id, one.checkpoint_id) == (wanted.run_id, wanted.name))
        if (checkpoint := next((one for one in named if one.target == target), None)) is None:
            way = f"`loops checkpoints list --run-id {wanted.run_id}` shows those of its run"
            raise NotFoundError(f"there is no checkpoint {path}; {way}")
        return checkpoint

    async def files(self, checkpoint_id: str, *, page_size: int = 1000, page_token: int = 0) -> CheckpointFilesResponse:
        """One page of a checkpoint's files with presigned addresses; `checkpoint_id` is `Checkpoint.id`."""
        page = {"page_size": str(page_size), "page_token": str(page_token)}
        return await self._list(endpoints.CHECKPOINT_FILES, page, checkpoint_id=checkpoint_id)

    async def source(self, checkpoint_id: str) -> CheckpointSource:
        """Where a checkpoint's files are to be had; `checkpoint_id` is `Checkpoint.id`."""
        return (await self._ask(endpoints.CHECKPOINT_SOURCE, checkpoint_id=checkpoint_id)).source

    async def _post(self, endpoint: Endpoint[T], body: object, patience: Patience) -> T:
        return await self.caller.call(endpoint, self._url(endpoint), patience=patience, body=codec.encode(body))

    async def _ask(self, endpoint: Endpoint[T], patience: Patience = READS, **parts: str) -> T:
        return await self.caller.call(endpoint, self._url(endpoint, **parts), patience=patience)

    async def _list(
        self, endpoint: Endpoint[T], wanted: Mapping[str, str | None], patience: Patience = READS, **parts: str
    ) -> T:
        params = {name: value for name, value in wanted.items() if value is not None}
        return await self.caller.call(endpoint, self._url(endpoint, **parts), patience=patience, params=params)

    def _url(self, endpoint: Endpoint[T], **parts: str) -> str:
        if self._team_id is not None and endpoint in TEAM_SCOPED:
            return of_team(endpoint).url(self.base_url, team_id=self._team_id, **parts)
        return endpoint.url(self.base_url, **parts)

    async def _new_run(self, body: CreateRunBody) -> Run | None:
        """The run of our own session that no create has answered with yet."""
        runs = await self.list_runs(base_model=body.base_model)
        new = (run for run in runs if run.session_id == body.session_id and run.id not in self._seen)
        return next((run for run in new if run.base_model == body.base_model), None)

    async def _paired_with(self, body: CreateSamplerBody) -> Sampler | None:
        return (await self.get_run(str(body.run_id))).sampler

    async def _newest_alone(self, base_model: str | None, before: set[str]) -> Sampler | None:
        """The newest sampler of the wanted model that was not there before the create and belongs to no run."""
        listed = await self.list_samplers()
        paired = {run.sampler.id for run in await self.list_runs() if run.sampler is not None}
        others = before | paired | self._seen
        new = [one for one in listed if one.base_model == base_model and one.id not in others]
        return max(new, key=lambda one: one.created_at, default=None)

    async def _recovered(self, error: LoopsError, look: Callable[[], Awaitable[T | None]]) -> T | None:
        """What a create made although its answer was lost; `None` when it made nothing or was refused."""
        if not _answer_lost(error):
            return None
        end = time.monotonic() + _RECONCILE
        while True:
            with contextlib.suppress(ConnectionFailedError, RequestTimeoutError, StatusError):
                if (found := await look()) is not None:
                    return found
            if time.monotonic() + _LOOK_AGAIN > end:
                return None
            await asyncio.sleep(_LOOK_AGAIN)

    def _trusted_run(self, run: Run) -> Run:
        try:
            self._network.transport.trust(run.base_url, named_by=self.base_url)
            if run.sampler is not None:
                self._trusted(run.sampler)
        except LoopsError as error:
            error.add_context(session_id=run.session_id, run_id=run.id)
            raise
        return run

    def _trusted(self, sampler: Sampler) -> Sampler:
        self._network.transport.trust(sampler.base_url, named_by=self.base_url)
        return sampler


def _answer_lost(error: LoopsError) -> bool:
    """Whether the server may have done what was asked without our hearing of it."""
    if isinstance(error, ConnectionFailedError):
        return error.code == "reset"
    return isinstance(error, RequestTimeoutError | ProtocolError) or error.status in (502, 504)
