"""The command `loops`: serve a deployment on this machine, run a script against it, or take the first-minute tour.

Commands are thin: they read arguments, print, and choose exit codes. What they do is done by the floors below.
"""

from __future__ import annotations

import sys

import click

from loops_sdk.cli.quickstart import quickstart
from loops_sdk.cli.run import run
from loops_sdk.cli.serve import serve
from loops_sdk.errors import LoopsError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="loops-sdk", prog_name="loops")
def loops() -> None:
    """Train LoRA adapters of large language models, on the service or on this machine.

    \b
    New here?            loops quickstart
    Have a script?       loops run SCRIPT
    Want it to stay up?  loops serve
    """


loops.add_command(quickstart)
loops.add_command(run)
loops.add_command(serve)


def main() -> None:
    """Run the command; an error of ours is one line on stderr and exit code 1."""
    try:
        loops()
    except LoopsError as error:
        click.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        sys.exit(1)
