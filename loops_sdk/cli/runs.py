"""``loops runs``: what is training, and the end of it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import click

from loops_sdk._clients.control import ControlPlane
from loops_sdk._net.caller import Patience
from loops_sdk._wire.endpoints import LIST_OPERATIONS
from loops_sdk.cli.checkpoints import print_checkpoints, with_address
from loops_sdk.cli.completion import run_ids
from loops_sdk.cli.connection import ask, connection_options
from loops_sdk.cli.output import json_option, moment, note, print_fields, print_json, print_table
from loops_sdk.errors import LoopsError, NotFoundError, RequestTimeoutError
from loops_sdk.types import Checkpoint, OperationInfo, Run, Sampler

UNKNOWN = "`loops runs list --all` shows your runs, `--org` everybody's"
#: How long a run may take to stop, and how often it is looked at.
_STOPS_WITHIN = 60.0
_LOOK_AGAIN = 1.0
#: How long to ask a trainer for its operations, and how many of them are shown to people.
_BRIEFLY = Patience(total=5.0, attempts=2)
_MOST_SHOWN = 20


@click.group(short_help="Training runs: list, show, watch, deactivate.")
def runs() -> None:
    """Training runs on the service, or on the deployment that LOOPS_BASE_URL names."""


@runs.command("list", short_help="Runs, newest first.")
@click.option("--all", "with_inactive", is_flag=True, help="Also runs that have ended.")
@click.option("--org", is_flag=True, help="Everybody's runs, not only your own.")
@click.option("--base-model", help="Runs of this base model only.")
@json_option
@connection_options
def list_runs(base_url: str, with_inactive: bool, org: bool, base_model: str | None, as_json: bool) -> None:
    """List training runs, newest first; those of a team when LOOPS_TEAM names one.

    \b
    Example:  loops runs list --all --base-model Qwen/Qwen3-8B
    """
    found = ask(base_url, lambda control: listed(control, base_model, "org" if org else None))
    shown = sorted((run for run in found if with_inactive or not ended(run)), key=_age, reverse=True)
    if as_json:
        print_json(shown)
    else:
        _print_runs(shown, with_owner=org, empty="no runs" if with_inactive else "no active runs")
    if hidden := len(found) - len(shown):
        note(f"ended runs hidden: {hidden} (--all shows them)")


async def listed(control: ControlPlane, base_model: str | None, scope: str | None) -> list[Run]:
    """The caller's runs, a team's where ``LOOPS_TEAM`` names one, everybody's where `scope` is ``"org"``."""
    if team := os.environ.get("LOOPS_TEAM"):
        await control.act_for(team)
    return await control.list_runs(base_model=base_model, scope=scope)


def ended(run: Run) -> bool:
    """Whether nothing can be asked of it any more."""
    return run.status.name == "INACTIVE"


def _age(run: Run) -> Any:
    return run.created_at


def _print_runs(shown: list[Run], *, with_owner: bool, empty: str) -> None:
    headings = ["RUN", *(["OWNER"] if with_owner else []), "NAME", "BASE MODEL", "STATUS", "CREATED"]
    rows = [
        [run.id, *([run.user.email] if with_owner else []), run.name, run.base_model, run.status.name, _created(run)]
        for run in shown
    ]
    print_table(headings, rows, empty=empty)


def _created(made: Run | Sampler) -> str:
    return moment(made.created_at)


@runs.command(short_help="One run, its sampler and its checkpoints.")
@click.argument("run_id", shell_complete=run_ids)
@json_option
@connection_options
def show(base_url: str, run_id: str, as_json: bool) -> None:
    """Show a run, its sampler, the operations that its trainer still knows, and its checkpoints.

    With --json an object with the fields `run` (the sampler is in it), `operations` and `checkpoints`. Operations are
    null when the trainer does not tell them. With their ids and keys another process can ask for their results.

    \b
    Example:  loops runs show k4q95w5
    """
    run, operations, checkpoints = ask(base_url, lambda control: _all_of(control, run_id), unknown=UNKNOWN)
    if as_json:
        saved = [with_address(one) for one in checkpoints]
        print_json({"run": run, "operations": operations, "checkpoints": saved})
        return
    print_fields(_fields(run))
    click.echo()
    if operations is not None:
        _print_operations(operations)
        click.echo()
    print_checkpoints(checkpoints)


async def _all_of(control: ControlPlane, run_id: str) -> tuple[Run, list[OperationInfo] | None, list[Checkpoint]]:
    run = await control.get_run(run_id)
    return run, None if ended(run) else await _operations_of(control, run), await control.checkpoints(run_id=run_id)


async def _operations_of(control: ControlPlane, run: Run) -> list[OperationInfo] | None:
    """What the trainer knows; `None` when it does not tell, or is not up. The rest of the page is worth showing."""
    url = LIST_OPERATIONS.url(run.base_url)
    try:
        return (await control.caller.call(LIST_OPERATIONS, url, patience=_BRIEFLY)).operations
    except LoopsError as error:
        note(f"operations are not shown: {error.message}")
        return None


def _print_operations(operations: list[OperationInfo]) -> None:
    """The newest, newest last, as they will be worked off."""
    rows = [[one.operation_id, one.operation, one.status, one.idempotency_key] for one in operations[-_MOST_SHOWN:]]
    print_table(["OPERATION", "CALL", "STATUS", "KEY"], rows, empty="no operations")
    if hidden := len(operations) - len(rows):
        note(f"older operations hidden: {hidden} (--json has them)")


def _fields(run: Run) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = [
        ("run", run.id),
        ("name", run.name),
        ("base model", run.base_model),
        ("status", run.status.name),
        ("created", _created(run)),
        ("owner", run.user.email),
        ("session", run.session_id),
        ("trainer", run.base_url),
        ("deployment", run.deployment_id),
    ]
    if run.sampler is None:
        return [*fields, ("sampler", "none")]
    at = f"{run.sampler.id}, {run.sampler.status.name} since {_created(run.sampler)}, {run.sampler.base_url}"
    return [*fields, ("sampler", at)]


@runs.command(short_help="Stop a run and its sampler; its checkpoints stay.")
@click.argument("run_id", shell_complete=run_ids)
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@connection_options
def deactivate(base_url: str, run_id: str, yes: bool) -> None:
    """Stop a run's trainer and its sampler, and wait until they have stopped. Its checkpoints stay.

    \b
    Example:  loops runs deactivate k4q95w5 --yes
    """
    if not yes and not _confirmed(run_id):
        note("nothing was done")
        sys.exit(1)
    ask(base_url, lambda control: _stop(control, run_id), unknown=UNKNOWN)
    click.echo(f"run {run_id} has ended; its checkpoints stay")


def _confirmed(run_id: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --yes to end the run")
    return click.confirm(f"End run {run_id} and its sampler?", err=True)


async def _stop(control: ControlPlane, run_id: str) -> None:
    await control.deactivate_run(run_id)
    end = time.monotonic() + _STOPS_WITHIN
    while True:
        try:
            run = await control.get_run(run_id)
        except NotFoundError:
            return
        if ended(run):
            return
        if time.monotonic() + _LOOK_AGAIN > end:
            raise RequestTimeoutError(
                f"the run was told to end and is still {run.status.name}", run_id=run_id, elapsed=_STOPS_WITHIN
            )
        await asyncio.sleep(_LOOK_AGAIN)
