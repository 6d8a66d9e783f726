"""``loops doctor``: what stands between a user and a training run, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TextIO

import attrs
import click

from loops_sdk.cli.checkup import Finding, State, found, machine, service
from loops_sdk.cli.connection import connection_options, without_retries
from loops_sdk.cli.output import json_option, plain, print_json

_MARKS: dict[State, tuple[str, str, str]] = {
    "fine": ("✓", "+", "green"),
    "remark": ("!", "!", "yellow"),
    "broken": ("✗", "x", "red"),
}


@click.command(short_help="What stands between you and a training run.")
@click.option("--local", is_flag=True, help="Look at this machine only, which must be able to run a deployment.")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="A data directory to look at as well."
)
@json_option
@connection_options
def doctor(base_url: str, local: bool, data_dir: Path | None, as_json: bool) -> None:
    """Look at the key, the way to the service, the hosts of your runs, and this machine; say what to do.

    Without a key, and without an address, nobody is asked: the embedded deployment needs neither. The exit code is 1
    when something is broken. The key is never shown.

    \b
    Example:  loops doctor --json
    """
    with without_retries():  # what goes wrong is in the findings
        findings = asyncio.run(_findings(base_url, local, data_dir))
    broken = any(one.state == "broken" for one in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [attrs.asdict(one) for one in findings]})
    else:
        _print(findings)
    sys.exit(1 if broken else 0)


async def _findings(base_url: str, local: bool, data_dir: Path | None) -> list[Finding]:
    here = machine(local=local, data_dir=data_dir)
    if local:
        return await found(here)
    if not os.environ.get("BASETEN_API_KEY") and not _address_given():
        told = "BASETEN_API_KEY is not set, and no address is given"
        way = "`loops run SCRIPT` needs neither; for the service export BASETEN_API_KEY=..."
        return [Finding("key", "remark", told, way), *await found(here)]
    return await found([*service(base_url), *here])


def _address_given() -> bool:
    source = click.get_current_context().get_parameter_source("base_url")
    return source is not None and source.name != "DEFAULT"


def _print(findings: list[Finding]) -> None:
    ascii_only = not _can_print(sys.stdout, "✓✗→")
    width = max(len(one.name) for one in findings)
    for one in findings:
        mark, substitute, colour = _MARKS[one.state]
        click.secho(substitute if ascii_only else mark, fg=colour, nl=False)
        click.echo(f" {one.name:<{width}}  {plain(one.told)}")
        if one.advice:
            click.echo(f"  {'':<{width}}  {'->' if ascii_only else '→'} {one.advice}")
    broken = sum(one.state == "broken" for one in findings)
    click.echo(f"\n{broken} to mend" if broken else "\nnothing to mend")


def _can_print(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
