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
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def run(name: str, file: Path) -> dict[str, Any]:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), "--json", str(file)], check=True)
    written: dict[str, Any] = json.loads(file.read_text())
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (default: all): {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and details of all of them to FILE")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as folder:
        written = {name: run(name, Path(folder, f"{name}.json")) for name in options.names or NAMES}
    if options.json:
        rows = {key: row for one in written.values() for key, row in one["rows"].items()}
        details = {name: one["details"] for name, one in written.items()}
        options.json.write_text(json.dumps({"rows": rows, "details": details}, indent=2) + "\n")


if __name__ == "__main__":
    main()
