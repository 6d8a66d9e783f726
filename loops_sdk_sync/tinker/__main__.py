"""``python -m loops_sdk_sync.tinker SCRIPT``: a script written for the Tinker SDK, run on this package.

It decides what may be run. Running is left to Python itself, which starts anew in this process: arguments, exit codes,
tracebacks and Ctrl-C are then what they always are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from loops_sdk_sync.tinker.loader import install

USAGE = "usage: python -m loops_sdk_sync.tinker (SCRIPT | -m MODULE) [ARGS...]"
HELP = f"""{USAGE}

Run SCRIPT, or MODULE, as python does, with `import tinker` and `import baseten.loops` meaning loops_sdk_sync, also
where the originals are installed and in the processes that it starts. Nothing else is changed, and nothing stays.

Key and address of the service come from BASETEN_API_KEY and LOOPS_BASE_URL, never from TINKER_API_KEY. To run a script
against a deployment on this machine: loops run --tinker SCRIPT
"""


def main(args: list[str]) -> None:
    """Run what `args` say, and end with it."""
    if args[:1] in (["-h"], ["--help"]):
        sys.stdout.write(HELP)
        return
    problem = _problem(args)
    if problem:
        _refuse(problem)
    install()
    os.execv(sys.executable, [sys.executable, *_flags(len(args)), *args])


def _flags(count: int) -> list[str]:
    """What python itself was told, before this module and its `count` arguments."""
    *before, program = sys.orig_argv[1 : len(sys.orig_argv) - count]
    module = __spec__.parent if __spec__ is not None else None
    if module is not None and program == module:
        before[-1] = before[-1].removesuffix("m")  # of "-m", or of "-um"
    elif module is not None and program.endswith(module):
        before.append(program.removesuffix(f"m{module}"))
    return [flag for flag in before if flag != "-"]


def _problem(args: list[str]) -> str:
    if sys.flags.ignore_environment or sys.flags.no_site:
        return "python was started with -I, -E or -S, under which nothing can be redirected"
    if not args:
        return "no SCRIPT was given"
    if args[0] == "-m":
        return "" if len(args) > 1 else "-m needs the name of a MODULE"
    if args[0].startswith("-"):
        return f"unknown option {args[0]}; options of python go before -m loops_sdk_sync.tinker"
    return "" if Path(args[0]).exists() else f"there is no file {args[0]!r}"


def _refuse(problem: str) -> NoReturn:
    sys.stderr.write(f"{USAGE}\nerror: {problem}\n")
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
