"""The embedded deployment as the other side of a benchmark: `loops serve`, a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import loops_sdk
from loops_sdk import ServiceClient

#: The folder of the default model, for who loads it without us.
TINY = Path(loops_sdk.__file__).parent / "local" / "engine" / "tiny" / "weights"

#: Its linear layers.
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]

# One thread in every process: with more, whoever else uses the machine decides who wins.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[str]:
    """Serve until the block ends; gives address, key and process, as `service` and `cpu_s` take them."""
    with TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, "-m", "loops_sdk", "serve", "--data-dir", folder, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as server:
            assert server.stdout is not None  # a pipe
            try:
                said = ""
                while "BASETEN_API_KEY=" not in said:
                    said += (line := server.stdout.readline())
                    if not line:
                        raise SystemExit(f"loops serve ended with {server.wait()}")
                values = dict(re.findall(r"export (\w+)=(\S+)", said))
                yield f"{values['LOOPS_BASE_URL']} {values['BASETEN_API_KEY']} {server.pid}"
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(timeout=30)


@asynccontextmanager
async def service(address: str) -> AsyncIterator[ServiceClient]:
    """A client of what `serving` started. Its runs end with it: those of the next rounds need their processes."""
    base_url, api_key, _ = address.split()
    async with ServiceClient(base_url=base_url, api_key=api_key) as client:
        yield client
        for run in await client.list_runs_async():
            if run.status.name == "ACTIVE":
                command = [sys.executable, "-m", "loops_sdk", "runs", "deactivate", "--yes", run.id]
                env = os.environ | {"LOOPS_BASE_URL": base_url, "BASETEN_API_KEY": api_key}
                await asyncio.to_thread(subprocess.run, command, env=env, stdout=sys.stderr, check=True)


def cpu_s(address: str) -> float:
    """CPU time of all processes of a deployment so far, as Linux counts it."""
    parents, ticks = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = file.read_text().rpartition(")")[2].split()
            parents[int(file.parent.name)], ticks[int(file.parent.name)] = int(fields[1]), sum(map(int, fields[11:13]))
    family = [int(address.split()[2])]
    for process in family:
        family += [child for child, parent in parents.items() if parent == process]
    return sum(ticks[process] for process in family) / os.sysconf("SC_CLK_TCK")


@contextmanager
def tireless() -> Iterator[str]:
    """A folder with a copy of the default model that ends no text of itself, so that all are as long as asked for."""
    with TemporaryDirectory(prefix="bench-") as folder:
        shutil.copytree(TINY, folder, dirs_exist_ok=True)
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            settings = json.loads((file := Path(folder, name)).read_text())
            ends = {"eos_token": settings.get("pad_token"), "eos_token_id": settings.get("pad_token_id")}
            file.write_text(json.dumps(settings | {key: value for key, value in ends.items() if value is not None}))
        yield folder
