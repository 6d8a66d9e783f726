"""A sampler's process: loads the base model, waits for a sampler's record, serves it."""

from __future__ import annotations

import asyncio

import attrs

from loops_sdk.local.sampler import Sampler
from loops_sdk.local.stack.child import Child, run


async def serve(child: Child) -> None:
    """Serve one sampler until cancelled."""
    loading = asyncio.create_task(child.load("load_generation_engine"))
    sampler_id, listener = await child.assignment(loading)
    sampler = Sampler(child.storage, api_key=child.settings.api_key)
    async with child.listening(sampler.app, listener, cancel_on_disconnect=True):
        record = child.storage.sampler(sampler_id)
        if child.settings.max_seq_len is not None:
            limit = min(child.settings.max_seq_len, record.max_seq_len or child.settings.max_seq_len)
            record = attrs.evolve(record, max_seq_len=limit)
        await sampler.open(record, await loading)
        child.leash.report("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(serve)
