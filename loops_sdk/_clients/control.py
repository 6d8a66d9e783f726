"""The control plane: sessions, runs, samplers and checkpoints. It decides what to do when the answer to a create is
lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from loops_sdk._net.caller import Caller, Patience
from loops_sdk._net.network import Network
from loops_sdk._wire import codec, endpoints
from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody, CreateSessionBody
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk.errors import (
    ConnectionFailedError,
    LoopsError,
    NotFoundError,
    ProtocolError,
    RequestTimeoutError,
    StatusError,
)
from loops_sdk.types import (
    Checkpoint,
    CheckpointFilesResponse,
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
        self._network = network
        self._seen: set[str] = set()
        self._creating = asyncio.Lock()
        network.transport.trust(base_url, "base_url")

    @property
    def caller(self) -> Caller:
        """What carries its requests."""
        return self._network.caller

    async def create_session(self, training_project_id: str | None) -> Session:
        """Open a session."""
        body = CreateSessionBody(training_project_id)
        reply = await self._post(endpoints.CREATE_SESSION, body, Patience(total=60.0))
        return reply.session

    async def create_run(self, body: CreateRunBody, *, with_sampler: bool, timeout: float) -> Run:
        """Provision a trainer, with its sampler if wanted. Sent once; a lost answer is looked up among the session's
        runs.

        One at a time: of two creates whose answers are both out, nobody could tell whose run is in the list.
        """
        endpoint = endpoints.CREATE_RUN if with_sampler else endpoints.CREATE_TRAINER
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

    async def get_run(self, run_id: str) -> Run:
        """A run with its paired sampler."""
        return self._trusted_run((await self._get(endpoints.GET_RUN, run_id=run_id)).run)

    async def create_sampler(self, body: CreateSamplerBody, *, timeout: float) -> Sampler:
        """Provision a sampler. Sent once; a lost answer is looked up on the run it was to be paired with."""
        try:
            sampler = (await self._post(endpoints.CREATE_SAMPLER, body, Patience(total=timeout))).sampler
        except LoopsError as error:
            error.add_context(session_id=body.session_id, run_id=body.run_id)
            found = await self._recovered(error, lambda: self._sampler_of(body.run_id))
            if found is None:
                raise
            sampler = found
        return self._trusted(sampler)

    async def get_sampler(self, sampler_id: str) -> Sampler:
        """A sampler with its state."""
        return self._trusted((await self._get(endpoints.GET_SAMPLER, sampler_id=sampler_id)).sampler)

    async def list_runs(
        self, *, run_id: str | None = None, base_model: str | None = None, scope: str | None = None
    ) -> list[Run]:
        """Runs, the caller's own unless `scope` is ``"org"``; the filters combine."""
        return (await self._list(endpoints.LIST_RUNS, run_id=run_id, base_model=base_model, scope=scope)).runs

    async def deactivate_run(self, run_id: str) -> Deactivated:
        """Stop a run's trainer and its paired sampler; its checkpoints stay."""
        endpoint = endpoints.DEACTIVATE_RUN
        return await self._network.caller.call(endpoint, endpoint.url(self.base_url, run_id=run_id))

    async def capabilities(
        self, *, model: str | None = None, use_case: str | None = None, max_seq_len: int | None = None
    ) -> ServerCapabilities:
        """The base models on offer."""
        length = None if max_seq_len is None else str(max_seq_len)
        return await self._list(endpoints.CAPABILITIES, model=model, use_case=use_case, max_seq_len=length)

    async def checkpoints(
        self, *, run_id: str | None = None, base_model: str | None = None, checkpoint_path: str | None = None
    ) -> list[Checkpoint]:
        """Checkpoints by exactly one of: their run, their base model, their address."""
        endpoint = endpoints.LIST_CHECKPOINTS
        reply = await self._list(endpoint, run_id=run_id, base_model=base_model, checkpoint_path=checkpoint_path)
        return reply.checkpoints

    async def checkpoint(self, path: str) -> Checkpoint:
        """The checkpoint under an address.

        Raises:
            NotFoundError: there is none.
        """
        found = (one for one in await self.checkpoints(checkpoint_path=path) if one.path == path)
        if (checkpoint := next(found, None)) is None:
            raise NotFoundError(f"there is no checkpoint {path}")
        return checkpoint

    async def files(self, checkpoint_id: str, *, page_size: int = 1000, page_token: int = 0) -> CheckpointFilesResponse:
        """One page of a checkpoint's files with presigned addresses; `checkpoint_id` is `Checkpoint.id`."""
        page = {"page_size": str(page_size), "page_token": str(page_token)}
        return await self._list(endpoints.CHECKPOINT_FILES, {"checkpoint_id": checkpoint_id}, **page)

    async def source(self, checkpoint_id: str) -> CheckpointSource:
        """Where a checkpoint's files are to be had; `checkpoint_id` is `Checkpoint.id`."""
        return (await self._get(endpoints.CHECKPOINT_SOURCE, checkpoint_id=checkpoint_id)).source

    async def _post(self, endpoint: Endpoint[T], body: object, patience: Patience) -> T:
        url = endpoint.url(self.base_url)
        return await self._network.caller.call(endpoint, url, patience=patience, body=codec.encode(body))

    async def _get(self, endpoint: Endpoint[T], **parts: str) -> T:
        return await self._network.caller.call(endpoint, endpoint.url(self.base_url, **parts))

    async def _list(self, endpoint: Endpoint[T], parts: Mapping[str, str] | None = None, **wanted: str | None) -> T:
        url = endpoint.url(self.base_url, **(parts or {}))
        params = {name: value for name, value in wanted.items() if value is not None}
        return await self._network.caller.call(endpoint, url, params=params)

    async def _new_run(self, body: CreateRunBody) -> Run | None:
        """The run of our own session that no create has answered with yet."""
        runs = await self.list_runs(base_model=body.base_model)
        new = (run for run in runs if run.session_id == body.session_id and run.id not in self._seen)
        return next((run for run in new if run.base_model == body.base_model), None)

    async def _sampler_of(self, run_id: str | None) -> Sampler | None:
        return (await self.get_run(run_id)).sampler if run_id is not None else None

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
