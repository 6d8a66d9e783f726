"""The control plane over HTTP: what it makes, how it reports it, what it refuses."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from loops_sdk._wire.codec import from_dict
from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.types import Run, Sampler

from .conftest import KEY, Peer, Serve
from .doubles.double_launcher import Launcher
from .plane import Plane, started


@pytest.fixture
async def plane(tmp_path: Path, serve: Serve) -> Plane:
    return await started(tmp_path, serve)


async def test_sessions(plane: Plane) -> None:
    assert await plane.get(f"sessions/{plane.session}") == {"session": {"id": plane.session}}
    with_project = await plane.peer.post("/v1/loops/sessions", {"training_project_id": "p"})
    assert with_project.json["session"]["id"] != plane.session
    for wrong in ("nothing", "..%2f..%2fetc"):
        assert (await plane.peer.get(f"/v1/loops/sessions/{wrong}")).status in (404, 422)


async def test_a_run_with_its_sampler(plane: Plane) -> None:
    run = await plane.run(lora_rank=8, seed=3, max_seq_len=32, name="mine")
    from_dict(Run, run)
    assert (run["session_id"], run["name"], run["status"]) == (plane.session, "mine", {"name": "ACTIVE"})
    assert run["base_url"] == f"http://127.0.0.1:{plane.launcher.launched[run['id']].port}"
    assert datetime.fromisoformat(run["created_at"]).tzinfo is not None
    sampler = run["sampler"]
    assert sampler["base_url"] == f"http://127.0.0.1:{plane.launcher.launched[sampler['id']].port}"
    assert sampler["status"] == {"name": "LOADING_MODEL"}
    plane.launcher.launched[sampler["id"]].state = "ready"
    assert (await plane.get(f"samplers/{sampler['id']}"))["sampler"]["status"] == {"name": "ACTIVE"}
    record = plane.storage.run(run["id"])
    assert (record.lora_rank, record.seed, record.max_seq_len) == (8, 3, 32)
    assert plane.storage.sampler(sampler["id"]).run_id == run["id"]


async def test_the_documented_defaults(plane: Plane) -> None:
    run = await plane.run()
    assert run["name"] == "double/model"
    assert plane.storage.run(run["id"]).lora_rank == 64


async def test_a_trainer_gets_its_sampler_later_and_only_once(plane: Plane) -> None:
    run = await plane.run("trainers")
    assert run["sampler"] is None
    first = (await plane.create("samplers", run_id=run["id"], base_model=...)).json["sampler"]
    again = (await plane.create("samplers", run_id=run["id"], base_model=...)).json["sampler"]
    assert first["id"] == again["id"]
    assert (await plane.get(f"runs/{run['id']}"))["run"]["sampler"]["id"] == first["id"]
    plane.launcher.launched[first["id"]].state = "failed"
    third = (await plane.create("samplers", run_id=run["id"], base_model=...)).json["sampler"]
    assert third["id"] != first["id"]


async def test_runs_are_listed_newest_first_and_filtered(plane: Plane) -> None:
    ids = [(await plane.run())["id"] for _ in range(3)]
    assert [run["id"] for run in (await plane.get("runs"))["runs"]] == ids[::-1]
    assert [run["id"] for run in (await plane.get("runs", run_id=ids[1]))["runs"]] == [ids[1]]
    assert len((await plane.get("runs", base_model="double/model", scope="org"))["runs"]) == 3
    assert (await plane.get("runs", base_model="other"))["runs"] == []


async def test_ending_a_run_ends_its_sampler_and_keeps_its_checkpoints(plane: Plane) -> None:
    run = await plane.run()
    plane.save(run["id"], "weights", "step-1")
    for _ in range(2):
        ended = await plane.peer.send("POST", f"/v1/loops/runs/{run['id']}/deactivate")
        assert ended.json == {"id": run["id"], "base_model": "double/model", "user": {"email": None}}
    assert {server.state for server in plane.launcher.launched.values()} == {"stopped"}
    seen = (await plane.get(f"runs/{run['id']}"))["run"]
    assert seen["status"] == {"name": "INACTIVE"}
    assert seen["sampler"]["status"] == {"name": "INACTIVE"}
    gone = await plane.peer.session.get(seen["base_url"] + "/health", headers={"Authorization": f"Bearer {KEY}"})
    assert gone.status == 404
    assert len((await plane.get("checkpoints", run_id=run["id"]))["checkpoints"]) == 1
    late = await plane.create("samplers", run_id=run["id"], base_model=...)
    assert (late.status, late.json["code"]) == (409, "CONFLICT")


async def test_a_trainer_that_dies_makes_its_run_inactive(plane: Plane) -> None:
    run = await plane.run()
    plane.launcher.launched[run["id"]].state = "failed"
    assert (await plane.get(f"runs/{run['id']}"))["run"]["status"] == {"name": "INACTIVE"}


async def test_what_was_there_before_the_deployment_is_inactive(plane: Plane, serve: Serve) -> None:
    run = await plane.run()
    later = await serve(ControlPlane(plane.storage, Launcher(), api_key=KEY).app)
    seen = (await later.get(f"/v1/loops/runs/{run['id']}")).json["run"]
    assert seen["status"] == {"name": "INACTIVE"}
    assert (await later.get(f"/v1/loops/sessions/{plane.session}")).status == 200


async def test_standalone_samplers(plane: Plane) -> None:
    run = await plane.run("trainers")
    path = plane.save(run["id"], "sampler_weights", "step-1")
    base = (await plane.create("samplers")).json["sampler"]
    from_dict(Sampler, base)
    other = (await plane.create("samplers", base_model=..., model_path=path, max_seq_length=16)).json["sampler"]
    assert plane.storage.sampler(other["id"]).model_path == path
    assert [one["id"] for one in (await plane.get("samplers"))["samplers"]] == [other["id"], base["id"]]
    for _ in range(2):
        ended = await plane.peer.post(f"/v1/loops/samplers/{base['id']}/deactivate", {})
        assert ended.json["id"] == base["id"]
    assert (await plane.get(f"samplers/{base['id']}"))["sampler"]["status"] == {"name": "INACTIVE"}


async def test_a_paired_sampler_ends_with_its_run_only(plane: Plane) -> None:
    run = await plane.run()
    refused = await plane.peer.post(f"/v1/loops/samplers/{run['sampler']['id']}/deactivate", {})
    assert refused.status == 409
    assert run["id"] in refused.json["message"]


async def test_the_three_filters_of_checkpoints(plane: Plane) -> None:
    runs = [await plane.run("trainers") for _ in range(2)]
    path = plane.save(runs[0]["id"], "weights", "step-1")
    plane.save(runs[0]["id"], "sampler_weights", "step-1")
    plane.save(runs[1]["id"], "weights", "other")
    of_run = (await plane.get("checkpoints", run_id=runs[0]["id"]))["checkpoints"]
    assert [(one["checkpoint_id"], one["target"]) for one in of_run] == [("step-1", "trainer"), ("step-1", "sampler")]
    assert of_run[0]["size_bytes"] == 5
    assert of_run[0]["lora_config"] == {"config_version": "v1", "targets": ["up_proj"], "expert_layout": None}
    assert len((await plane.get("checkpoints", base_model="double/model"))["checkpoints"]) == 3
    assert (await plane.get("checkpoints", base_model="other"))["checkpoints"] == []
    assert (await plane.get("checkpoints", checkpoint_path=path))["checkpoints"] == of_run[:1]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 422),
        ({"run_id": "a", "base_model": "b"}, 422),
        ({"checkpoint_path": "s3://bucket"}, 422),
        ({"checkpoint_path": "bt://loops:run/weights/nothing"}, 404),
        ({"run_id": "nothing"}, 404),
        ({"run_id": "../.."}, 422),
        ({"runid": "a"}, 422),
    ],
)
async def test_filters_that_make_no_sense(plane: Plane, query: dict[str, str], status: int) -> None:
    answer = await plane.peer.get("/v1/loops/checkpoints", params=query)
    assert answer.status == status
    assert set(answer.json) == {"code", "message"}


async def test_capabilities(plane: Plane) -> None:
    (model,) = (await plane.get("capabilities", use_case="sft"))["supported_models"]
    assert (model["model_name"], model["max_seq_len"], model["enabled"]) == ("double/model", 64, True)
    (model,) = (await plane.get("capabilities", max_seq_len="65"))["supported_models"]
    assert not model["enabled"]
    assert model["enablement_details"]["reason"] == "sequence_length_unsupported"
    assert (await plane.get("capabilities", model="other"))["supported_models"] == []
    for wrong in ({"use_case": "x"}, {"max_seq_len": "0"}, {"max_seq_len": "9" * 5000}):
        assert (await plane.peer.get("/v1/loops/capabilities", params=wrong)).status == 422


@pytest.mark.parametrize(
    ("path", "fields", "status", "names"),
    [
        ("runs", {"session_id": "nothing"}, 404, "nothing"),
        ("runs", {"session_id": ...}, 422, "session_id"),
        ("runs", {"base_model": "Qwen/Qwen3-8B"}, 422, "'double/model'"),
        ("runs", {"name": "x" * 256}, 422, "name"),
        ("runs", {"lora_rank": 0}, 422, "lora_rank"),
        ("runs", {"lora_rank": 10**9}, 422, "lora_rank"),
        ("runs", {"lora_rank": "8"}, 422, "lora_rank"),
        ("runs", {"seed": -1}, 422, "seed"),
        ("runs", {"max_seq_len": 65}, 422, "max_seq_len"),
        ("runs", {"scale_down_delay_seconds": 3601}, 422, "scale_down_delay_seconds"),
        ("runs", {"availability_model": "cheap"}, 422, "availability_model"),
        ("runs", {"replicas": 0}, 422, "replicas"),
        ("runs", {"lorarank": 8}, 422, "lorarank"),
        ("runs", {"path": "bt://loops:a/weights/nothing"}, 404, "nothing"),
        ("runs", {"path": "bt://loops:a/sampler_weights/x"}, 422, "path"),
        ("trainers", {"sampler_num_replicas": 1}, 422, "sampler_num_replicas"),
        ("samplers", {"base_model": ...}, 422, "base_model"),
        ("samplers", {"base_model": "other"}, 422, "'double/model'"),
        ("samplers", {"run_id": "nothing"}, 404, "nothing"),
        ("samplers", {"model_path": "bt://loops:a/weights/x"}, 422, "model_path"),
        ("samplers", {"max_seq_length": 0}, 422, "max_seq_length"),
    ],
)
async def test_creates_that_are_refused(
    plane: Plane, path: str, fields: dict[str, Any], status: int, names: str
) -> None:
    refused = await plane.create(path, **fields)
    assert refused.status == status, refused
    assert names in refused.json["message"]
    assert plane.launcher.launched == {}
    assert plane.storage.runs() == []


async def test_a_create_that_cannot_be_launched_leaves_an_ended_run(tmp_path: Path, serve: Serve) -> None:
    launcher = Launcher(most=1)
    plane = await started(tmp_path, serve, launcher)
    assert (await plane.create("runs")).status == 409
    assert [server.state for server in launcher.launched.values()] == ["stopped"]
    assert [run["status"]["name"] for run in (await plane.get("runs"))["runs"]] == ["INACTIVE"]


async def test_on_a_full_machine_what_has_been_idle_longest_gives_way(tmp_path: Path, serve: Serve) -> None:
    launcher = Launcher(most=4)
    plane = await started(tmp_path, serve, launcher)
    sampled, trained = await plane.run(), await plane.run()
    plane.save(trained["id"], "weights", "kept")
    for server in launcher.launched.values():
        server.idle = 500.0
    launcher.launched[sampled["sampler"]["id"]].idle = 3.0  # its trainer rests, but it is in use
    third = await plane.run()
    assert third["status"]["name"] == "ACTIVE"
    states = {run["id"]: run["status"]["name"] for run in (await plane.get("runs"))["runs"]}
    assert states == {sampled["id"]: "ACTIVE", trained["id"]: "INACTIVE", third["id"]: "ACTIVE"}
    assert len((await plane.get("checkpoints", run_id=trained["id"]))["checkpoints"]) == 1
    refused = await plane.create("trainers")
    assert refused.status == 409


async def test_an_idle_sampler_of_its_own_gives_way_too(tmp_path: Path, serve: Serve) -> None:
    launcher = Launcher(most=1)
    plane = await started(tmp_path, serve, launcher)
    sampler = (await plane.create("samplers")).json["sampler"]
    launcher.launched[sampler["id"]].idle = 61.0
    assert (await plane.run("trainers"))["status"]["name"] == "ACTIVE"
    assert (await plane.get(f"samplers/{sampler['id']}"))["sampler"]["status"]["name"] == "INACTIVE"


async def test_clients_that_come_by_another_name_are_told_that_name(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve, host="0.0.0.0")
    peer = Peer(plane.peer.session, plane.peer.url.replace("127.0.0.1", "localhost"))
    assert (await attrs.evolve(plane, peer=peer).run())["base_url"] == "http://localhost:10000"
