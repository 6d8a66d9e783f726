"""A trainer's process: loads the base model, waits for a run, serves it."""

from __future__ import annotations

import asyncio

from loops_sdk.local.stack.child import Child, run
from loops_sdk.local.trainer import Trainer


async def serve(child: Child) -> None:
    """Serve one run until cancelled."""
    trainer = Trainer(child.storage, api_key=child.settings.api_key)
    async with child.listening(trainer.app, cancel_on_disconnect=False):
        engine = await child.load("load_training_engine", max_seq_len=child.settings.max_seq_len)
        child.leash.report("loaded", max_seq_len=engine.max_seq_len)
        await trainer.open(child.storage.run(await child.assignment()), engine)
        child.leash.report("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(serve)
