"""`loops serve`, as a user starts it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

#: Seconds in which a program that is told to end must have ended; the deployment takes five.
_GRACE = 30.0


def end(process: subprocess.Popen[str]) -> None:
    """Tells a program to end, so that it clears up after itself; one that does not is killed. Safe to call twice."""
    process.terminate()
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


@attrs.frozen
class Serving:
    """The process, and what it said on its way up: its address and the key."""

    process: subprocess.Popen[str]
    base_url: str
    api_key: str

    def kill(self) -> None:
        """As ``kill -9``: it has no chance to clear up."""
        self.process.kill()
        self.process.wait()

    def end_runs(self) -> None:
        """Gives back the processes of all runs, and of samplers of their own; their checkpoints stay."""
        for kind in ("runs", "samplers"):
            for one in self._ask("GET", kind)[kind]:
                if one["status"]["name"] != "INACTIVE":
                    self._ask("POST", f"{kind}/{one['id']}/deactivate")

    def _ask(self, method: str, what: str) -> Any:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        request = urllib.request.Request(f"{self.base_url}/v1/loops/{what}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


@contextmanager
def serving(data_dir: Path, *options: str) -> Iterator[Serving]:
    """A deployment that is up; at the end of the block it is told to end, unless it has."""
    command = [sys.executable, "-m", "loops_sdk", "serve", "--data-dir", str(data_dir), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "BASETEN_API_KEY=" not in said:
                line = process.stdout.readline()
                assert line, f"loops serve ended with {process.wait()} after: {said}"
                said += line
            values = dict(re.findall(r"export (\w+)=(\S+)", said))
            yield Serving(process, values["LOOPS_BASE_URL"], values["BASETEN_API_KEY"])
        finally:
            end(process)
