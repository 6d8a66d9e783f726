"""`LocalStack` with real child processes over engines without torch: life, death, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from loops_sdk.errors import DeploymentFailedError, InvalidInputError
from loops_sdk.local import LocalStack

from ..conftest import DOUBLES, batch


@pytest.fixture(autouse=True)
def doubles_can_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """By the children, too; and temporary folders are where the test can see them."""
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    return temporary


def local_stack(base_model: str = "double/model", **options: Any) -> LocalStack:
    return LocalStack(base_model, engine="double_engine", **options)


def children() -> list[psutil.Process]:
    return [
        one for one in psutil.Process().children(recursive=True) if "loops_sdk.local.stack" in " ".join(_command(one))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Client:
    """A bare client of a whole stack."""

    def __init__(self, stack: LocalStack, session: aiohttp.ClientSession) -> None:
        self.stack, self.session = stack, session

    async def ask(self, method: str, url: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.stack.api_key}"}
        full = url if url.startswith("http") else self.stack.base_url + url
        async with self.session.request(method, full, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def create(self, what: str = "runs", **fields: Any) -> tuple[int, Any]:
        _, made = await self.ask("POST", "/v1/loops/sessions")
        body = {"session_id": made["session"]["id"], "base_model": "double/model", **fields}
        return await self.ask("POST", f"/v1/loops/{what}", body)

    async def run(self, what: str = "runs") -> Any:
        status, made = await self.create(what)
        assert status == 200, made
        servers = [made["run"]["base_url"]]
        if made["run"]["sampler"]:
            servers.append(made["run"]["sampler"]["base_url"])
        for server in servers:
            await self.healthy(server)
        return made["run"]

    async def healthy(self, server: str) -> None:
        async with asyncio.timeout(20):
            while (await self.ask("GET", f"{server}/health"))[0] != 200:
                await asyncio.sleep(0.01)  # the next look, not a synchronisation: the loop ends with what it waits for

    async def do(self, server: str, operation: str, body: Any) -> Any:
        status, accepted = await self.ask("POST", f"{server}/{operation}", body)
        assert status == 202, accepted
        _, reply = await self.ask("GET", f"{server}/operations/{accepted['operation_id']}")
        assert reply["status"] == "done", reply
        return reply["result"]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_run_from_the_first_step_to_the_sample(
    session: aiohttp.ClientSession, doubles_can_be_imported: Path
) -> None:
    said: list[str] = []
    async with local_stack(on_progress=said.append) as stack:
        assert stack.env == {"LOOPS_BASE_URL": stack.base_url, "BASETEN_API_KEY": stack.api_key}
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
        (folder,) = doubles_can_be_imported.iterdir()
        processes = children()
    assert not any(process.is_running() for process in processes)
    assert not folder.exists()
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


async def test_a_child_that_is_killed_is_reported(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_stack() as stack:
        client = Client(stack, session)
        run = await client.run()
        trainer = next(one for one in children() if "loops_sdk.local.stack.trainer_child" in _command(one))
        trainer.kill()
        async with asyncio.timeout(10):
            while (await client.ask("GET", f"/v1/loops/runs/{run['id']}"))[1]["run"]["status"]["name"] == "ACTIVE":
                await asyncio.sleep(0.01)
        assert "exit code -9" in caplog.text
        assert (await client.run("trainers"))["id"] != run["id"]


async def test_a_base_model_that_does_not_load_says_why_and_leaves_nothing(doubles_can_be_imported: Path) -> None:
    with pytest.raises(DeploymentFailedError, match="the trainer 1 failed: base_model: there is no such model"):
        await local_stack("double/refused").start()
    with pytest.raises(DeploymentFailedError, match=r"exit code 1; the last lines of its log(?s:.*)broken on purpose"):
        await local_stack("double/broken").start()
    assert children() == []
    assert list(doubles_can_be_imported.iterdir()) == []


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
        assert [path.name for path in doubles_can_be_imported.iterdir()] == ["kept"]


async def test_a_cancelled_start_leaves_nothing(doubles_can_be_imported: Path) -> None:
    loading = asyncio.Event()
    starting = asyncio.create_task(local_stack(on_progress=lambda line: loading.set()).start())
    await loading.wait()
    async with asyncio.timeout(20):
        while len(children()) < 2:
            await asyncio.sleep(0.005)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == []
    assert list(doubles_can_be_imported.iterdir()) == []


async def test_a_cancelled_close_closes_all_the_same(doubles_can_be_imported: Path) -> None:
    stack = local_stack()
    await stack.start()
    closing = asyncio.create_task(stack.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert children() == []
    assert list(doubles_can_be_imported.iterdir()) == []
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
        _, seen = await client.ask("GET", "/v1/loops/runs")
        assert [(one["id"], one["status"]["name"]) for one in seen["runs"]] == [(run["id"], "INACTIVE")]
        path = f"bt://loops:{run['id']}/weights/a"
        status, _ = await client.create("trainers", path=path)
        assert status == 200


async def test_a_computation_does_not_hold_up_the_end(session: aiohttp.ClientSession) -> None:
    async with local_stack() as stack:
        client = Client(stack, session)
        run = await client.run("trainers")
        body = {**batch(1, 2), "loss_fn_config": {"spin": True}}
        assert (await client.ask("POST", run["base_url"] + "/forward", body))[0] == 202
        async with asyncio.timeout(10):
            while (await client.ask("GET", run["base_url"] + "/status"))[1]["running"] is None:
                await asyncio.sleep(0.01)
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 5


async def test_children_leave_ctrl_c_to_the_parent(session: aiohttp.ClientSession) -> None:
    async with local_stack() as stack:
        client = Client(stack, session)
        run = await client.run()
        for child in children():
            child.send_signal(signal.SIGINT)
        for server in (run["base_url"], run["sampler"]["base_url"]):
            assert (await client.ask("GET", server + "/health"))[0] == 200


async def test_the_key_is_in_no_command_line_and_no_log(tmp_path: Path) -> None:
    async with local_stack(data_dir=tmp_path / "data") as stack:
        assert not any(stack.api_key in " ".join(_command(child)) for child in children())
        assert stack.api_key not in repr(stack)
    logs = list((tmp_path / "data" / "logs").iterdir())
    assert len(logs) == 2
    assert not any(stack.api_key in log.read_text() for log in logs)


async def test_a_public_address_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with local_stack(host="0.0.0.0") as stack:
            assert stack.base_url.startswith("http://127.0.0.1:")
    assert "every machine" in caplog.text


def test_construction_does_nothing_and_checks_its_arguments(doubles_can_be_imported: Path) -> None:
    stack = local_stack()
    assert repr(stack) == "LocalStack('double/model', not running)"
    with pytest.raises(DeploymentFailedError, match="not running"):
        stack.base_url  # noqa: B018  # reading it is the call
    with pytest.raises(InvalidInputError, match="max_processes"):
        LocalStack(max_processes=1)
    with pytest.raises(InvalidInputError, match="api_key"):
        LocalStack(api_key="two words")
    assert list(doubles_can_be_imported.iterdir()) == []


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
    assert list(doubles_can_be_imported.iterdir()) == []


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
    assert list(doubles_can_be_imported.iterdir()) == []


def test_importing_it_is_light() -> None:
    code = "import sys, loops_sdk.local; print({'torch', 'transformers', 'peft', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
