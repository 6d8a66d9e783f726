"""What importing costs: both front doors against their own foundations, each in a fresh interpreter, interleaved.

The ratio that counts is `import loops_sdk` over `import aiohttp, attrs, cattrs, orjson`; goal: at most 1.3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from _report import arguments, conclude, shown, spread

GOAL = 1.3
SUBJECTS = {
    "foundation": "import aiohttp, attrs, cattrs, orjson",
    "loops_sdk": "import loops_sdk",
    "loops_sdk_sync": "import loops_sdk_sync",
}
PROBE = """
import json, resource, sys, time
started = time.perf_counter()
{statement}
seconds = time.perf_counter() - started
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds * 1e3, len(sys.modules), rss / 1024]))
"""


def probe(statement: str) -> list[float]:
    """Milliseconds, number of modules and peak RSS in MiB of one statement in a fresh interpreter."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    # With bytecode, as installed packages have it: else every interpreter would compile our sources anew.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=env)
    return [float(value) for value in json.loads(done.stdout)]


def measure(repeats: int) -> dict[str, Any]:
    for statement in SUBJECTS.values():
        probe(statement)  # writes the bytecode, warms the disk cache
    rounds = [{name: probe(statement) for name, statement in SUBJECTS.items()} for _ in range(repeats)]
    return {
        name: {
            "ms": spread([one[name][0] for one in rounds]),
            "ratio": spread([one[name][0] / one["foundation"][0] for one in rounds]),
            "modules": rounds[0][name][1],
            "rss_mib": spread([one[name][2] for one in rounds]),
        }
        for name in SUBJECTS
    }


def show(measured: dict[str, Any]) -> None:
    print(f"{'import':<16}{'ms median (min-max)':>24}{'ratio median (min-max)':>26}{'modules':>9}{'RSS MiB':>9}")
    for name, row in measured.items():
        times, ratios = shown(row["ms"], 0), shown(row["ratio"], 2)
        print(f"{name:<16}{times:>24}{ratios:>26}{row['modules']:>9.0f}{row['rss_mib']['median']:>9.1f}")


def main() -> None:
    options = arguments(__doc__, repeats=15)
    details = measure(options.repeats)
    show(details)
    conclude(options.json, "imports", GOAL, details["loops_sdk"]["ratio"]["median"], details)


if __name__ == "__main__":
    main()
