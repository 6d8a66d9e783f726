"""The embedded deployment as the other side of a benchmark: `loops serve`, a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import loops_sdk
from loops_sdk import ServiceClient

#: The folder of the default model, for who loads it without us.
TINY = Path(loops_sdk.__file__).parent / "local" / "engine" / "tiny" / "weights"


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[str]:
    """Serve until the block ends; gives address and key, as `service` takes them."""
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
                yield f"{values['LOOPS_BASE_URL']} {values['BASETEN_API_KEY']}"
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(timeout=30)


def service(address: str) -> ServiceClient:
    """A client of what `serving` started."""
    base_url, api_key = address.split()
    return ServiceClient(base_url=base_url, api_key=api_key)
