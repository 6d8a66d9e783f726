"""An engine outlives the server that used it: it is let go when nothing computes any more, and is as good as new."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import attrs
import double_engine
import pytest

from loops_sdk.local.sampler import Sampler
from loops_sdk.local.serving import Server
from loops_sdk.local.storage import Storage
from loops_sdk.local.trainer import Trainer
from loops_sdk.types import CheckpointPath

from .conftest import KEY, RUN, SAMPLER, Peer, Serve, acquired, batch, until

TRAIN = {**batch(5, 5, 5)}
SAMPLE = {"model": "run7", "prompt": [1], "max_tokens": 2, "temperature": 0}


async def test_a_trainer_lets_go_when_its_operation_has_ended(storage: Storage, engine: double_engine.Trainer) -> None:
    trainer = Trainer(storage, api_key=KEY)
    server = Server(trainer.app)
    await server.start()
    await trainer.open(RUN, engine)
    engine.gate.clear()
    async with aiohttp.ClientSession() as session:
        await Peer(session, f"http://127.0.0.1:{server.port}").submit("/forward_backward", TRAIN)
        await acquired(engine.started)
    await server.aclose()
    assert not await trainer.release(0.01)
    engine.gate.set()
    assert await trainer.release(10)


async def test_the_next_run_begins_anew_with_the_same_engine(
    storage: Storage, engine: double_engine.Trainer, serve: Serve
) -> None:
    first = Trainer(storage, api_key=KEY)
    peer = await serve(first.app)
    await first.open(RUN, engine)
    await peer.do("/forward_backward", TRAIN)
    await peer.do("/optim_step", {"adam_params": {"learning_rate": 1.0}})
    assert await first.release(10)
    storage.write_run(attrs.evolve(RUN, id="next", lora_rank=8))
    second = Trainer(storage, api_key=KEY)
    other = await serve(second.app)
    await second.open(storage.run("next"), engine)
    status = (await other.get("/status")).json
    assert (status["run_id"], status["step"], status["lora_rank"]) == ("next", 0, 8)
    await other.do("/forward_backward", TRAIN)
    saved = await other.do("/save_state", {"name": "a", "run_id": "next"})
    assert saved["path"] == "bt://loops:next/weights/a"


async def test_a_trainer_that_was_never_opened_has_nothing_to_let_go(storage: Storage) -> None:
    assert await Trainer(storage, api_key=KEY).release(0.01)
    assert await Sampler(storage, api_key=KEY).release(0.01)


async def test_a_sampler_lets_go_and_takes_its_adapters_along(
    storage: Storage, generator: double_engine.Generator, serve: Serve
) -> None:
    publish(storage)
    sampler = Sampler(storage, api_key=KEY)
    server = Server(sampler.app, cancel_on_disconnect=True)
    await server.start()
    await sampler.open(SAMPLER, generator)
    async with aiohttp.ClientSession() as session:
        peer = Peer(session, f"http://127.0.0.1:{server.port}")
        assert (await peer.post("/v1/completions", SAMPLE)).status == 200
        assert len(generator.adapters) == 1
        generator.gate.clear()
        asking = asyncio.create_task(peer.post("/v1/completions", {**SAMPLE, "max_tokens": 50}))
        await until(lambda: generator.pending)
        await server.aclose()
        with contextlib.suppress(aiohttp.ClientError):
            await asking
    assert await sampler.release(10)
    assert (generator.adapters, generator.pending) == ({}, 0)
    generator.gate.set()
    again = Sampler(storage, api_key=KEY)
    other = await serve(again.app)
    await again.open(SAMPLER, generator)
    assert (await other.post("/v1/completions", SAMPLE)).status == 200


def publish(storage: Storage) -> None:
    engine, path = double_engine.Trainer(), CheckpointPath("run7", "sampler_weights", "a")
    config = dict(engine.adapter_config)
    saved = storage.save(path, engine.save_adapter, base_model="m", adapter_config=config, policy_version=1)
    storage.publish(saved)


@pytest.mark.parametrize(("named", "status"), [("dep7", 202), ("other", 404), ("..%2Fdep7", 404)])
async def test_a_sampler_is_awake(
    storage: Storage, generator: double_engine.Generator, serve: Serve, named: str, status: int
) -> None:
    sampler = Sampler(storage, api_key=KEY)
    peer = await serve(sampler.app)
    assert (await peer.post("/deployment/dep7/wake")).status == 503  # it is not there yet
    await sampler.open(attrs.evolve(SAMPLER, deployment_id="dep7"), generator)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with peer.session.post(f"{peer.url}/deployment/{named}/wake", headers=headers) as response:
        assert response.status == status
        assert (await response.read() == b"") == (status == 202)
    async with peer.session.post(f"{peer.url}/deployment/{named}/wake") as response:
        assert response.status == 401
