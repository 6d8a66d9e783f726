"""What runs and samplers run on, as the control plane tells it; and the one team to whom all of it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loops_sdk.local.control_plane import ControlPlane

from .conftest import KEY, Serve
from .doubles.double_launcher import Launcher
from .plane import Plane, started


@pytest.fixture
async def plane(tmp_path: Path, serve: Serve) -> Plane:
    return await started(tmp_path, serve)


async def deployment(plane: Plane, run: Any) -> Any:
    return (await plane.get(f"deployments/{run['deployment_id']}"))["deployment"]


async def test_the_deployment_of_a_run_from_its_start_to_its_end(plane: Plane) -> None:
    run = await plane.run(availability_model="spot")
    seen = await deployment(plane, run)
    assert (seen["id"], seen["base_url"], seen["base_model"]) == (run["deployment_id"], run["base_url"], "double/model")
    assert (seen["active_run_id"], seen["latest_run_id"]) == (run["id"], run["id"])
    assert seen["sampler"]["id"] == run["sampler"]["id"]
    assert seen["status"] == {"name": "DEPLOYING"}
    assert seen["availability_model"] == "spot"
    assert seen["instance_type"]["millicpu_limit"] >= 1000
    plane.launcher.launched[run["id"]].state = "ready"
    assert (await deployment(plane, run))["status"] == {"name": "RUNNING"}
    ended = await plane.peer.send("POST", f"/v1/loops/deployments/{run['deployment_id']}/deactivate")
    assert ended.json == {"id": run["deployment_id"], "base_model": "double/model", "user": {"email": None}}
    over = await deployment(plane, run)
    assert (over["status"], over["active_run_id"], over["latest_run_id"]) == ({"name": "STOPPED"}, None, run["id"])
    assert (await plane.get(f"runs/{run['id']}"))["run"]["status"] == {"name": "INACTIVE"}
    assert {server.state for server in plane.launcher.launched.values()} == {"stopped"}


async def test_deployments_are_listed_in_every_state_newest_first(plane: Plane, serve: Serve) -> None:
    runs = [await plane.run("trainers") for _ in range(3)]
    plane.launcher.launched[runs[0]["id"]].state = "failed"
    await plane.peer.post(f"/v1/loops/runs/{runs[1]['id']}/deactivate", {})
    listed = (await plane.get("deployments", scope="org"))["deployments"]
    assert [(one["latest_run_id"], one["status"]["name"]) for one in listed] == [
        (runs[2]["id"], "DEPLOYING"),
        (runs[1]["id"], "STOPPED"),
        (runs[0]["id"], "FAILED"),
    ]
    later = await serve(ControlPlane(plane.storage, Launcher(), api_key=KEY).app)
    again = (await later.get("/v1/loops/deployments")).json["deployments"]
    assert {one["status"]["name"] for one in again} == {"STOPPED"}


async def test_a_run_that_could_not_be_launched_left_a_failed_deployment(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve, Launcher(most=1))
    assert (await plane.create("runs")).status == 409
    (seen,) = (await plane.get("deployments"))["deployments"]
    assert seen["status"] == {"name": "FAILED"}


async def test_the_model_that_a_sampler_runs_as(plane: Plane) -> None:
    sampler = (await plane.create("samplers")).json["sampler"]
    assert len({sampler["id"], sampler["model_id"], sampler["deployment_id"]}) == 3

    async def seen() -> Any:
        path = f"/v1/models/{sampler['model_id']}/deployments/{sampler['deployment_id']}"
        return (await plane.peer.get(path)).json

    assert ((await seen())["status"], (await seen())["active_replica_count"]) == ("LOADING_MODEL", 0)
    plane.launcher.launched[sampler["id"]].state = "ready"
    assert ((await seen())["status"], (await seen())["active_replica_count"]) == ("ACTIVE", 1)
    await plane.peer.post(f"/v1/loops/samplers/{sampler['id']}/deactivate", {})
    assert (await seen())["status"] == "INACTIVE"


async def test_ids_that_belong_to_nothing(plane: Plane) -> None:
    one, other = [(await plane.create("samplers")).json["sampler"] for _ in range(2)]
    for method, path in (
        ("GET", "/v1/loops/deployments/nothing"),
        ("POST", "/v1/loops/deployments/nothing/deactivate"),
        ("POST", "/v1/loops/runs/nothing/deactivate"),
        ("POST", "/v1/loops/samplers/nothing/deactivate"),
        ("GET", f"/v1/models/{one['model_id']}/deployments/{other['deployment_id']}"),
        ("GET", "/v1/models/nothing/deployments/nothing"),
    ):
        answer = await plane.peer.send(method, path)
        assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND"), (method, path)


async def test_a_paired_sampler_has_the_runs_availability(plane: Plane) -> None:
    run = await plane.run("trainers", availability_model="spot")
    refused = await plane.create("samplers", base_model=..., run_id=run["id"], availability_model="dedicated")
    assert (refused.status, plane.storage.samplers()) == (422, [])
    assert "'spot'" in refused.json["message"]
    assert (await plane.create("samplers", base_model=..., run_id=run["id"], availability_model="spot")).status == 200


# ---------------------------------------------------------------- the team


async def test_there_is_one_team_and_it_stays_the_same(plane: Plane, serve: Serve) -> None:
    (team,) = (await plane.peer.get("/v1/teams")).json["teams"]
    assert team["default"] is True
    assert (await plane.peer.get("/v1/teams", params={"name": team["name"]})).json["teams"] == [team]
    assert (await plane.peer.get("/v1/teams", params={"name": "other"})).json["teams"] == []
    again = await started(plane.storage.root, serve)
    assert (await again.peer.get("/v1/teams")).json["teams"] == [team]


async def test_another_team_does_not_exist(plane: Plane) -> None:
    body = {"session_id": plane.session, "base_model": "double/model"}
    for method, what in (
        ("POST", "sessions"),
        ("POST", "runs"),
        ("GET", "runs"),
        ("POST", "trainers"),
        ("POST", "samplers"),
        ("GET", "samplers"),
    ):
        sent = {} if method == "GET" else {"json": {} if what == "sessions" else body}
        answer = await plane.peer.send(method, f"/v1/teams/others/loops/{what}", **sent)
        assert (answer.status, "others" in answer.json["message"]) == (404, True), (method, what)
    assert plane.launcher.launched == {}


async def test_what_a_team_makes_everybody_sees(plane: Plane) -> None:
    (team,) = (await plane.peer.get("/v1/teams")).json["teams"]
    below = f"/v1/teams/{team['id']}/loops"
    session = (await plane.peer.post(f"{below}/sessions", {})).json["session"]["id"]
    body = {"session_id": session, "base_model": "double/model"}
    run = (await plane.peer.post(f"{below}/runs", body)).json["run"]
    assert [one["id"] for one in (await plane.get("runs"))["runs"]] == [run["id"]]
    assert (await plane.peer.get(f"{below}/runs", params={"run_id": "other"})).json["runs"] == []
