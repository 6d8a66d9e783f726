"""A control plane that is started where another one ended: what it launches again, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import attrs

from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.storage import Storage

from .conftest import KEY, Serve
from .doubles.double_launcher import Launcher
from .plane import Plane, started


async def again(plane: Plane, serve: Serve, left: set[str], most: int = 100) -> Plane:
    launcher = Launcher(most)
    launcher.left = left
    control_plane = ControlPlane(plane.storage, launcher, api_key=KEY)
    await control_plane.resume()
    return attrs.evolve(plane, peer=await serve(control_plane.app), launcher=launcher)


async def states(plane: Plane) -> dict[str, str]:
    runs, samplers = (await plane.get("runs"))["runs"], (await plane.get("samplers"))["samplers"]
    return {one["id"]: one["status"]["name"] for one in (*runs, *samplers)}


async def test_what_was_served_is_served_again_with_its_sampler(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve)
    run, ended, forgotten = await plane.run(), await plane.run("trainers"), await plane.run("trainers")
    alone = (await plane.create("samplers")).json["sampler"]
    assert (await plane.peer.send("POST", f"/v1/loops/runs/{ended['id']}/deactivate")).status == 200
    left = {run["id"], run["sampler"]["id"], ended["id"], alone["id"]}
    successor = await again(plane, serve, left)
    assert set(successor.launcher.launched) == {run["id"], run["sampler"]["id"], alone["id"]}
    assert successor.launcher.settled
    assert await states(successor) == {
        run["id"]: "ACTIVE",
        run["sampler"]["id"]: "LOADING_MODEL",
        ended["id"]: "INACTIVE",
        forgotten["id"]: "INACTIVE",
        alone["id"]: "LOADING_MODEL",
    }


async def test_the_newest_come_first_as_far_as_there_is_room(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve)
    runs = [(await plane.run("trainers"))["id"] for _ in range(4)]
    successor = await again(plane, serve, set(runs), most=2)
    assert list(successor.launcher.launched) == [runs[3], runs[2]]
    assert successor.launcher.settled
    assert plane.storage.run(runs[0]).ended_at is None  # a deployment with more room may go on with it


async def test_runs_of_another_base_model_are_left_alone(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve)
    run = plane.storage.run((await plane.run("trainers"))["id"])
    Storage(tmp_path).write_run(attrs.evolve(run, base_model="another/model"))
    successor = await again(plane, serve, {run.id})
    assert not successor.launcher.launched
