"""What importing costs in a fresh interpreter: both front doors, their foundations, `import tinker`."""

from __future__ import annotations

import json
import subprocess
import sys

from _contest import Contest, Contestant, Figures, Goal, Setting

_PROBE = """
import sys, time
before, started, cpu = len(sys.modules), time.perf_counter(), time.process_time()
import {names}
wall, cpu, modules = time.perf_counter() - started, time.process_time() - cpu, len(sys.modules) - before
import json, resource
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(dict(wall_s=wall, cpu_s=cpu, modules=modules, rss_mib=rss)))
"""


def importing(*names: str) -> Contestant:
    def play(setting: Setting) -> Figures:
        command = [sys.executable, "-c", _PROBE.format(names=", ".join(names))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
        figures: Figures = json.loads(done.stdout)
        return figures

    return Contestant(play, needs=names)


if __name__ == "__main__":
    Contest(
        name="imports",
        about=__doc__,
        contestants={
            "raw": importing("aiohttp", "attrs", "orjson", "numpy"),
            "ours": importing("loops_sdk"),
            "facade": importing("loops_sdk_sync"),
            "tinker": importing("tinker"),
        },
        goals=(
            Goal("wall_s", 1.1),
            Goal("wall_s", 1.1, of="facade"),
            Goal("modules", 1.1),
            Goal("rss_mib", 1.1),
            Goal("wall_s", 1.5, of="tinker", against="ours", at_least=True),
            Goal("rss_mib", 1.5, of="tinker", against="ours", at_least=True),
        ),
        repeats=15,
    ).main()
