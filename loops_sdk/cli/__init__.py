"""The command `loops`: serve a deployment on this machine, run a script against it, take the first-minute tour, and see
what runs and what was saved, here or on the service.

Commands are thin: they read arguments, print, and choose exit codes. What they do is done by the floors below.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Sequence

import click

from loops_sdk.cli.checkpoints import checkpoints
from loops_sdk.cli.checkup.machine import ours
from loops_sdk.cli.completion import completion
from loops_sdk.cli.docs import docs
from loops_sdk.cli.doctor import doctor
from loops_sdk.cli.examples import examples
from loops_sdk.cli.merge import merge
from loops_sdk.cli.models import models
from loops_sdk.cli.plot import plot
from loops_sdk.cli.push_hf import push_hf
from loops_sdk.cli.quickstart import quickstart
from loops_sdk.cli.run import run
from loops_sdk.cli.runs import runs
from loops_sdk.cli.serve import serve
from loops_sdk.cli.vllm import vllm
from loops_sdk.cli.watch import watch
from loops_sdk.errors import LoopsError
from loops_sdk.instrumentation import RedactingFilter

__all__ = ["main"]

_redacting = RedactingFilter()

#: What shells make of a program that was interrupted.
_INTERRUPTED = 130


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"loops-sdk {ours()}, Python {platform.python_version()}, {platform.platform(terse=True)}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show versions and exit."
)
def loops() -> None:
    """Train LoRA adapters of large language models, on the service or on this machine.

    \b
    New here?            loops quickstart
    Something to read?   loops docs
    Programs to read?    loops examples list
    Have a script?       loops run SCRIPT
    Want it to stay up?  loops serve
    How did it go?       loops plot RUN_ID
    What is running?     loops runs list
    What does it do?     loops runs watch
    What was saved?      loops checkpoints list --run-id RUN_ID
    Does it not work?    loops doctor

    Runs and checkpoints are those of the server that a script asks: LOOPS_BASE_URL with the key in BASETEN_API_KEY.
    """


runs.add_command(watch)
for command in (quickstart, examples, run, serve, runs, plot, checkpoints, models, docs, doctor, completion):
    loops.add_command(command)
for command in (merge, push_hf, vllm):
    checkpoints.add_command(command)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with `args`, by default the program's own, and exit: 0 done, 1 an error of the service or of the
    deployment, in one line on standard error, 2 a wrong call, 130 interrupted.
    """
    _show_no_secrets()
    try:
        code = loops.main(args, standalone_mode=False)
    except LoopsError as error:
        click.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        code = 1
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        code = _INTERRUPTED
    sys.exit(code)


def _show_no_secrets() -> None:
    """Warnings of all loggers come out here, as in any program that sets up no handlers: none shows a key."""
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_redacting)
