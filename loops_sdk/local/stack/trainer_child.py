"""A trainer's process: loads the base model, waits for a run, serves it, and then perhaps another one."""

from __future__ import annotations

from loops_sdk.local.engine import TrainingEngine
from loops_sdk.local.stack.child import Child, run
from loops_sdk.local.trainer import Trainer


async def serve(child: Child) -> None:
    """Serve one run after another until cancelled. Each has a server of its own, at an address of its own: who still
    speaks to an ended run finds nobody.
    """
    engine: TrainingEngine | None = None
    run_id = ""
    while True:
        trainer = Trainer(child.storage, api_key=child.settings.api_key)
        async with child.listening(trainer.app, cancel_on_disconnect=False):
            if engine is None:
                engine = await _load(child)
                run_id = await child.assignment()
            await trainer.open(child.storage.run(run_id), engine)
            child.leash.report("ready")
            run_id = await child.assignment()
        await child.let_go(trainer.release)


async def _load(child: Child) -> TrainingEngine:
    engine: TrainingEngine = await child.load("load_training_engine", max_seq_len=child.settings.max_seq_len)
    child.leash.report("loaded", max_seq_len=engine.max_seq_len)
    return engine


if __name__ == "__main__":
    run(serve)
