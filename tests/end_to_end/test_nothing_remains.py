"""However a program ends, no server process, no port and no temporary folder outlives it by more than five seconds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

EMBEDDED = """
import asyncio, os
from loops_sdk import AdamParams, Datum, ServiceClient
from loops_sdk.local import LocalStack

async def main():
    async with LocalStack() as stack, ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service:
        await train(service, stack.base_url)

async def train(service, url):
    training = await service.create_lora_training_client_async("loops/tiny", rank=4, with_sampler=True)
    data = [Datum(list(range(50, 250)), {"target_tokens": list(range(51, 251))})] * 8
    while True:
        await (await training.forward_backward_async(data))
        await (await training.optim_step_async(AdamParams()))
        print(url, flush=True)

asyncio.run(main())
"""

UNDER_LOOPS_RUN = EMBEDDED.replace(
    "async with LocalStack() as stack, ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service:\n"
    "        await train(service, stack.base_url)",
    "async with ServiceClient() as service:\n        await train(service, os.environ['LOOPS_BASE_URL'])",
)


@contextmanager
def _training(program: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process], str]]:
    """A program that has begun to train, with all processes it started and the address of its control plane."""
    temporary = folder / "tmp"
    temporary.mkdir()
    env = {**os.environ, "TMPDIR": str(temporary)}
    env.pop("TORCHINDUCTOR_CACHE_DIR", None)  # set by torch where another test has imported it
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline().strip()
        if not line:
            pytest.fail(process.stderr.read())
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        try:
            yield process, children, line
        finally:
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def _assert_nothing_remains(children: list[psutil.Process], url: str, temporary: Path) -> None:
    end = time.monotonic() + 5
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    while any(temporary.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)  # a folder sends no event; this bounds how often it is looked at
    assert list(temporary.iterdir()) == []
    address = urlsplit(url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("how", ["LocalStack", "loops run"])
def test_after_a_signal_in_the_middle_of_training(how: str, number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(EMBEDDED if how == "LocalStack" else UNDER_LOOPS_RUN)
    program = (
        [sys.executable, str(script)]
        if how == "LocalStack"
        else [sys.executable, "-m", "loops_sdk", "run", str(script)]
    )
    with _training(program, tmp_path) as (process, children, url):
        scripts = [child for child in children if str(script) in child.cmdline()]
        servers = [child for child in children if child not in scripts]
        process.send_signal(number)
        process.stdout.close()  # type: ignore[union-attr]
        assert process.wait(timeout=10) != 0
        _assert_nothing_remains(servers, url, tmp_path / "tmp")
        assert not psutil.wait_procs(scripts, timeout=5)[1]
