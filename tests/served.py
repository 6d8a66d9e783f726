"""`loops serve`, as a user starts it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs


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


@contextmanager
def serving(data_dir: Path, *options: str) -> Iterator[Serving]:
    """A deployment that is up; at the end of the block it is killed, unless it has ended."""
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
            process.kill()
