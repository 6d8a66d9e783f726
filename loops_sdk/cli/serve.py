"""``loops serve``: an embedded deployment that stays up until it is told to stop."""

from __future__ import annotations

import asyncio
import shlex
import signal
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from loops_sdk.cli.deployment import deployment_options, durable_option, started
from loops_sdk.cli.signals import on_signal


@click.command(short_help="A deployment on this machine until Ctrl-C.")
@deployment_options
@durable_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, help="Port of the control plane.  [default: any free one]")
@click.option(
    "--api-key",
    envvar="LOOPS_SERVE_API_KEY",
    help="Key that clients must send.  [default: a random one, kept in the data directory]",
)
def serve(base_model: str, data_dir: Path | None, max_seq_len: int | None, **more: Any) -> None:
    """Serve a deployment on this machine until Ctrl-C.

    Prints the lines that point any script at it, and the address of a page that shows what runs on it. Started again on
    the same --data-dir, it goes on with the runs that it had, and its clients with it if --port says the same.
    """
    asyncio.run(_serve(base_model, data_dir, max_seq_len, more))


async def _serve(base_model: str, data_dir: Path | None, max_seq_len: int | None, more: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        on_signal(number, stop.set)
    async with started(console, base_model, data_dir, max_seq_len, **more) as stack:
        console.print(f"serving {base_model} at {stack.base_url}")
        console.print("point a script at it with\n")
        for name, value in {**stack.env, "LOOPS_BASE_MODEL": base_model}.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo(f"\nwatch it, and sample from it, at {stack.page_url}")
        console.print("\nCtrl-C stops it")
        await stop.wait()
    console.print("stopped")
