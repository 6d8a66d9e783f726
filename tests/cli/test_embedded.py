"""The commands beside an embedded deployment over an engine without torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

import loops_sdk
from loops_sdk import AdamParams, Datum, ModelInput, ServiceClient
from loops_sdk.local import LocalStack

from .conftest import Loops

MODEL = "double/model"
#: Of a pass of the double over three tokens, of 32 that are equally likely to it; it does not count positions.
LOSS = 3 * math.log(32)
DOUBLES = Path(__file__).parents[1] / "local" / "doubles"
SOURCE = Path(loops_sdk.__file__).parents[1]


@attrs.frozen
class Saved:
    """A run of the deployment with one checkpoint of each kind."""

    stack: LocalStack
    run_id: str
    adapter: str
    state: str


@pytest.fixture
async def saved(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Saved]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCE), str(DOUBLES)]))
    async with (
        LocalStack(MODEL, engine="double_engine", max_processes=3) as stack,
        ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service,
    ):
        training = await service.create_lora_training_client_async(MODEL, rank=4, name="lessons")
        datum = Datum(ModelInput.from_ints([1, 2, 3]), {"target_tokens": [2, 3, 1]})
        await training.forward_backward_async([datum])
        await training.optim_step_async(AdamParams(learning_rate=0.1))
        adapter = (await (await training.save_weights_for_sampler_async("step-1"))).path
        state = (await (await training.save_state_async("step-1"))).path
        yield Saved(stack, str(training.run_id), adapter, state)


@pytest.fixture
def ask(saved: Saved, loops: Loops, monkeypatch: pytest.MonkeyPatch) -> Loops:
    """Run a command with what `loops serve` would have printed in the environment."""
    for name, value in saved.stack.env.items():
        monkeypatch.setenv(name, value)
    return loops


async def test_what_runs_what_was_saved_and_its_end(saved: Saved, ask: Loops, tmp_path: Path) -> None:
    (run,) = (await ask("runs", "list", "--json")).json
    assert (run["id"], run["name"], run["status"]) == (saved.run_id, "lessons", {"name": "ACTIVE"})
    assert run["sampler"] is None

    listed = (await ask("checkpoints", "list", "--run-id", saved.run_id)).out
    assert saved.adapter in listed
    assert saved.state in listed
    (checkpoint,) = (await ask("checkpoints", "list", "--path", saved.adapter, "--json")).json
    files = (await ask("checkpoints", "files", checkpoint["id"], "--json")).json
    assert {file["relative_file_name"] for file in files} >= {"adapter_config.json", "adapter_model.json"}
    assert sum(file["size_bytes"] for file in files) == checkpoint["size_bytes"]

    done = await ask("checkpoints", "download", saved.adapter, str(tmp_path / "adapter"), "--json")
    assert len(done.json["files"]) == len(files)
    logits = json.loads((tmp_path / "adapter" / "adapter_model.json").read_text())
    assert logits[2] == pytest.approx(0.1, abs=1e-3)  # one step of Adam towards what was learned
    assert (await ask("checkpoints", "download", saved.state, str(tmp_path / "state"))).code == 0
    assert json.loads((tmp_path / "state" / "state.json").read_text())["step"] == 1

    known = (await ask("runs", "show", saved.run_id, "--json")).json["operations"]
    assert {(one["operation"], one["status"]) for one in known} >= {
        ("forward_backward", "done"),
        ("optim_step", "done"),
    }
    shown = (await ask("runs", "show", saved.run_id)).out
    assert all(one["operation_id"] in shown and one["idempotency_key"] in shown for one in known)

    ended = await ask("runs", "deactivate", saved.run_id, "--yes")
    assert (ended.code, ended.out) == (0, f"run {saved.run_id} has ended; its checkpoints stay\n")
    shown = await ask("runs", "show", saved.run_id)
    assert "INACTIVE" in shown.out
    assert saved.adapter in shown.out
    left = await ask("runs", "list")
    assert (left.out, left.err) == ("no active runs\n", "ended runs hidden: 1 (--all shows them)\n")


async def test_a_run_is_watched(saved: Saved, ask: Loops) -> None:
    said = (await ask("runs", "watch", "--once", "--json")).json
    assert (said["run"]["id"], said["run"]["state"], said["troubles"]) == (saved.run_id, "RUNNING", [])
    assert (said["policy_version"], said["lag"], said["queued"]) == (1, None, 0)
    assert said["sampler"] == {"state": None, "policy_version": None}
    done = [(one["operation"], one["status"]) for one in said["operations"]]
    assert done[-2:] == [("optim_step", "done"), ("forward_backward", "done")]
    assert all(one["seconds"] >= 0 for one in said["operations"])
    assert said["metrics"]["loss"] == pytest.approx(LOSS, rel=1e-3)  # from the trainer's own results

    async with ServiceClient(base_url=saved.stack.base_url, api_key=saved.stack.api_key) as service:
        training = await service.attach_training_client_async(saved.run_id)
        await (await training.save_weights_and_get_sampling_client_async("step-1-again"))
        await training.forward_backward_async([Datum([1, 2, 3], {"target_tokens": [2, 3, 1]})])
        await (await training.optim_step_async(AdamParams(learning_rate=0.1)))
    said = (await ask("runs", "watch", saved.run_id, "--once", "--json")).json
    assert said["sampler"] == {"state": "ACTIVE", "policy_version": 1}
    assert (said["policy_version"], said["lag"], said["troubles"]) == (2, 1, [])

    assert "1 behind the trainer" in (await ask("runs", "watch", "--once")).out
    await ask("runs", "deactivate", saved.run_id, "--yes")
    done_with = await ask("runs", "watch", saved.run_id)
    assert (done_with.code, done_with.err) == (0, f"run {saved.run_id} has ended\n")
    assert "optim_step" in done_with.out  # what it did is on the disk


async def test_models(ask: Loops) -> None:
    (model,) = (await ask("models", "--json")).json
    assert (model["model_name"], model["enabled"]) == (MODEL, True)
    assert "takes at most 64 tokens" in (await ask("models", "--max-seq-len", "65")).out
    assert (await ask("models", "--model", "acme/other")).out == "no models\n"


NOT_THERE = [
    (["runs", "show", "nowhere"], "there is no run 'nowhere'"),
    (["runs", "deactivate", "nowhere", "--yes"], "there is no run 'nowhere'"),
    (["checkpoints", "list", "--run-id", "nowhere"], "there is no run 'nowhere'"),
    (["checkpoints", "list", "--path", "bt://loops:nowhere/weights/x"], "there is no checkpoint"),
    (["checkpoints", "files", "nowhere"], "there is no checkpoint"),
    (["checkpoints", "download", "nowhere", "adapter"], "there is no checkpoint"),
]


async def test_what_is_not_there_and_who_may_not_ask(ask: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    for args, says in NOT_THERE:
        done = await ask(*args)
        assert (done.code, done.out) == (1, ""), args
        assert done.err.startswith(f"NotFoundError: {says}"), args
        assert done.err.count("\n") == 1, args
    monkeypatch.setenv("BASETEN_API_KEY", "wrong")
    for args, _ in NOT_THERE:
        done = await ask(*args)
        assert (done.code, done.out) == (1, ""), args
        assert done.err.startswith("AuthenticationError: "), args
