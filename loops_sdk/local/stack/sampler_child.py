"""A sampler's process: loads the base model, waits for a sampler's record, serves it, and then perhaps another one."""

from __future__ import annotations

import asyncio
import socket

import attrs

from loops_sdk.local.engine import GenerationEngine
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.stack.child import Assignment, Child, run
from loops_sdk.local.storage import SamplerRecord


async def serve(child: Child) -> None:
    """Serve one record after another until cancelled, each with a server of its own."""
    await child.serve_each(_serve, child.load("load_generation_engine"))


async def _serve(
    child: Child, sampler_id: str, listener: socket.socket, loading: asyncio.Task[GenerationEngine]
) -> Assignment:
    """Serve one sampler until there is another assignment, which is returned."""
    sampler = Sampler(child.storage, api_key=child.settings.api_key)
    async with child.listening(sampler.app, listener, cancel_on_disconnect=True):
        record = _within(child.settings.max_seq_len, child.storage.sampler(sampler_id))
        await sampler.open(record, await loading)
        child.leash.report("ready")
        following = await child.assignment(loading)
    await child.let_go(sampler.release)
    return following


def _within(limit: int | None, record: SamplerRecord) -> SamplerRecord:
    if limit is None:
        return record
    return attrs.evolve(record, max_seq_len=min(limit, record.max_seq_len or limit))


if __name__ == "__main__":
    run(serve)
