"""`LocalStack` with real child processes over engines without torch: its life, its death, what it says in between."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from loops_sdk.errors import DeploymentFailedError, InvalidInputError
from loops_sdk.local import LocalStack
from loops_sdk.local.control_plane import idleness

from ..conftest import batch, until
from .deployment import Client

pytestmark = pytest.mark.usefixtures("doubles_can_be_imported")


def local_stack(base_model: str = "double/model", **options: Any) -> LocalStack:
    return LocalStack(base_model, engine="double_engine", **options)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def children() -> list[psutil.Process]:
    return [
        one for one in psutil.Process().children(recursive=True) if "loops_sdk.local.stack" in " ".join(_command(one))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def test_a_run_from_the_first_step_to_the_sample(
    session: aiohttp.ClientSession, doubles_can_be_imported: Path
) -> None:
    said: list[str] = []
    async with local_stack(on_progress=said.append) as stack:
        metrics = Path(stack.env["LOOPS_METRICS_DIR"])
        assert stack.env == {
            "LOOPS_BASE_URL": stack.base_url,
            "BASETEN_API_KEY": stack.api_key,
            "LOOPS_METRICS_DIR": str(metrics),
        }
        assert metrics.is_absolute()
        assert metrics.parent.parent == doubles_can_be_imported
        client = Client(stack, session)
        run = await client.run()
        assert len(children()) == 2  # the ones that were loaded ahead serve the first run
        for _ in range(3):
            await client.do(run["base_url"], "forward_backward", batch(5, 5, 5, 5))
            await client.do(run["base_url"], "optim_step", {"adam_params": {"learning_rate": 1.0}})
        await client.do(run["base_url"], "save_weights_for_sampler", {"name": "step-3"})
        body = {"model": run["id"], "prompt": [1], "max_tokens": 3, "temperature": 0, "return_token_ids": True}
        _, completion = await client.ask("POST", run["sampler"]["base_url"] + "/v1/completions", body)
        assert completion["choices"][0]["token_ids"] == [5, 5, 5]
        assert completion["policy_version"] == 3
        seen = f"{stack.base_url}/local/v1/runs/{run['id']}"
        _, operations = await client.ask("GET", f"{seen}/operations")
        assert [one["operation"] for one in operations["operations"][:2]] == ["save_weights_for_sampler", "optim_step"]
        assert operations["queued"] == 0  # the trainer was asked
        _, answer = await client.ask("POST", f"{seen}/sample", {"model": "current", "prompt": "a", "temperature": 0})
        assert (answer["state"], answer["policy_version"]) == ("done", 3)
        assert stack.page_url == f"{stack.base_url}/#key={stack.api_key}"
        (folder,) = entries(doubles_can_be_imported)
        processes = children()
    assert not any(process.is_running() for process in processes)
    assert folder not in entries(doubles_can_be_imported)
    assert any("ready at http://127.0.0.1:" in line for line in said)


async def test_a_second_run_gets_processes_of_its_own_and_there_is_a_bound(session: aiohttp.ClientSession) -> None:
    async with local_stack(max_processes=3) as stack:
        client = Client(stack, session)
        first, second = await client.run(), await client.run("trainers")
        assert first["base_url"] != second["base_url"]
        status, refused = await client.create("trainers")
        assert status == 409
        assert "deactivate" in refused["message"]
        assert (await client.ask("POST", f"/v1/loops/runs/{first['id']}/deactivate"))[0] == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.ask("GET", first["base_url"] + "/health")
        assert (await client.run())["status"] == {"name": "ACTIVE"}


async def test_a_new_run_takes_the_place_of_an_idle_one(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_stack(max_processes=2) as stack:
        client = Client(stack, session)
        first = await client.run("trainers")
        monkeypatch.setattr(idleness, "_GIVES_WAY_AFTER", 0.0)
        assert (await client.run("trainers"))["status"] == {"name": "ACTIVE"}
        _, ended = await client.ask("GET", f"/v1/loops/runs/{first['id']}")
        assert ended["run"]["status"] == {"name": "INACTIVE"}


async def killed(kind: str) -> None:
    """Kill -9, and wait until it is dead. Its parent is the one to collect it."""
    child = next(one for one in children() if f"loops_sdk.local.stack.{kind}_child" in _command(one))
    child.kill()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_without_durability_a_trainer_that_is_killed_is_the_end_of_its_run(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_stack(durable=False) as stack:
        client = Client(stack, session)
        run = await client.run()
        await client.do(run["base_url"], "forward_backward", batch(1, 2))
        await killed("trainer")

        async def inactive() -> bool:
            _, seen = await client.ask("GET", f"/v1/loops/runs/{run['id']}")
            return bool(seen["run"]["status"]["name"] == "INACTIVE")

        await until(inactive)
        assert "exit code -9" in caplog.text
        assert (await client.run("trainers"))["id"] != run["id"]


async def test_a_trainer_that_is_killed_is_replaced_at_the_same_address(session: aiohttp.ClientSession) -> None:
    async with local_stack() as stack:
        client = Client(stack, session)
        run = await client.run("trainers")
        url = run["base_url"]
        first = await client.do(url, "forward_backward", batch(1, 2))
        await killed("trainer")
        _, seen = await client.ask("GET", f"/v1/loops/runs/{run['id']}")
        assert seen["run"]["status"]["name"] == "ACTIVE"
        assert (await client.do(url, "optim_step", {"adam_params": {"learning_rate": 1.0}}))["metrics"]["step"] == 1
        assert (await client.do(url, "forward", batch(1, 2)))["loss"] < first["loss"]
        _, seen = await client.ask("GET", f"/v1/loops/runs/{run['id']}")
        assert seen["run"]["base_url"] == url


async def test_a_sampler_that_is_killed_is_replaced_and_serves_what_was_published(
    session: aiohttp.ClientSession,
) -> None:
    async with local_stack() as stack:
        client = Client(stack, session)
        run = await client.run()
        await client.do(run["base_url"], "forward_backward", batch(5, 5, 5, 5))
        await client.do(run["base_url"], "optim_step", {"adam_params": {"learning_rate": 1.0}})
        await client.do(run["base_url"], "save_weights_for_sampler", {"name": "one"})
        await killed("sampler")
        body = {"model": run["id"], "prompt": [1], "max_tokens": 3, "temperature": 0, "return_token_ids": True}
        _, completion = await client.ask("POST", run["sampler"]["base_url"] + "/v1/completions", body)
        assert (completion["choices"][0]["token_ids"], completion["policy_version"]) == ([5, 5, 5], 1)
        _, seen = await client.ask("GET", f"/v1/loops/runs/{run['id']}")
        assert seen["run"]["sampler"]["status"]["name"] == "ACTIVE"
        assert seen["run"]["sampler"]["base_url"] == run["sampler"]["base_url"]


async def test_a_trainer_that_cannot_come_up_again_is_given_up(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_stack(data_dir=tmp_path / "data") as stack:
        client = Client(stack, session)
        run = await client.run("trainers")
        await killed("trainer")
        journal = tmp_path / "data" / "runs" / run["id"] / "progress" / "journal.sqlite"
        journal.with_name("journal.sqlite-wal").unlink()
        journal.write_bytes(b"no database" * 1000)

        async def inactive() -> bool:
            _, seen = await client.ask("GET", f"/v1/loops/runs/{run['id']}")
            return bool(seen["run"]["status"]["name"] == "INACTIVE")

        await until(inactive)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.ask("GET", run["base_url"] + "/health")


async def test_a_base_model_that_does_not_load_says_why_and_leaves_nothing(doubles_can_be_imported: Path) -> None:
    with pytest.raises(DeploymentFailedError, match="the trainer 1 failed: base_model: there is no such model"):
        await local_stack("double/refused").start()
    with pytest.raises(DeploymentFailedError, match=r"exit code 1; the last lines of its log(?s:.*)broken on purpose"):
        await local_stack("double/broken").start()
    assert children() == []
    assert entries(doubles_can_be_imported) == []


async def test_an_engine_that_cannot_be_imported_names_the_extra() -> None:
    with pytest.raises(DeploymentFailedError, match=r"loops-sdk\[local\]"):
        await LocalStack(engine="no_such_engine").start()


async def test_missing_packages_are_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(DeploymentFailedError, match=r"needs peft: pip install 'loops-sdk\[local\]'"):
        await LocalStack().start()


async def test_a_port_in_use_leaves_nothing(doubles_can_be_imported: Path) -> None:
    async with local_stack(data_dir=doubles_can_be_imported / "kept") as stack:
        port = int(stack.base_url.rsplit(":", 1)[1])
        with pytest.raises(DeploymentFailedError, match=str(port)):
            await local_stack(port=port).start()
        assert len(children()) == 2
        assert entries(doubles_can_be_imported) == ["kept"]


async def test_a_cancelled_start_leaves_nothing(doubles_can_be_imported: Path) -> None:
    loading = asyncio.Event()
    starting = asyncio.create_task(local_stack(on_progress=lambda line: loading.set()).start())
    await loading.wait()
    await until(lambda: len(children()) == 2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == []
    assert entries(doubles_can_be_imported) == []


async def test_a_cancelled_close_closes_all_the_same(doubles_can_be_imported: Path) -> None:
    stack = local_stack()
    await stack.start()
    closing = asyncio.create_task(stack.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert children() == []
    assert entries(doubles_can_be_imported) == []
    await stack.aclose()


async def test_a_data_directory_outlives_the_deployment_and_serves_one_at_a_time(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with local_stack(data_dir=data) as stack:
        client = Client(stack, session)
        run = await client.run("trainers")
        await client.do(run["base_url"], "save_state", {"name": "a"})
        with pytest.raises(InvalidInputError, match="in use"):
            await local_stack(data_dir=data).start()
    async with local_stack(data_dir=data, api_key="another") as stack:
        client = Client(stack, session)
        path = f"bt://loops:{run['id']}/weights/a"
        status, _ = await client.create("trainers", path=path)
        assert status == 200


async def test_a_deployment_on_the_same_data_directory_goes_on_with_what_was_served(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with local_stack(data_dir=data) as stack:
        client = Client(stack, session)
        run, ended = await client.run(), await client.run("trainers")
        status, alone = await client.create("samplers")
        assert status == 200
        await client.ask("POST", f"/v1/loops/runs/{ended['id']}/deactivate")
        assert not (data / "runs" / ended["id"] / "progress").exists()  # nobody will go on with it
        await client.do(run["base_url"], "forward_backward", batch(1, 2))
    async with local_stack(data_dir=data) as again:
        assert again.api_key == stack.api_key
        client = Client(again, session)
        step = await client.do(run["base_url"], "optim_step", {"adam_params": {"learning_rate": 1.0}})
        assert step["metrics"]["step"] == 1
        _, seen = await client.ask("GET", "/v1/loops/runs")
        assert {one["id"]: one["status"]["name"] for one in seen["runs"]} == {
            run["id"]: "ACTIVE",
            ended["id"]: "INACTIVE",
        }
        for sampler in (run["sampler"], alone["sampler"]):
            await client.healthy(sampler["base_url"])
        assert len(children()) == 3
    assert (data / "api_key").stat().st_mode & 0o777 == 0o600
    async with local_stack(data_dir=data, durable=False) as third:
        _, seen = await Client(third, session).ask("GET", "/v1/loops/runs")
        assert {one["status"]["name"] for one in seen["runs"]} == {"INACTIVE"}
    async with local_stack(data_dir=data, max_processes=2) as fourth:  # the newest first, as far as there is room
        _, seen = await Client(fourth, session).ask("GET", "/v1/loops/samplers")
        states = {one["id"]: one["status"]["name"] for one in seen["samplers"]}
        assert states[run["sampler"]["id"]] == "INACTIVE"
        assert states[alone["sampler"]["id"]] in ("LOADING_MODEL", "ACTIVE")


async def test_a_computation_does_not_hold_up_the_end(session: aiohttp.ClientSession) -> None:
    async with local_stack() as stack:
        client = Client(stack, session)
        run = await client.run("trainers")
        body = {**batch(1, 2), "loss_fn_config": {"spin": True}}
        assert (await client.ask("POST", run["base_url"] + "/forward", body))[0] == 202

        async def busy() -> bool:
            return (await client.ask("GET", run["base_url"] + "/status"))[1]["running"] == "forward"

        await until(busy)
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 5


async def test_manners(session: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The key is told to nobody, Ctrl-C is the parent's business, and a public address is announced."""
    async with local_stack(data_dir=tmp_path / "data", host="0.0.0.0") as stack:
        assert "every machine" in caplog.text
        assert stack.base_url.startswith("http://127.0.0.1:")
        client = Client(stack, session)
        run = await client.run()
        for child in children():
            assert stack.api_key not in " ".join(_command(child))
            child.send_signal(signal.SIGINT)
        for server in (run["base_url"], run["sampler"]["base_url"]):
            assert (await client.ask("GET", server + "/health"))[0] == 200
        assert stack.api_key not in repr(stack)
    logs = list((tmp_path / "data" / "logs").glob("*.log"))
    assert len(logs) == 2
    assert not any(stack.api_key in log.read_text() for log in logs)


def test_construction_does_nothing_and_checks_its_arguments(doubles_can_be_imported: Path) -> None:
    stack = local_stack()
    assert repr(stack) == "LocalStack('double/model', not running)"
    with pytest.raises(DeploymentFailedError, match="not running"):
        stack.base_url  # noqa: B018  # reading it is the call
    with pytest.raises(InvalidInputError, match="max_processes"):
        LocalStack(max_processes=1)
    with pytest.raises(InvalidInputError, match="api_key"):
        LocalStack(api_key="two words")
    assert entries(doubles_can_be_imported) == []


PROGRAM = """
import asyncio, sys
from loops_sdk.local import LocalStack

async def main():
    async with LocalStack("double/model", engine="double_engine") as stack:
        print(stack.base_url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_outlives_the_program(number: signal.Signals, doubles_can_be_imported: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        assert program.stdout.readline()
        started = psutil.Process(program.pid).children(recursive=True)
        assert len(started) == 2
        program.send_signal(number)
        program.stdin.close()  # type: ignore[union-attr]
        _, alive = psutil.wait_procs([psutil.Process(program.pid), *started], timeout=5)
        assert alive == []
    assert entries(doubles_can_be_imported) == []


def test_a_process_that_the_program_forked_does_not_keep_its_servers_alive(doubles_can_be_imported: Path) -> None:
    forking = PROGRAM.replace(
        "print(stack.base_url, flush=True)",
        "import os, time\n        child = os.fork()\n        if child == 0:\n            time.sleep(60)\n"
        "        print(child, flush=True)",
    )
    with subprocess.Popen([sys.executable, "-c", forking], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        forked = psutil.Process(int(program.stdout.readline()))
        servers = [one for one in psutil.Process(program.pid).children(recursive=True) if one != forked]
        try:
            program.kill()
            _, alive = psutil.wait_procs(servers, timeout=5)
            assert alive == []
            assert forked.is_running()
        finally:
            os.kill(forked.pid, signal.SIGKILL)
            program.stdin.close()  # type: ignore[union-attr]
    assert entries(doubles_can_be_imported) == []


def test_importing_it_is_light() -> None:
    code = "import sys, loops_sdk.local; print({'torch', 'transformers', 'peft', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
