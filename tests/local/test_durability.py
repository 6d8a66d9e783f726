"""A trainer over HTTP that takes over from one that is gone, and what it says while it is not ready yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import double_engine
import pytest

from loops_sdk._wire.endpoints import OPTIM_STEP, SAVE_STATE
from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local.operations import Bounds
from loops_sdk.local.operations.queue import MOST_REDONE
from loops_sdk.local.storage import Storage
from loops_sdk.local.trainer import Trainer
from loops_sdk.local.trainer.durability import Durability

from .conftest import KEY, RUN, Peer, Serve, acquired, batch

Make = Callable[..., Awaitable[Peer]]


@asynccontextmanager
async def a_trainer(serve: Serve, storage: Storage, engine: Any, **options: Any) -> AsyncIterator[Peer]:
    """One trainer's life. Whatever it has not finished when the block ends, it never will."""
    server = Trainer(storage, api_key=KEY, **options)
    peer = await serve(server.app)
    await server.open(RUN, engine)
    yield peer
    await server.app.shutdown()
    engine.gate.set()
    assert await server.release(10)


async def test_results_ids_and_keys_outlive_the_process(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine) as peer:
        finished = await peer.submit("/forward_backward", batch(1, 2), key="one")
        result = await peer.result(finished)
        failed = await peer.submit("/load_state", {"path": await saved(peer)}, key="two")
        await peer.result(failed)
    async with a_trainer(serve, storage, double_engine.Trainer()) as again:
        assert await again.result(finished) == result
        assert await again.submit("/forward_backward", batch(1, 2), key="one") == finished
        refused = await again.post("/forward_backward", batch(1, 3), key="one")
        assert (refused.status, "Idempotency-Key" in refused.json["detail"]) == (422, True)
        assert (await again.get("/operations/nothing")).status == 404


async def saved(peer: Peer) -> str:
    return str((await peer.do("/save_state", {"name": "a"}))["path"])


async def test_what_had_not_finished_is_done_by_the_next_process_in_order(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine) as peer:
        first = await peer.submit("/forward_backward", batch(1, 2))
        await peer.result(first)
        engine.gate.clear()
        waiting = [await peer.submit("/forward_backward", batch(2, 3))]
        await acquired(engine.started)
        await acquired(engine.started)
        waiting.append(await peer.submit("/optim_step", {"adam_params": {"learning_rate": 1.0}}))
        waiting.append(await peer.submit("/save_state", {"name": "a"}))
        waiting.append(await peer.submit("/forward", batch(5, 6)))
    successor = double_engine.Trainer()
    async with a_trainer(serve, storage, successor) as again:
        results = [await again.result(one) for one in waiting]
        assert results[1]["metrics"]["step"] == 1
        assert results[2]["policy_version"] == 1
        assert successor.seen[-1] == 5
        assert successor.seen.index("step") < len(successor.seen) - 1
    straight = double_engine.Trainer()
    straight.forward_backward(*passes(batch(1, 2)))
    straight.forward_backward(*passes(batch(2, 3)))
    assert successor.step == 1
    assert (successor.moments[0] == (1 - 0.9) * straight.gradient).all()  # beta1 0.9: the gradient of both passes, once


def passes(body: dict[str, Any]) -> tuple[Any, ...]:
    from loops_sdk._wire.bodies import ForwardBackwardBody
    from loops_sdk._wire.codec import decode_request, dumps

    read = decode_request(dumps(body), ForwardBackwardBody)
    return read.data, read.loss_fn, read.loss_fn_config


async def test_the_adapter_of_a_run_without_a_seed_and_of_a_new_start_come_back(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine) as peer:
        await peer.do("/init_trainer_server", {"lora_rank": 16, "lora_alpha": 8, "train_mlp": False})
        config = engine.config
    successor = double_engine.Trainer()
    async with a_trainer(serve, storage, successor) as again:
        assert successor.config == config
        assert (await again.get("/status")).json["lora_rank"] == 16


async def test_a_trainer_that_is_coming_up_knows_its_operations_and_keeps_the_others_waiting(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine) as peer:
        finished = await peer.submit("/forward_backward", batch(1, 2))
        result = await peer.result(finished)
    server = Trainer(storage, api_key=KEY, hold=0.05)
    peer = await serve(server.app)
    early = await peer.get(f"/operations/{finished}")
    assert (early.status, early.headers["Retry-After"]) == (503, "1")  # never 404: nobody knows yet
    await server.attach(RUN)
    assert await peer.result(finished) == result
    assert (await peer.get("/health")).status == 503
    assert (await peer.post("/optim_step", {})).status == 503
    server._hold = 30.0
    submitting = asyncio.create_task(peer.submit("/optim_step", {}))
    reading = asyncio.create_task(peer.get("/policy_version"))
    await asyncio.sleep(0)
    await server.open(RUN, double_engine.Trainer())
    assert (await peer.result(await submitting))["metrics"]["step"] == 1
    assert (await reading).json["policy_version"] in (0, 1)


async def test_a_run_that_was_never_durable_leaves_nothing(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine, durable=False) as peer:
        done = await peer.submit("/forward_backward", batch(1, 2))
        await peer.result(done)
        await peer.do("/optim_step", {})
    left = {path.name for path in (storage.root / "runs" / RUN.id).iterdir()}
    assert left == {"run.json", "saves", "weights", "sampler_weights", "history.jsonl"}  # the last one for people


async def test_dropped_results_are_dropped_for_the_next_process_too(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    bounds = Bounds(results=1)
    async with a_trainer(serve, storage, engine, bounds=bounds) as peer:
        old = await peer.submit("/forward", batch(1, 2), key="old")
        for _ in range(2):
            new = await peer.submit("/forward", batch(1, 2))
            await peer.result(new)
    async with a_trainer(serve, storage, double_engine.Trainer(), bounds=bounds) as again:
        assert (await again.get(f"/operations/{old}")).status == 404
        assert (await again.post("/forward", batch(1, 2), key="old")).status == 409
        await again.result(new)


async def test_an_operation_that_takes_the_process_down_each_time_is_given_up(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine) as peer:
        await peer.do("/forward_backward", batch(1, 2))
    server = Trainer(storage, api_key=KEY)
    await server.attach(RUN)
    assert server._durability is not None
    deadly = server._operations.submit("forward_backward", "deadly", b"", bytes, body=b"{}")
    for _ in range(MOST_REDONE):
        server._durability.journal.redo(server._operations._records.get(deadly).seq)
    await server._operations.aclose()
    async with a_trainer(serve, storage, double_engine.Trainer()) as again:
        answer = (await again.get(f"/operations/{deadly}")).json
        assert answer["status"] == "error"
        assert "died 6 times" in answer["error"]["message"]
        step = (await again.get(f"/operations/{await again.submit('/optim_step', {})}")).json
        assert "forward_backward since the last step failed" in step["error"]["message"]  # half a batch is no batch
        await again.do("/forward_backward", batch(1, 2))
        assert (await again.do("/optim_step", {}))["metrics"]["step"] == 1


async def test_a_disk_that_refuses_a_state_ends_the_trainer_and_the_step_is_done_by_the_next_one(
    storage: Storage, serve: Serve, engine: double_engine.Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Trainer(storage, api_key=KEY)
    peer = await serve(server.app)
    await server.open(RUN, engine)
    await peer.do("/forward_backward", batch(1, 2))

    def refuse(folder: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(engine, "save_state", refuse)
    step = await peer.submit("/optim_step", {})
    with pytest.raises(OSError, match="no space left"):
        await asyncio.wait_for(server.broken(), 10)
    assert (await peer.get(f"/operations/{step}")).status == 503
    assert (await peer.post("/optim_step", {})).status == 503
    await server.app.shutdown()
    assert await server.release(10)
    async with a_trainer(serve, storage, double_engine.Trainer()) as again:
        assert (await again.result(step))["metrics"]["step"] == 1


async def test_weights_that_do_not_fit_are_said_in_words(storage: Storage, engine: double_engine.Trainer) -> None:
    await with_saved(storage, engine)
    other = attrs.evolve(RUN, id="run8", lora_rank=8, load_from=f"bt://loops:{RUN.id}/weights/a")
    storage.write_run(other)
    with pytest.raises(DeploymentFailedError, match="does not fit this trainer"):
        await Trainer(storage, api_key=KEY).open(other, double_engine.Trainer())


async def with_saved(storage: Storage, engine: double_engine.Trainer) -> None:
    server = Trainer(storage, api_key=KEY)
    await server.open(RUN, engine)
    operations = server._operations
    operation = server._admit(SAVE_STATE, None, b'{"name":"a"}')
    assert await operations.retrieve(operation) is not None
    assert await server.release(10)


async def test_a_saved_state_that_is_gone_is_said_in_words(storage: Storage, engine: double_engine.Trainer) -> None:
    await with_saved(storage, engine)

    def misfit(folder: Path, *, optimizer: bool) -> None:
        raise RuntimeError("another base model")

    successor = double_engine.Trainer()
    successor.load_state = misfit  # type: ignore[method-assign]
    with pytest.raises(DeploymentFailedError, match="cannot be resumed: another base model"):
        await Trainer(storage, api_key=KEY).open(RUN, successor)


def test_the_saved_state_that_counts_is_never_written_over(tmp_path: Path, engine: double_engine.Trainer) -> None:
    durability = Durability(tmp_path / "progress")
    durability.begin(engine)
    save = engine.save_state

    def torn(folder: Path) -> None:
        save(folder)
        (folder / "state.json").write_text("torn")
        raise OSError("no space left on device")

    for seq in range(1, 4):
        counts = durability.journal.state()
        assert counts is not None
        engine.save_state = torn  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no space"):
            durability.keep(engine, OPTIM_STEP.name, failed=False)
        double_engine.Trainer().load_state(tmp_path / "progress" / "states" / counts.folder, optimizer=True)
        engine.save_state = save  # type: ignore[method-assign]
        kept = durability.keep(engine, OPTIM_STEP.name, failed=False)
        durability.journal.finish(seq, b"{}", 0.0, error=None, keep_body=False, state=kept)
        assert durability.journal.state() == kept != counts
    assert len(list((tmp_path / "progress" / "states").iterdir())) == 2
    durability.journal.close()
