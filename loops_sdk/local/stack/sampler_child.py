"""A sampler's process: loads the base model, waits for a sampler's record, serves it, and then perhaps another one."""

from __future__ import annotations

import attrs

from loops_sdk.local.engine import GenerationEngine
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.stack.child import Child, run
from loops_sdk.local.storage import SamplerRecord


async def serve(child: Child) -> None:
    """Serve one record after another until cancelled, each with a server of its own."""
    engine: GenerationEngine | None = None
    sampler_id = ""
    while True:
        sampler = Sampler(child.storage, api_key=child.settings.api_key)
        async with child.listening(sampler.app, cancel_on_disconnect=True):
            if engine is None:
                engine = await _load(child)
                sampler_id = await child.assignment()
            await sampler.open(_within(child.settings.max_seq_len, child.storage.sampler(sampler_id)), engine)
            child.leash.report("ready")
            sampler_id = await child.assignment()
        await child.let_go(sampler.release)


async def _load(child: Child) -> GenerationEngine:
    engine: GenerationEngine = await child.load("load_generation_engine")
    child.leash.report("loaded", max_seq_len=engine.max_seq_len)
    return engine


def _within(limit: int | None, record: SamplerRecord) -> SamplerRecord:
    if limit is None:
        return record
    return attrs.evolve(record, max_seq_len=min(limit, record.max_seq_len or limit))


if __name__ == "__main__":
    run(serve)
