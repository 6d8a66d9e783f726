"""Scripts that import `baseten.loops` run as they are: one that provisions, one that is given addresses."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

SCRIPTS = Path(__file__).parent / "scripts"


async def run(deployment: Any, *command: str) -> dict[str, list[str]]:
    """The words of what a command prints, by the first of each line. It must end well, and say nothing else."""
    env = {"LOOPS_BASE_URL": deployment.base_url, "BASETEN_API_KEY": deployment.api_key}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-m", *command),
        env={**os.environ, **env, "LOOPS_BASE_MODEL": deployment.base_model},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 170)
    assert process.returncode == 0, err.decode()
    said: dict[str, list[str]] = {}
    for word, *rest in map(str.split, out.decode().splitlines()):
        said.setdefault(word, []).append(" ".join(rest))
    return said


async def asked(deployment: Any, method: str, path: str) -> Any:
    headers = {"Authorization": f"Bearer {deployment.api_key}"}
    async with aiohttp.request(method, f"{deployment.base_url}{path}", headers=headers) as response:
        assert response.status == 200
        return await response.json()


async def test_a_script_that_provisions(deployment: Any) -> None:
    said = await run(deployment, "loops_sdk_sync.tinker", str(SCRIPTS / "provisioned.py"))
    (run_id,) = said["run"]
    await asked(deployment, "POST", f"/v1/loops/runs/{run_id}/deactivate")
    losses = [float(words.split()[-1]) for words in said["step"]]
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    assert said["saved"] == [f"bt://loops:{run_id}/sampler_weights/step-12"]
    assert said["checkpoint"] == ["step-12"]
    assert said["completion"] != ["''"]


async def test_a_script_that_is_given_addresses(deployment: Any) -> None:
    async with deployment.service() as service, deployment.run(service, rank=4, with_sampler=True) as training:
        known = (await asked(deployment, "GET", f"/v1/loops/runs/{training.run_id}"))["run"]
        addresses = ("--trainer-url", known["base_url"], "--sampler-url", known["sampler"]["base_url"])
        names = ("--base-model", deployment.base_model, "--run-id", str(training.run_id))
        said = await run(deployment, "loops_sdk_sync.tinker", str(SCRIPTS / "attached.py"), *addresses, *names)
        (before,), ((after, _),) = said["before"], map(str.split, said["after"])
        assert float(after) < float(before)
        assert all(float(words.split()[1]) > 0 for words in said["step"])
        assert said["sampled"][0].endswith("policy version 3")
        assert said["newest"] == ["3"]
        assert await training.policy_version_async() == 3


CHECKS = """
import os, sys
import baseten.loops, tinker

if not os.environ.get("TINKER_API_KEY"):
    sys.exit("set TINKER_API_KEY")
assert os.environ["TINKER_API_KEY"] == os.environ["BASETEN_API_KEY"]
assert os.environ["TINKER_BASE_URL"] == os.environ["LOOPS_BASE_URL"]
with baseten.loops.ServiceClient() as service:
    names = [model.model_name for model in service.get_server_capabilities().supported_models]
print("models", *names, *sys.argv[1:], tinker.__name__)
"""


@pytest.mark.parametrize("form", ["a file", "a module"])
async def test_loops_run_tinker(deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A deployment of its own, and the variables that scripts for Tinker look for."""
    (tmp_path / "checks.py").write_text(CHECKS)
    monkeypatch.setenv("TINKER_API_KEY", "a key for somebody else")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    script = [str(tmp_path / "checks.py")] if form == "a file" else ["-m", "checks"]
    said = await run(deployment, "loops_sdk", "run", "--tinker", *script, "--steps", "3")
    assert said["models"] == ["loops/tiny --steps 3 loops_sdk_sync.tinker"]
