"""A sampler's process: loads the base model, waits for a sampler's record, serves it."""

from __future__ import annotations

import asyncio

import attrs

from loops_sdk.local.sampler import Sampler
from loops_sdk.local.stack.child import Child, run


async def serve(child: Child) -> None:
    """Serve one sampler until cancelled."""
    sampler = Sampler(child.storage, api_key=child.settings.api_key)
    async with child.listening(sampler.app, cancel_on_disconnect=True):
        engine = await child.load("load_generation_engine")
        child.leash.report("loaded", max_seq_len=engine.max_seq_len)
        record = child.storage.sampler(await child.assignment())
        if child.settings.max_seq_len is not None:
            limit = min(child.settings.max_seq_len, record.max_seq_len or child.settings.max_seq_len)
            record = attrs.evolve(record, max_seq_len=limit)
        await sampler.open(record, engine)
        child.leash.report("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(serve)
