"""Ends a script whose `loops run` was killed, which can no longer do that itself. It runs as a program of its own.

It reads its standard input, which only `loops run` can write to: a line with the script's process id, and a line when
the script has ended. An end without that line means that `loops run` is gone. It imports nothing of this package, so
that it starts at once and stays small.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PROGRAM = __file__
#: Seconds that the script has to end by itself, as after a SIGTERM to `loops run`.
GRACE = 10.0


def main() -> None:
    """Wait, and end the script if nobody else is left to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the script
    lines = sys.stdin.buffer.read().split()
    if len(lines) == 1:
        end(int(lines[0]))


def end(process: int) -> None:
    """SIGTERM, and after a while SIGKILL; on Windows both are the same, and there is nothing to wait for."""
    kill = getattr(signal, "SIGKILL", None)
    try:
        os.kill(process, signal.SIGTERM)
        if kill is None:
            return
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            time.sleep(0.05)
            os.kill(process, 0)
        os.kill(process, kill)
    except OSError:
        pass  # it is gone


if __name__ == "__main__":
    main()
