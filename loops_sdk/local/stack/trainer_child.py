"""A trainer's process: loads the base model, waits for a run, serves it, and then perhaps another one."""

from __future__ import annotations

import asyncio
import socket

from loops_sdk.local.engine import TrainingEngine
from loops_sdk.local.stack.child import Assignment, Child, run
from loops_sdk.local.trainer import Trainer


async def serve(child: Child) -> None:
    """Serve one run after another until cancelled. Each has a server of its own, at an address of its own: who still
    speaks to an ended run finds nobody.
    """
    await child.serve_each(_serve, child.load("load_training_engine", max_seq_len=child.settings.max_seq_len))


async def _serve(
    child: Child, run_id: str, listener: socket.socket, loading: asyncio.Task[TrainingEngine]
) -> Assignment:
    """Serve one run until there is another assignment, which is returned, or until it can be served no more."""
    trainer = Trainer(child.storage, api_key=child.settings.api_key, durable=child.settings.durable)
    async with child.listening(trainer.app, listener, cancel_on_disconnect=False):
        record = child.storage.run(run_id)
        await trainer.attach(record)
        await trainer.open(record, await loading)
        child.leash.report("ready")
        following = await child.assignment(asyncio.create_task(trainer.broken()))
    await child.let_go(trainer.release)
    return following


if __name__ == "__main__":
    run(serve)
