"""The same script with one import changed: `loops_sdk_sync.tinker` and the Tinker SDK, each on its own wire.

In `one by one` and `1000 at once` the script samples 64 tokens with their log-probabilities, through futures, on an
event loop; `threads` is how many it has more than before. In `import` nothing is done but the import. In `no server`
nobody listens at the address: `error_s` is how long the script waits for the error. In `cancelled` an operation is
cancelled while the one before it is on its way: `after_s` is how long the one after it takes. Nobody waits longer than
30 seconds.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import _raw
from _cancelled import PATIENCE_S
from _contest import Contest, Contestant, Figures, Goal, Meter, Setting
from _mock import MODEL, Mock
from _samplers import PROMPT, TOKENS

NOWHERE = "http://127.0.0.1:9"
#: In a process of its own: one of the two waits on threads that no program can end.
_WAIT = """
import sys, time, warnings
warnings.simplefilter("ignore")
import {module} as tinker
started = time.perf_counter()
try:
    tinker.ServiceClient(base_url={url!r}, api_key={key!r}).create_lora_training_client("m").result()
except Exception:
    print(time.perf_counter() - started)
"""
_IMPORT = "import time; started = time.perf_counter(); import {module}; print(time.perf_counter() - started)"


def contestant(module: str, key: str, client: Callable[[Any, str], Any]) -> Contestant:
    def told(*script: str, patience: float = PATIENCE_S) -> float:
        command = [sys.executable, *script]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=patience)
        except subprocess.TimeoutExpired:
            return patience
        return float(done.stdout)

    def play(setting: Setting) -> Figures:
        match setting.case:
            case "import":
                return {"import_s": told("-c", _IMPORT.format(module=module))}
            case "no server":
                return {"error_s": told("-c", _WAIT.format(module=module, key=key, url=NOWHERE))}
            case "cancelled":
                script = Path(__file__).with_name("_cancelled.py")
                return {"after_s": told(str(script), module, patience=2 * PATIENCE_S)}
            case _:
                return asyncio.run(sample(setting, importlib.import_module(module), client))

    return Contestant(play, needs=(module.partition(".")[0],))


async def sample(setting: Setting, tinker: Any, client: Callable[[Any, str], Any]) -> Figures:
    threads = threading.active_count()
    sampling = await client(tinker, setting.server)
    prompt, params = tinker.ModelInput.from_ints(PROMPT), tinker.SamplingParams(max_tokens=TOKENS)
    await sampling.sample(prompt, 1, params)  # with what is imported and looked up only once
    with Meter() as meter:
        samples = setting.size(1000, 20)
        if setting.case == "one by one":
            for _ in range(samples):
                await sampling.sample(prompt, 1, params)
        else:
            await asyncio.gather(*(sampling.sample(prompt, 1, params).coroutine() for _ in range(samples)))
    each = {"cpu_us": meter.figures["cpu_s"] / samples * 1e6, "threads": threading.active_count() - threads}
    return {"wall_s": meter.figures["wall_s"], **each}


async def our_client(tinker: Any, url: str) -> Any:
    from loops_sdk_sync import LocalDeployment, SamplingClient

    return tinker.SamplingClient(SamplingClient(base_model=MODEL, deployment=LocalDeployment(url), api_key=_raw.KEY))


async def their_client(tinker: Any, url: str) -> Any:
    service = tinker.ServiceClient(base_url=url, api_key="tml-nobody-checks")
    return await service.create_sampling_client(base_model=MODEL)


def server(case: str) -> AbstractContextManager[str]:
    delay = {"one by one": 0.0, "1000 at once": 0.2}.get(case)
    return nullcontext("") if delay is None else Mock(delay=delay, prompt=len(PROMPT), tokens=TOKENS).serving()


if __name__ == "__main__":
    Contest(
        name="tinker-namespace",
        about=__doc__,
        contestants={
            "ours": contestant("loops_sdk_sync.tinker", "key", our_client),
            "tinker": contestant("tinker", "tml-nobody-checks", their_client),
        },
        goals=(
            Goal("cpu_us", 5.0, of="tinker", against="ours", at_least=True, cases=("one by one", "1000 at once")),
            Goal("import_s", 1.5, of="tinker", against="ours", at_least=True, cases=("import",)),
            Goal("error_s", 15.0, against=None, cases=("no server",)),
            Goal("after_s", 1.0, against=None, cases=("cancelled",)),
        ),
        cases=("import", "one by one", "1000 at once", "no server", "cancelled"),
        server=server,
        smoke=("import", "one by one"),
    ).main()
