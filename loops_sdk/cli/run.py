"""``loops run``: a script against an embedded deployment that lives as long as the script."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from rich.console import Console

from loops_sdk.cli.deployment import deployment_options, durable_option, started
from loops_sdk.cli.orphans import PROGRAM
from loops_sdk.cli.signals import in_foreground, on_signal


@click.command(
    short_help="A script against a deployment on this machine.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@deployment_options
@durable_option
@click.option(
    "--tinker",
    is_flag=True,
    help="Let `import tinker` and `import baseten.loops` mean loops_sdk_sync in SCRIPT and its child processes, "
    "whether the originals are installed or not. TINKER_BASE_URL and TINKER_API_KEY are set to this deployment's, for "
    "scripts that check that they are there.",
)
@click.option("-m", "module", is_flag=True, help="SCRIPT is the name of a module, as for python -m.")
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(
    base_model: str,
    data_dir: Path | None,
    max_seq_len: int | None,
    durable: bool,
    tinker: bool,
    module: bool,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Run SCRIPT with ARGS against a deployment on this machine, then stop it.

    The script finds LOOPS_BASE_URL, BASETEN_API_KEY and LOOPS_BASE_MODEL (the name of the base model) in its
    environment, and LOOPS_METRICS_DIR, where its curves go for `loops plot`: the folder `metrics` in --data-dir, unless
    you set another. Its exit code is passed on.
    """
    if not module and not Path(script).is_file():
        raise click.BadParameter(f"there is no file {script!r}.", param_hint="SCRIPT")
    # By its name: this package does not know the other one, which ships with it.
    through = ["-m", "loops_sdk_sync.tinker"] if tinker else []
    command = [sys.executable, *through, *(["-m"] if module else []), script, *args]
    sys.exit(asyncio.run(_run(base_model, data_dir, max_seq_len, durable, tinker, command)))


async def _run(
    base_model: str, data_dir: Path | None, max_seq_len: int | None, durable: bool, tinker: bool, command: list[str]
) -> int:
    console = Console(stderr=True, highlight=False)
    async with started(console, base_model, data_dir, max_seq_len, durable=durable) as stack:
        if console.is_terminal:
            click.echo(f"watch it at {stack.page_url}", err=True)
        env = {**os.environ, **stack.env, "LOOPS_BASE_MODEL": base_model}
        if tinker:
            env |= {"TINKER_BASE_URL": stack.base_url, "TINKER_API_KEY": stack.api_key}
        return await run_script(command, env)


async def run_script(command: list[str], env: dict[str, str]) -> int:
    """Runs a script to its end, which gets Ctrl-C and SIGTERM in our place; gives its exit code as a shell would.

    Should this process be killed, the script is told to end.
    """
    async with _watcher() as watcher:
        script = await asyncio.create_subprocess_exec(*command, env=env)
        try:
            await _say(watcher, str(script.pid))
            _pass_on_signals(script)
            code = await script.wait()
        finally:
            if script.returncode is None:
                script.kill()
                await script.wait()
            await _say(watcher, "ended")
    return 128 - code if code < 0 else code


@asynccontextmanager
async def _watcher() -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends the script if this one is killed and cannot; see `orphans`."""
    watcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,  # whoever kills our group must not kill it, too
    )
    try:
        yield watcher
    finally:
        await watcher.communicate(b"")


async def _say(watcher: asyncio.subprocess.Process, line: str) -> None:
    assert watcher.stdin is not None  # started with a pipe
    with contextlib.suppress(ConnectionError):  # somebody killed it; the script needs it no less, but goes on
        watcher.stdin.write(f"{line}\n".encode())
        await watcher.stdin.drain()


def _pass_on_signals(script: asyncio.subprocess.Process) -> None:
    """From here on the script decides what Ctrl-C means; the deployment stops when the script has ended."""

    def interrupt() -> None:
        # On a terminal Ctrl-C reaches the script by itself: a second one from us would interrupt its clean-up.
        if not in_foreground() and script.returncode is None:
            script.send_signal(signal.SIGINT)

    def terminate() -> None:
        if script.returncode is None:
            script.terminate()

    on_signal(signal.SIGINT, interrupt)
    on_signal(signal.SIGTERM, terminate)
