"""A run takes over the processes of another: the base model stays loaded, nothing of the old run is left in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local import LocalStack
from loops_sdk.local.stack.child import Child

from ..conftest import batch, until
from .deployment import Client

pytestmark = pytest.mark.usefixtures("doubles_can_be_imported")


async def trained(client: Client, run: Any, token: int) -> Any:
    """What the run's sampler says after the run has learnt to say `token`."""
    for _ in range(3):
        await client.do(run["base_url"], "forward_backward", batch(*[token] * 4))
        await client.do(run["base_url"], "optim_step", {"adam_params": {"learning_rate": 1.0}})
    await client.do(run["base_url"], "save_weights_for_sampler", {"name": "a", "run_id": run["id"]})
    body = {"model": run["id"], "prompt": [1], "max_tokens": 2, "temperature": 0, "return_token_ids": True}
    status, reply = await client.ask("POST", run["sampler"]["base_url"] + "/v1/completions", body)
    assert status == 200, reply
    return reply["choices"][0]["token_ids"]


async def active(client: Client, run: Any) -> None:
    async def is_active() -> bool:
        _, seen = await client.ask("GET", f"/v1/loops/runs/{run['id']}")
        return bool(seen["run"]["sampler"]["status"]["name"] == "ACTIVE")

    await until(is_active)


async def test_processes_go_from_run_to_run(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    options: dict[str, Any] = {"engine": "double_engine", "max_processes": 2, "data_dir": tmp_path / "data"}
    async with LocalStack("double/model", **options) as stack:
        client = Client(stack, session)
        run = await client.run(lora_rank=4)
        assert await trained(client, run, 5) == [5, 5]
        for token, rank in ((6, 8), (7, 2)):
            await active(client, run)
            new = await client.run(lora_rank=rank, reuse_from_run_id=run["id"])
            assert new["deployment_id"] == run["deployment_id"]
            assert new["sampler"]["id"] == run["sampler"]["id"]
            for old in (run["base_url"], run["sampler"]["base_url"]):
                with pytest.raises(aiohttp.ClientConnectionError):
                    await client.ask("GET", old + "/health")
            _, status = await client.ask("GET", new["base_url"] + "/status")
            assert (status["step"], status["lora_rank"], status["run_id"]) == (0, rank, new["id"])
            assert await trained(client, new, token) == [token, token]
            run = new
        logs = sorted(log.name for log in (tmp_path / "data" / "logs").iterdir())
        assert logs == ["sampler-2.log", "trainer-1.log"]  # no process but the first two


async def test_a_child_whose_engine_stays_busy_says_so() -> None:
    asked: list[float] = []

    async def release(timeout: float) -> bool:
        asked.append(timeout)
        return len(asked) > 1

    one = Child(leash=None, settings=None, storage=None)  # type: ignore[arg-type]
    with pytest.raises(DeploymentFailedError, match="did not end within 10 s"):
        await one.let_go(release)
    await one.let_go(release)
    assert asked == [10.0, 10.0]
