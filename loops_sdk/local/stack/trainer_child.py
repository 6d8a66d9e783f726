"""A trainer's process: loads the base model, waits for a run, serves it."""

from __future__ import annotations

import asyncio

from loops_sdk.local.stack.child import Child, run
from loops_sdk.local.trainer import Trainer


async def serve(child: Child) -> None:
    """Serve one run until cancelled, or until it can be served no more."""
    loading = asyncio.create_task(child.load("load_training_engine", max_seq_len=child.settings.max_seq_len))
    run_id, listener = await child.assignment(loading)
    trainer = Trainer(child.storage, api_key=child.settings.api_key, durable=child.settings.durable)
    async with child.listening(trainer.app, listener, cancel_on_disconnect=False):
        record = child.storage.run(run_id)
        await trainer.attach(record)
        await trainer.open(record, await loading)
        child.leash.report("ready")
        await trainer.broken()


if __name__ == "__main__":
    run(serve)
