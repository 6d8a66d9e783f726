"""The trainer over HTTP: what is refused at submit, what is done, in which order, and what is published."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import double_engine
import pytest

from loops_sdk.local.engine import AdapterConfig
from loops_sdk.local.operations import Bounds
from loops_sdk.local.storage import Storage
from loops_sdk.local.trainer import Trainer
from loops_sdk.types import CheckpointPath

from .conftest import KEY, RUN, Peer, Serve, acquired, batch

Make = Callable[..., Awaitable[Peer]]


async def test_a_step_trains(trainer: Make) -> None:
    peer = await trainer()
    first = await peer.do("/forward_backward", batch(1, 2, 2))
    assert first["loss"] == pytest.approx(2 * 3.4657, rel=1e-4)
    assert first["loss_fn_outputs"][0]["logprobs"]["shape"] == [3]
    step = await peer.do("/optim_step", {"adam_params": {"learning_rate": 0.5}})
    assert step["metrics"]["step"] == 1
    assert (await peer.do("/forward", batch(1, 2, 2)))["loss"] < first["loss"]
    assert (await peer.get("/policy_version")).json == {"policy_version": 1}
    status = (await peer.get("/status")).json
    assert status["step"] == 1
    assert status["world_size"] == 1


async def test_operations_are_done_in_order_of_arrival_however_long_each_takes_to_decode(
    trainer: Make, engine: double_engine.Trainer
) -> None:
    peer = await trainer()
    sizes = [5000, 1, 3000, 1, 1, 4000, 1]
    bodies = [{"data": batch(number, 1)["data"] * size} for number, size in enumerate(sizes)]
    ids = [await peer.submit("/forward", body) for body in bodies]
    await asyncio.gather(*(peer.result(one) for one in ids))
    assert engine.seen == list(range(len(sizes)))


async def test_two_hundred_submitted_before_any_is_awaited(trainer: Make, engine: double_engine.Trainer) -> None:
    peer = await trainer()
    engine.gate.clear()
    ids = [await peer.submit("/forward_backward", batch(number % 32, 1)) for number in range(200)]
    assert (await peer.get("/status")).json["queued"] >= 198
    engine.gate.set()
    await asyncio.gather(*(peer.result(one) for one in reversed(ids)))
    assert engine.seen == [number % 32 for number in range(200)]


async def test_a_key_sent_twice_is_one_operation(trainer: Make, engine: double_engine.Trainer) -> None:
    peer = await trainer()
    twins = await asyncio.gather(*(peer.submit("/forward_backward", batch(1, 2), key="k") for _ in range(5)))
    assert len(set(twins)) == 1
    await peer.result(twins[0])
    assert engine.seen == [1]
    for path, body in (("/forward_backward", batch(1, 3)), ("/forward", batch(1, 2))):
        refused = await peer.post(path, body, key="k")
        assert refused.status == 422
        assert "Idempotency-Key" in refused.json["detail"]


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/forward_backward", {"data": [], "loss_fn": "cross_entropy"}, "data"),
        ("/forward_backward", batch(1, 99), "data[0].model_input"),
        ("/forward_backward", {**batch(1), "loss_fn": "nothing"}, "loss_fn"),
        ("/forward_backward", {**batch(1), "losfn": 1}, "losfn"),
        ("/forward_backward", {"loss_fn": "cross_entropy"}, "data"),
        ("/forward_backward", b"{", "body"),
        ("/optim_step", {"adam_params": {"learning_rate": -1}}, "learning_rate"),
        ("/optim_step", {"adam_params": {"momentum": 1}}, "momentum"),
        ("/save_state", {"name": "../../etc", "trainer_server_id": "x"}, "name"),
        ("/save_state", {"name": "a", "run_id": "another"}, "run_id"),
        ("/save_state", {"name": "a", "ttl_seconds": 0}, "ttl_seconds"),
        ("/save_weights_for_sampler", {}, "name"),
        ("/init_trainer_server", {}, "lora_rank"),
        ("/init_trainer_server", {"lora_rank": 0}, "lora_rank"),
        ("/init_trainer_server", {"lora_rank": 1025}, "lora_rank"),
        ("/init_trainer_server", {"lora_rank": 4, "lora_alpha": 0}, "lora_alpha"),
        ("/init_trainer_server", {"lora_rank": 4, "seed": -1}, "seed"),
        ("/init_trainer_server", {"lora_rank": 4, "seed": 2**63}, "seed"),
        ("/init_trainer_server", {"lora_rank": 4, "train_mlp": "no"}, "train_mlp"),
        (
            "/init_trainer_server",
            {"lora_rank": 4, "train_attn": False, "train_mlp": False, "train_unembed": False},
            "train_attn, train_mlp, train_unembed: expected at least one to be true",
        ),
        ("/load_state", {}, "path"),
        ("/load_state", {"path": "base"}, "path: expected bt://loops:"),
        ("/load_state_with_optimizer", {"path": "bt://loops:run7/sampler_weights/a"}, "path: expected bt://loops:"),
        ("/load_state", {"path": "bt://loops:run7/weights/a", "optimizer": True}, "optimizer"),
    ],
)
async def test_bad_input_is_refused_at_submit_by_name(trainer: Make, path: str, body: Any, names: str) -> None:
    refused = await (await trainer()).post(path, body)
    assert refused.status == 422
    assert names in refused.json["detail"]


async def test_a_key_that_is_no_key_is_refused(trainer: Make) -> None:
    refused = await (await trainer()).post("/optim_step", {}, key="k" * 256)
    assert refused.status == 422


async def test_a_run_may_take_shorter_sequences_than_its_model(trainer: Make) -> None:
    peer = await trainer(attrs.evolve(RUN, max_seq_len=3))
    assert (await peer.get("/status")).json["max_seq_len"] == 3
    refused = await peer.post("/forward", batch(1, 2, 3, 4))
    assert refused.status == 422
    assert "max_seq_len of 3" in refused.json["detail"]


async def test_a_step_without_gradient_fails_as_an_operation(trainer: Make) -> None:
    peer = await trainer()
    operation_id = await peer.submit("/optim_step", {})
    answer = await peer.get(f"/operations/{operation_id}")
    assert answer.status == 200
    assert answer.json["status"] == "error"
    assert answer.json["error_class"] == "RuntimeError"
    assert "forward_backward first" in answer.json["error"]["message"]


async def test_a_question_about_a_running_operation_is_held_for_a_while(
    trainer: Make, engine: double_engine.Trainer
) -> None:
    peer = await trainer(hold=0.01)
    engine.gate.clear()
    operation_id = await peer.submit("/forward", batch(1))
    await acquired(engine.started)
    answer = await peer.get(f"/operations/{operation_id}")
    assert (answer.status, answer.json) == (200, {"status": "running"})
    assert (await peer.get("/status")).json["running"] == "forward"
    engine.gate.set()


async def test_dropped_and_unknown_operations_answer_404(trainer: Make) -> None:
    peer = await trainer(bounds=Bounds(results=1))
    first = await peer.submit("/forward", batch(1))
    await peer.do("/forward", batch(2))
    assert (await peer.get(f"/operations/{first}")).status == 404
    assert (await peer.get("/operations/nothing")).status == 404


async def test_too_much_waiting_work_is_429(trainer: Make, engine: double_engine.Trainer) -> None:
    peer = await trainer(bounds=Bounds(queued=1))
    engine.gate.clear()
    await peer.submit("/forward", batch(1))
    await acquired(engine.started)
    await peer.submit("/forward", batch(1))
    refused = await peer.post("/forward", batch(1))
    assert refused.status == 429
    assert float(refused.headers["Retry-After"]) > 0
    engine.gate.set()


async def test_both_saves_write_a_checkpoint_and_publish_it(trainer: Make, storage: Storage) -> None:
    peer = await trainer()
    await peer.do("/forward_backward", batch(1, 2))
    await peer.do("/optim_step", {})
    saved = await peer.do(
        "/save_weights_for_sampler", {"name": "step-1", "trainer_server_id": "run7", "run_id": "run7"}
    )
    path = "bt://loops:run7/sampler_weights/step-1"
    assert saved == {"path": path, "type": "save_weights", "policy_version": 1}
    live = storage.live("run7")
    assert live is not None
    assert (live.name, live.policy_version) == ("step-1", 1)
    await peer.do("/forward_backward", batch(1, 2))
    await peer.do("/optim_step", {})
    assert (await peer.do("/save_state", {"name": "step-1"}))["path"] == "bt://loops:run7/weights/step-1"
    live = storage.live("run7")
    assert live is not None
    assert live.policy_version == 2
    assert [(one.checkpoint.target, one.policy_version) for one in storage.checkpoints("run7")] == [
        ("sampler", 1),
        ("trainer", 2),
    ]


async def test_a_run_can_start_from_the_weights_of_another(
    trainer: Make, storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    peer = await trainer()
    await peer.do("/forward_backward", batch(1, 2))
    await peer.do("/optim_step", {"adam_params": {"learning_rate": 1}})
    await peer.do("/save_state", {"name": "base", "ttl_seconds": 60})
    loss = (await peer.do("/forward", batch(1, 2)))["loss"]
    assert storage.checkpoint(CheckpointPath("run7", "weights", "base")).expires_at is not None
    successor = attrs.evolve(RUN, id="run8", load_from="bt://loops:run7/weights/base")
    storage.write_run(successor)
    other = Trainer(storage, api_key=KEY)
    again = await serve(other.app)
    await other.open(successor, double_engine.Trainer())
    assert (await again.do("/forward", batch(1, 2)))["loss"] == loss
    assert (await again.get("/policy_version")).json == {"policy_version": 0}


async def train(peer: Peer, steps: int) -> None:
    for _ in range(steps):
        await peer.do("/forward_backward", batch(1, 2))
        await peer.do("/optim_step", {"adam_params": {"learning_rate": 0.1}})


async def successor(storage: Storage, serve: Serve, engine: double_engine.Trainer, **options: Any) -> Peer:
    """The trainer of another run in the same data directory."""
    run = attrs.evolve(RUN, id="run8", **options)
    storage.write_run(run)
    other = Trainer(storage, api_key=KEY)
    peer = await serve(other.app)
    await other.open(run, engine)
    return peer


@pytest.mark.parametrize(("path", "version"), [("/load_state", 0), ("/load_state_with_optimizer", 2)])
async def test_another_run_goes_on_from_a_checkpoint(
    trainer: Make, storage: Storage, serve: Serve, engine: double_engine.Trainer, path: str, version: int
) -> None:
    peer = await trainer()
    await train(peer, 2)
    saved = (await peer.do("/save_state", {"name": "two"}))["path"]
    logits, moments = engine.logits, engine.moments
    other = double_engine.Trainer()
    again = await successor(storage, serve, other)
    await again.do("/forward_backward", batch(1, 2))
    assert await again.do(path, {"path": saved}) == {"path": saved, "type": "load_weights", "policy_version": version}
    assert (other.logits == logits).all()
    assert (other.moments == (moments if version else 0)).all()
    assert (await again.get("/policy_version")).json == {"policy_version": version}
    refused = await again.get(f"/operations/{await again.submit('/optim_step', {})}")
    assert "forward_backward first" in refused.json["error"]["message"]  # what had accumulated is gone
    assert storage.live("run8") is None  # a load publishes nothing
    await train(again, 1)
    assert (await again.do("/save_state", {"name": "on"}))["policy_version"] == version + 1


async def test_a_load_waits_for_its_turn_and_takes_what_is_saved_then(
    trainer: Make, engine: double_engine.Trainer
) -> None:
    peer = await trainer()
    path = (await peer.do("/save_state", {"name": "a"}))["path"]
    engine.gate.clear()
    await peer.submit("/forward_backward", batch(1, 2))
    await peer.submit("/optim_step", {})
    await peer.submit("/save_state", {"name": "a"})
    load = await peer.submit("/load_state_with_optimizer", {"path": path})
    engine.gate.set()
    assert (await peer.result(load))["policy_version"] == 1


@pytest.mark.parametrize("path", ["bt://loops:run7/weights/nothing", "bt://loops:nobody/weights/a"])
async def test_a_checkpoint_that_is_not_there_is_refused_at_submit(trainer: Make, path: str) -> None:
    refused = await (await trainer()).post("/load_state", {"path": path})
    assert refused.status == 404
    assert refused.json["detail"].startswith(f"there is no checkpoint {path}; `loops checkpoints list --run-id ")


async def test_a_load_that_was_accepted_stays_so_when_its_checkpoint_has_gone(trainer: Make, storage: Storage) -> None:
    peer = await trainer()
    path = (await peer.do("/save_state", {"name": "a"}))["path"]
    accepted = await peer.submit("/load_state", {"path": path}, key="k")
    await peer.result(accepted)
    (storage.root / "runs" / "run7" / "weights" / "a").unlink()
    assert await peer.submit("/load_state", {"path": path}, key="k") == accepted
    assert (await peer.post("/load_state", {"path": path})).status == 404


async def test_a_checkpoint_of_another_rank_fails_the_operation_and_changes_nothing(
    trainer: Make, storage: Storage, serve: Serve
) -> None:
    peer = await trainer()
    path = (await peer.do("/save_state", {"name": "a"}))["path"]
    engine = double_engine.Trainer()
    again = await successor(storage, serve, engine, lora_rank=8)
    await train(again, 1)
    before = engine.logits
    answer = (await again.get(f"/operations/{await again.submit('/load_state', {'path': path})}")).json
    assert answer["error_class"] == "RuntimeError"
    assert answer["error"]["message"] == (
        f"{path} does not fit this trainer, which stays as it was: saved with r=4, this adapter has 8"
    )
    assert (engine.logits == before).all()
    assert (await again.get("/policy_version")).json == {"policy_version": 1}


async def test_starting_over_with_a_fresh_adapter(
    trainer: Make, storage: Storage, engine: double_engine.Trainer
) -> None:
    peer = await trainer()
    await train(peer, 2)
    path = (await peer.do("/save_state", {"name": "two"}))["path"]
    await peer.do("/forward_backward", batch(1, 2))
    started = await peer.do("/init_trainer_server", {"lora_rank": 8, "lora_alpha": 16, "seed": 3})
    parts = {"train_attn": True, "train_mlp": True, "train_unembed": True}
    assert started == {"lora_rank": 8, "lora_alpha": 16, "seed": 3, **parts}
    assert engine.config == AdapterConfig(lora_rank=8, lora_alpha=16, seed=3)
    assert not engine.logits.any()
    status = (await peer.get("/status")).json
    assert (status["lora_rank"], status["step"]) == (8, 0)
    for operation, body, says in (
        ("/optim_step", {}, "forward_backward first"),
        ("/load_state", {"path": path}, "saved with r=4, this adapter has 8"),
    ):
        failed = (await peer.get(f"/operations/{await peer.submit(operation, body)}")).json
        assert says in failed["error"]["message"]
    live = storage.live("run7")
    assert live is not None
    assert live.name == "two"  # nothing is published
    await train(peer, 1)
    saved = await peer.do("/save_state", {"name": "on"})
    assert saved["policy_version"] == 1
    (known,) = [one.checkpoint for one in storage.checkpoints("run7") if one.checkpoint.checkpoint_id == "on"]
    assert known.lora_adapter_config is not None
    assert known.lora_adapter_config["r"] == 8
    seeds = set()
    for _ in range(2):
        flags = {"train_attn": False, "train_mlp": True, "train_unembed": False}
        started = await peer.do("/init_trainer_server", {"lora_rank": 4, **flags})
        assert started == {"lora_rank": 4, "lora_alpha": 32, "seed": engine.config.seed, **flags}
        assert engine.config == AdapterConfig(4, seed=started["seed"], **flags)
        seeds.add(started["seed"])
    assert len(seeds) == 2  # drawn, and told so that it can be given again


async def test_before_the_engine_is_there_every_route_is_503(storage: Storage, serve: Serve) -> None:
    peer = await serve(Trainer(storage, api_key=KEY, hold=0.01).app)
    answers = [await peer.get(path) for path in ("/health", "/status", "/policy_version")]
    answers.append(await peer.post("/forward_backward", batch(1)))
    assert {answer.status for answer in answers} == {503}
    assert all("loading" in answer.json["detail"] for answer in answers)


async def test_a_body_that_arrives_while_the_trainer_shuts_down_is_503(
    storage: Storage, engine: double_engine.Trainer, serve: Serve
) -> None:
    server = Trainer(storage, api_key=KEY)
    peer = await serve(server.app)
    await server.open(RUN, engine)
    first_half, rest = asyncio.Event(), asyncio.Event()

    async def slowly() -> Any:
        yield b'{"data":'
        first_half.set()
        await rest.wait()
        yield b"[]}"

    sending = asyncio.create_task(peer.send("POST", "/forward", data=slowly()))
    await first_half.wait()
    await server.app.shutdown()
    rest.set()
    assert (await sending).status == 503


async def test_health_is_200_once_the_adapter_is_made(trainer: Make) -> None:
    assert (await (await trainer()).get("/health")).status == 200


async def test_a_large_body_is_taken_and_a_too_large_one_refused(trainer: Make) -> None:
    peer = await trainer(body_limit=4 * 2**20)
    large = {"data": batch(*range(30))["data"] * 10_000}
    assert len((await peer.do("/forward", large))["loss_fn_outputs"]) == 10_000
    assert (await peer.post("/forward", b" " * (4 * 2**20 + 1))).status == 413

    async def endless() -> Any:
        for _ in range(5):
            yield b" " * 2**20

    refused = await peer.send("POST", "/forward", data=endless())
    assert refused.status == 413
