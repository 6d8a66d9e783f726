"""Sampling for people: from a run's current weights, from the base model, or from any checkpoint of the deployment.

It decides which sampler answers: the run's own, else any that is up, for each can load every checkpoint; else one is
started as it would be for a client, and the answer is that it is starting.
"""

from __future__ import annotations

import asyncio
from typing import Any

import attrs

from loops_sdk._wire.bodies import CreateSamplerBody
from loops_sdk.errors import BadRequestError, DeploymentFailedError
from loops_sdk.local.control_plane.page.peers import Peers
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.storage import RunRecord, SamplerRecord
from loops_sdk.types import CheckpointPath

__all__ = ["SampleBody", "Sampling"]

_WITHIN = 120.0
_SPOKEN = "/local/v1/sample"


@attrs.frozen
class SampleBody:
    """What is to be sampled.

    Args:
        model: ``current`` (what the run has published), ``base``, or the address of a checkpoint.
        prompt, max_tokens, temperature, seed: as the sampler takes them.
    """

    model: str
    prompt: object
    max_tokens: int = 128
    temperature: float = 1.0
    seed: int | None = None


class Sampling:
    """Asks samplers, and starts one where none is up."""

    def __init__(self, registry: Registry, peers: Peers) -> None:
        self._registry, self._peers = registry, peers
        self._one_at_a_time = asyncio.Lock()
        self._started: dict[str, str] = {}

    async def sample(self, run_id: str, body: SampleBody) -> dict[str, Any]:
        """The text, with ``state`` ``done``; or only ``state`` ``starting``, and the same may be asked again.

        Raises:
            InvalidInputError, NotFoundError: there is nothing to sample from.
            LoopsError: no sampler can be started, or it refuses.
        """
        run = await asyncio.to_thread(self._registry.storage.run, run_id)
        model = await asyncio.to_thread(self._model, run, body.model)
        sampler = await self._sampler(run, own=body.model == "current")
        port, state = self._registry.port(sampler), self._registry.sampler_state(sampler)
        if port is None or state != "ACTIVE":
            return {"state": "starting"}
        asked = {**attrs.asdict(body), "model": model}
        return {"state": "done", **await self._peers.ask(port, "POST", _SPOKEN, within=_WITHIN, body=asked)}

    def _model(self, run: RunRecord, model: str) -> str:
        if model in ("current", "base"):
            return run.id if model == "current" else run.base_model
        return str(self._registry.storage.checkpoint(CheckpointPath.parse(model, "model")).checkpoint.path)

    async def _sampler(self, run: RunRecord, *, own: bool) -> SamplerRecord:
        async with self._one_at_a_time:
            self._require_unbroken(run)
            found = self._found(run, own=own)
            if found is None:
                found = await self._registry.create_sampler(self._wanted(run, own=own))
                self._started[run.id] = found.id
            return found

    def _found(self, run: RunRecord, *, own: bool) -> SamplerRecord | None:
        up = [one for one in self._registry.samplers() if self._registry.port(one) is not None]
        fit = [one for one in up if one.run_id == run.id or (not own and one.base_model == run.base_model)]
        active = [one for one in fit if self._registry.sampler_state(one) == "ACTIVE"]
        return next((one for one in [*active, *fit] if one.run_id == run.id), next(iter([*active, *fit]), None))

    def _wanted(self, run: RunRecord, *, own: bool) -> CreateSamplerBody:
        if self._registry.port(run) is not None:
            return CreateSamplerBody(run.session_id, run_id=run.id)
        if own:
            text = f"run {run.id!r} has ended, its weights are served no more; sample from one of its checkpoints"
            raise BadRequestError(text, status=409)
        return CreateSamplerBody(run.session_id, base_model=run.base_model)

    def _require_unbroken(self, run: RunRecord) -> None:
        """One that was started for this run and failed is told once; whoever asks again after that gets another try."""
        started = self._started.get(run.id)
        if started is None:
            return
        if self._registry.sampler_state(self._registry.storage.sampler(started)) == "FAILED":
            del self._started[run.id]
            raise DeploymentFailedError(f"sampler {started!r} did not come up; its log in the data directory says why")
