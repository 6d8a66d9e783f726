"""Runs benchmarks by name, each in a process of its own, and gathers what they wrote into one file."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
#: What draws, from what the others wrote.
PLOTS = "plots"
NAMES = sorted({path.stem.replace("_", "-") for path in FOLDER.glob("[!_]*.py")} - {PLOTS})


def run(name: str, file: Path, passed: list[str]) -> dict[str, Any]:
    print(f"== {name}", flush=True)
    script = FOLDER / f"{name.replace('-', '_')}.py"
    subprocess.run([sys.executable, str(script), "--json", str(file), *passed], check=True)
    written: dict[str, Any] = json.loads(file.read_text())
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ones (default: all): {', '.join(NAMES)}; or {PLOTS}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and details of all of them to FILE")
    parser.add_argument("--repeats", metavar="N", help="rounds, instead of each one's own number")
    parser.add_argument("--smoke", action="store_true", help="one small round each: shows that they work, not how fast")
    options = parser.parse_args()
    if options.names == [PLOTS]:
        subprocess.run([sys.executable, str(FOLDER / f"{PLOTS}.py")], check=True)
        return
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    passed = ["--repeats", options.repeats] if options.repeats else []
    passed += ["--smoke"] if options.smoke else []
    with tempfile.TemporaryDirectory() as folder:
        written = {name: run(name, Path(folder, f"{name}.json"), passed) for name in options.names or NAMES}
    if options.json:
        rows = {key: row for one in written.values() for key, row in one["rows"].items()}
        details = {name: one["details"] for name, one in written.items()}
        options.json.write_text(json.dumps({"rows": rows, "details": details}, indent=2) + "\n")


if __name__ == "__main__":
    main()
