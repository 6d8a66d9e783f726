"""Whose place a new run takes: that of the run it reuses, or of one that nobody asks anything of any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody
from loops_sdk.local.control_plane import Deployed
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.storage import Storage

from .conftest import Serve, until
from .doubles.double_launcher import Launcher
from .plane import Plane, started


@pytest.fixture
async def plane(tmp_path: Path, serve: Serve) -> Plane:
    return await started(tmp_path, serve)


async def ready_run(plane: Plane, what: str = "runs", /, **fields: Any) -> Any:
    run = await plane.run(what, **fields)
    for server in plane.launcher.launched.values():
        server.state = "ready" if server.state == "starting" else server.state
    return run


async def shown(plane: Plane, run: Any) -> Any:
    return (await plane.get(f"runs/{run['id']}"))["run"]


# ---------------------------------------------------------------- reuse


@pytest.mark.parametrize("by", ["run", "session"])
async def test_a_run_takes_over_trainer_and_sampler_of_another(plane: Plane, by: str) -> None:
    old = await ready_run(plane)
    plane.save(old["id"], "weights", "kept")
    trainer, sampler = (plane.launcher.launched[name] for name in (old["id"], old["sampler"]["id"]))
    reuse = {"reuse_from_run_id": old["id"]} if by == "run" else {"reuse_from_session_id": plane.session}
    new = await plane.run(max_seq_len=32, **reuse)
    assert plane.launcher.launched == {new["id"]: trainer, old["sampler"]["id"]: sampler}
    assert new["deployment_id"] == old["deployment_id"]
    assert new["base_url"] == f"http://127.0.0.1:{trainer.port}" != old["base_url"]
    assert new["sampler"]["id"] == old["sampler"]["id"]
    assert new["sampler"]["base_url"] == f"http://127.0.0.1:{sampler.port}" != old["sampler"]["base_url"]
    assert plane.storage.sampler(new["sampler"]["id"]).max_seq_len == 32
    over = await shown(plane, old)
    assert (over["status"], over["sampler"]) == ({"name": "INACTIVE"}, None)
    assert plane.storage.run(old["id"]).ended_at is not None
    (deployment,) = (await plane.get("deployments"))["deployments"]
    assert (deployment["active_run_id"], deployment["latest_run_id"]) == (new["id"], new["id"])
    assert deployment["created_at"] == old["created_at"]
    assert len((await plane.get("checkpoints", run_id=old["id"]))["checkpoints"]) == 1


async def test_the_newest_of_a_session_is_reused(plane: Plane) -> None:
    runs = [await ready_run(plane, "trainers") for _ in range(2)]
    new = await plane.run("trainers", reuse_from_session_id=plane.session)
    assert new["deployment_id"] == runs[1]["deployment_id"]
    assert (await shown(plane, runs[0]))["status"] == {"name": "ACTIVE"}


async def test_the_run_wins_over_the_session(plane: Plane) -> None:
    runs = [await ready_run(plane, "trainers") for _ in range(2)]
    new = await plane.run("trainers", reuse_from_session_id=plane.session, reuse_from_run_id=runs[0]["id"])
    assert new["deployment_id"] == runs[0]["deployment_id"]


async def test_a_trainer_alone_is_taken_over_and_gets_its_sampler(plane: Plane) -> None:
    old = await ready_run(plane, "trainers")
    new = await plane.run(reuse_from_run_id=old["id"])
    assert new["deployment_id"] == old["deployment_id"]
    assert new["sampler"]["status"] == {"name": "LOADING_MODEL"}
    assert len(plane.launcher.launched) == 2


@pytest.mark.parametrize("why", ["unknown", "ended", "failed", "starting", "replicas", "before"])
async def test_where_nothing_can_be_reused_a_fresh_run_is_made(plane: Plane, serve: Serve, why: str) -> None:
    old = await ready_run(plane, "trainers")
    fields: dict[str, Any] = {"reuse_from_run_id": "nothing" if why == "unknown" else old["id"]}
    if why == "ended":
        await plane.peer.post(f"/v1/loops/runs/{old['id']}/deactivate", {})
    if why in ("failed", "starting"):
        plane.launcher.launched[old["id"]].state = why  # type: ignore[assignment]
    if why == "replicas":
        fields["replicas"] = 2
    if why == "before":
        plane = await started(plane.storage.root, serve)
    new = await plane.run("trainers", **fields)
    assert new["status"] == {"name": "ACTIVE"}
    assert new["deployment_id"] != old["deployment_id"]
    still = why in ("unknown", "starting", "replicas")
    assert (await shown(plane, old))["status"] == {"name": "ACTIVE" if still else "INACTIVE"}


@pytest.mark.parametrize("what", ["runs", "trainers", "samplers"])
async def test_what_cannot_be_an_id_is_a_mistake(plane: Plane, what: str) -> None:
    refused = await plane.create(what, reuse_from_session_id="../x")
    assert (refused.status, "reuse_from_session_id" in refused.json["message"]) == (422, True)
    assert plane.launcher.launched == {}


async def test_a_trainer_that_will_not_let_go_is_stopped_and_a_fresh_one_made(plane: Plane) -> None:
    old = await ready_run(plane)
    trainer, sampler = (plane.launcher.launched[name] for name in (old["id"], old["sampler"]["id"]))
    trainer.stubborn = True
    new = await plane.run(reuse_from_run_id=old["id"])
    assert new["status"] == {"name": "ACTIVE"}
    assert (trainer.state, sampler.state) == ("stopped", "stopped")
    assert new["deployment_id"] != old["deployment_id"]
    assert new["sampler"]["id"] != old["sampler"]["id"]
    assert (await shown(plane, old))["status"] == {"name": "INACTIVE"}


async def test_a_sampler_that_will_not_let_go_is_stopped_and_a_fresh_one_made(plane: Plane) -> None:
    old = await ready_run(plane)
    sampler = plane.launcher.launched[old["sampler"]["id"]]
    sampler.stubborn = True
    new = await plane.run(reuse_from_run_id=old["id"])
    assert new["deployment_id"] == old["deployment_id"]
    assert (sampler.state, new["sampler"]["status"]) == ("stopped", {"name": "LOADING_MODEL"})
    assert new["sampler"]["id"] != old["sampler"]["id"]
    assert (await shown(plane, old))["sampler"]["status"] == {"name": "INACTIVE"}


async def test_two_that_want_the_same_run_get_one_trainer_each(plane: Plane) -> None:
    old = await ready_run(plane, "trainers")
    one, other = await asyncio.gather(*(plane.run("trainers", reuse_from_run_id=old["id"]) for _ in range(2)))
    assert {run["status"]["name"] for run in (one, other)} == {"ACTIVE"}
    assert one["base_url"] != other["base_url"]
    assert (one["deployment_id"] == old["deployment_id"]) != (other["deployment_id"] == old["deployment_id"])


# ---------------------------------------------------------------- what is not there yet


class Slow(Launcher):
    """Launches when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def launch_sampler(self, sampler_id: str) -> Deployed:
        self.asked.set()
        await self.go.wait()
        return await super().launch_sampler(sampler_id)


async def test_a_run_is_shown_when_it_is_whole(tmp_path: Path, serve: Serve) -> None:
    launcher = Slow()
    plane = await started(tmp_path, serve, launcher)
    creating = asyncio.create_task(plane.run())
    await launcher.asked.wait()
    assert (await plane.get("runs"))["runs"] == (await plane.get("deployments"))["deployments"] == []
    launcher.go.set()
    run = await creating
    assert [one["id"] for one in (await plane.get("runs"))["runs"]] == [run["id"]]


async def test_a_run_that_ends_while_its_sampler_is_made_keeps_none(tmp_path: Path, serve: Serve) -> None:
    launcher = Slow()
    plane = await started(tmp_path, serve, launcher)
    run = await plane.run("trainers")
    creating = asyncio.create_task(plane.create("samplers", run_id=run["id"], base_model=...))
    await launcher.asked.wait()
    await plane.peer.post(f"/v1/loops/runs/{run['id']}/deactivate", {})
    launcher.go.set()
    assert (await creating).status == 409
    assert {server.state for server in launcher.launched.values()} == {"stopped"}


async def test_two_who_ask_for_the_sampler_of_a_run_get_the_same_one(tmp_path: Path) -> None:
    storage, launcher = Storage.create(tmp_path), Slow()
    registry, session = Registry(storage, launcher), storage.new_session()
    run = await registry.create_run(CreateRunBody(session, "double/model"), with_sampler=False)
    asking = [asyncio.create_task(registry.create_sampler(CreateSamplerBody(session, run_id=run.id))) for _ in range(2)]
    await launcher.asked.wait()
    launcher.go.set()
    assert len({(await one).id for one in asking}) == 1
    assert len(launcher.launched) == 2


# ---------------------------------------------------------------- idleness


async def test_a_run_ends_when_nobody_asks_anything_for_as_long_as_it_was_given(tmp_path: Path) -> None:
    storage, launcher = Storage.create(tmp_path), Launcher()
    registry = Registry(storage, launcher)
    plane = Makes(registry, storage.new_session())
    for delay, trainer, sampler, ends in (
        (60, 100.0, 100.0, True),
        (60, 100.0, 3.0, False),  # its trainer rests, but it is in use
        (60, 3.0, 100.0, False),
        (60, 60.0, 60.0, False),  # may have been asked something that has not been told yet
        (None, 1e9, 1e9, False),
    ):
        run_id, sampler_id = await plane.run(delay)
        launcher.launched[run_id].idle, launcher.launched[sampler_id].idle = trainer, sampler
        await registry.end_the_overdue()
        state = {launcher.launched[run_id].state, launcher.launched[sampler_id].state}
        assert state == ({"stopped"} if ends else {"starting"}), (delay, trainer, sampler)


class Makes:
    """Makes runs without HTTP."""

    def __init__(self, registry: Registry, session: str) -> None:
        self._registry, self._session = registry, session

    async def run(self, delay: int | None) -> tuple[str, str]:
        body = CreateRunBody(self._session, "double/model", scale_down_delay_seconds=delay)
        run = await self._registry.create_run(body, with_sampler=True)
        sampler = self._registry.sampler_of(run.id)
        assert sampler is not None
        return run.id, sampler.id


async def test_the_server_looks_by_itself_and_keeps_the_checkpoints(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve, look_every=0.005)
    run, kept = await plane.run("trainers", scale_down_delay_seconds=1), await plane.run("trainers")
    plane.save(run["id"], "weights", "kept")
    plane.launcher.launched[run["id"]].idle = plane.launcher.launched[kept["id"]].idle = 3600.0

    async def over() -> bool:
        return (await shown(plane, run))["status"] == {"name": "INACTIVE"}

    await until(over)
    deployment = (await plane.get(f"deployments/{run['deployment_id']}"))["deployment"]
    assert (deployment["status"], deployment["active_run_id"]) == ({"name": "SCALED_TO_ZERO"}, None)
    assert len((await plane.get("checkpoints", run_id=run["id"]))["checkpoints"]) == 1
    assert (await shown(plane, kept))["status"] == {"name": "ACTIVE"}


async def test_what_expired_of_an_ended_run_is_removed(tmp_path: Path, serve: Serve) -> None:
    plane = await started(tmp_path, serve, look_every=0.005)
    ended, active = await plane.run("trainers"), await plane.run("trainers")
    await plane.peer.post(f"/v1/loops/runs/{ended['id']}/deactivate", {})
    folders = []
    for run in (ended, active):
        path = plane.save(run["id"], "weights", "short", ttl_seconds=0)
        folders.append(tmp_path / "runs" / run["id"] / "weights" / path.rpartition("/")[2])
    await until(lambda: not folders[0].is_symlink())
    assert folders[1].is_symlink()  # its trainer removes it, with its next save


async def test_a_look_that_fails_is_not_the_last(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = asyncio.Semaphore(0)

    async def fail(_registry: Registry) -> None:
        looks.release()
        raise OSError("the disk is gone")

    monkeypatch.setattr(Registry, "end_the_overdue", fail)
    await started(tmp_path, serve, look_every=0.005)
    async with asyncio.timeout(10):
        for _ in range(3):
            await looks.acquire()
    assert "the disk is gone" in caplog.text
