"""``loops runs watch``: a run while it trains, looked at again and again until it has ended.

It decides when to look, when to draw, and when to give up. What is asked, and how it looks, is decided in `watching`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import attrs
import click
import orjson
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from loops_sdk._clients.control import ControlPlane
from loops_sdk.cli.completion import run_ids
from loops_sdk.cli.connection import ask, connection_options
from loops_sdk.cli.curves import dir_option
from loops_sdk.cli.output import note, on_terminal
from loops_sdk.cli.runs import UNKNOWN, ended, listed
from loops_sdk.cli.signals import on_signal
from loops_sdk.cli.watching import Look, Looking, as_json, picture
from loops_sdk.errors import ConnectionFailedError, RequestTimeoutError, ServerFailureError
from loops_sdk.instrumentation.metrics import folder_of_environment
from loops_sdk.types.checkpoints import check_name

#: Drawings per second: a window that has changed its size is filled again.
_DRAWINGS = 2
#: Seconds without any answer of the control plane after which there is nothing to watch any more.
_GIVE_UP_AFTER = 60.0
#: What passes when a server comes back.
_PASSING = (ConnectionFailedError, RequestTimeoutError, ServerFailureError)


class Screen(Protocol):
    """Where looks are shown."""

    def show(self, look: Look) -> None:
        """This is how things are now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


@click.command(short_help="A run while it trains: operations, numbers, policy versions.")
@click.argument("run_id", required=False, shell_complete=run_ids)
@click.option(
    "--interval", default=2.0, show_default=True, type=click.FloatRange(min=0.2), help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Look once, print what there is, and exit.")
@click.option("--json", "as_lines", is_flag=True, help="Print a line of JSON for each look.")
@dir_option
@connection_options
def watch(base_url: str, run_id: str | None, interval: float, once: bool, as_lines: bool, folder: Path | None) -> None:
    """Watch RUN_ID, by default the newest run that is active: its operations and how many wait, loss, reward and
    throughput, the policy version of its trainer, and by how much its sampler is behind. Ends with the run, or by
    Ctrl-C.

    Where standard output is no terminal, each look is printed below the one before. The numbers are those of the run's
    metrics file in --dir or LOOPS_METRICS_DIR; where there is none, an embedded deployment is asked for them.

    \b
    Example:  loops runs watch
    Example:  loops runs watch k4q95w5 --once --json
    """
    screen = Lines() if as_lines else Window() if on_terminal() and not once else Pages()
    watching = Watching(screen, folder or folder_of_environment(), None if once else interval)
    try:
        ask(base_url, lambda control: watching.run(control, run_id), unknown=UNKNOWN)
    finally:
        screen.close()
    if watching.terminated.is_set():
        sys.exit(128 + signal.SIGTERM)


class Watching:
    """Looks until the run has ended, or nobody answers any more.

    Args:
        folder: where metrics files are, if that is known.
        interval: seconds between two looks; `None` for one look only.

    Attributes:
        terminated: set when the program was told to end.
    """

    def __init__(self, screen: Screen, folder: Path | None, interval: float | None) -> None:
        self._screen, self._folder, self._interval = screen, folder, interval
        self.terminated = asyncio.Event()

    async def run(self, control: ControlPlane, run_id: str | None) -> None:
        """Watch a run, by default the newest one that is active.

        Raises:
            click.ClickException: none is.
            LoopsError: the run is not there, or the control plane does not answer.
        """
        if isinstance(self._screen, Window):  # whose terminal must not stay as it is then
            on_signal(signal.SIGTERM, self.terminated.set)
        looking = Looking(control, await _named(control, run_id), self._folder)
        look = await looking.look()
        self._screen.show(look)
        if self._interval is not None:
            await self._go_on(looking, look, self._interval)

    async def _go_on(self, looking: Looking, look: Look, interval: float) -> None:
        answered = time.monotonic()
        while not (ended(look.run) or await self._told_to_end(interval)):
            try:
                look, answered = await looking.look(), time.monotonic()
            except _PASSING as error:
                if time.monotonic() - answered > _GIVE_UP_AFTER:
                    raise
                look = attrs.evolve(look, at=time.time(), troubles=[f"control plane: {error.message}"])
            self._screen.show(look)
        if ended(look.run):
            note(f"run {look.run.id} has ended")

    async def _told_to_end(self, within: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.terminated.wait()
        return self.terminated.is_set()


async def _named(control: ControlPlane, run_id: str | None) -> str:
    if run_id is not None:
        return check_name("run_id", run_id)
    active = [run for run in await listed(control, None, None) if not ended(run)]
    if not active:
        text = "no run is active; `loops runs list --all` shows those that have ended"
        raise click.ClickException(text)
    return max(active, key=lambda run: run.created_at).id


# ------------------------------------------------------------------ screens


class Lines:
    """A line of JSON for each look."""

    def show(self, look: Look) -> None:
        click.echo(orjson.dumps(as_json(look)))

    def close(self) -> None:
        """Nothing was changed."""


class Pages:
    """One look below the other, for files and pipes."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._any = False

    def show(self, look: Look) -> None:
        if self._any:
            self._console.print()
        self._any = True
        self._console.print(_Drawn(look))

    def close(self) -> None:
        """Nothing was changed."""


class Window:
    """The whole terminal; in the end the last look stays below what was there before."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live: Live | None = None
        self._last: Look | None = None

    def show(self, look: Look) -> None:
        self._last = look
        if self._live is None:
            self._live = Live(console=self._console, screen=True, refresh_per_second=_DRAWINGS)
            self._live.start()
        self._live.update(_Drawn(look))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
        if self._last is not None:
            self._console.print(_Drawn(self._last))


class _Drawn:
    """A look in as many columns as there are when it is drawn."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = not options.encoding.startswith("utf")
        yield picture(self._look, width=options.max_width, ascii_only=ascii_only)
