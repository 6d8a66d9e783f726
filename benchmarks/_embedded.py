"""The embedded trainer in a process of its own, over an engine that computes next to nothing."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from _contest import listening


@contextmanager
def serving(api_key: str, max_seq_len: int) -> Iterator[str]:
    """The address of a trainer of its own, until the block is left."""
    with tempfile.TemporaryDirectory() as folder, listening(__file__, folder, api_key, str(max_seq_len)) as port:
        yield f"http://127.0.0.1:{port}"


async def _serve(folder: Path, api_key: str, max_seq_len: int) -> None:
    from loops_sdk.local.engine.dry import DryTrainingEngine
    from loops_sdk.local.serving import Server
    from loops_sdk.local.storage import RunRecord, Storage
    from loops_sdk.local.trainer import Trainer

    storage = Storage.create(folder)
    run = RunRecord("run", "session", "a run", "dry", datetime.now(UTC), lora_rank=4)
    storage.write_run(run)
    trainer = Trainer(storage, api_key=api_key)
    server = Server(trainer.app)
    await server.start()
    await trainer.open(run, DryTrainingEngine(vocab_size=150_000, max_seq_len=max_seq_len))
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.aclose()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
