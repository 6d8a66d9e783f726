"""``loops checkpoints``: what was saved, its files, and a copy of them on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from loops_sdk import to_dict
from loops_sdk._clients.checkpoint_folder import RECORD
from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.downloads import download_checkpoint, id_of, list_files
from loops_sdk.cli.completion import run_ids
from loops_sdk.cli.connection import UNKNOWN_CHECKPOINT, ask, bt_address, checkpoint_name, connection_options
from loops_sdk.cli.output import json_option, moment, moment_of_text, note, print_json, print_table, size
from loops_sdk.errors import InvalidInputError, LoopsError
from loops_sdk.types import Checkpoint, CheckpointFile

checkpoint_argument = click.argument("checkpoint", callback=checkpoint_name)


@click.group(short_help="Saved checkpoints: list, files, download, merge, push-hf, vllm.")
def checkpoints() -> None:
    """Checkpoints on the service, or on the deployment that LOOPS_BASE_URL names.

    How long a checkpoint is kept is said when it is saved: ttl_seconds of save_state and save_weights_for_sampler;
    without it, it stays. The service has no call that shows or changes this later. To keep one for longer, download it,
    or load it and save it again.
    """


@checkpoints.command("list", short_help="Checkpoints of a run, of a base model, or under an address.")
@click.option("--run-id", shell_complete=run_ids, help="Those of this run.")
@click.option("--base-model", help="Those of your runs of this base model.")
@click.option("--path", callback=bt_address, metavar="BT_URI", help="The one under this bt:// address.")
@json_option
@connection_options
def list_checkpoints(base_url: str, as_json: bool, **filters: str | None) -> None:
    """List checkpoints by exactly one of their run, their base model, and their address.

    \b
    Example:  loops checkpoints list --run-id k4q95w5
    """
    wanted = {name: value for name, value in filters.items() if value is not None}
    if len(wanted) != 1:
        raise click.UsageError("give exactly one of --run-id, --base-model and --path")
    found = ask(base_url, lambda control: _listed(control, **wanted), unknown="`loops runs list --all` shows your runs")
    if as_json:
        print_json([with_address(one) for one in found])
    else:
        print_checkpoints(found)


async def _listed(
    control: ControlPlane, run_id: str | None = None, base_model: str | None = None, path: str | None = None
) -> list[Checkpoint]:
    return await control.checkpoints(run_id=run_id, base_model=base_model, checkpoint_path=path)


def with_address(checkpoint: Checkpoint) -> dict[str, Any]:
    """The full record, and the address that clients take."""
    return {**to_dict(checkpoint), "path": checkpoint.path}


def print_checkpoints(found: list[Checkpoint]) -> None:
    """A table of checkpoints."""
    rows = [
        [one.id, one.path, one.base_model, size(one.size_bytes), moment(one.created_at), one.sync_status or "COMPLETE"]
        for one in found
    ]
    print_table(["CHECKPOINT", "ADDRESS", "BASE MODEL", "SIZE", "CREATED", "STATE"], rows, empty="no checkpoints")


@checkpoints.command(short_help="The files of a checkpoint.")
@checkpoint_argument
@json_option
@connection_options
def files(base_url: str, checkpoint: str, as_json: bool) -> None:
    """List the files of a checkpoint, which is named by its id or its bt:// address.

    With --json every file has its presigned address: whoever has that can read the file, for some minutes.

    \b
    Example:  loops checkpoints files bt://loops:k4q95w5/sampler_weights/step-100
    """
    found = ask(base_url, lambda control: _files_of(control, checkpoint), unknown=UNKNOWN_CHECKPOINT)
    if as_json:
        print_json(found)
        return
    rows = [[one.relative_file_name, size(one.size_bytes), moment_of_text(one.last_modified)] for one in found]
    print_table(["FILE", "SIZE", "MODIFIED"], rows, empty="no files")


async def _files_of(control: ControlPlane, checkpoint: str) -> list[CheckpointFile]:
    return await list_files(control, await id_of(control, checkpoint))


@checkpoints.command(short_help="Copy the files of a checkpoint into a folder.")
@checkpoint_argument
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at the same time.")
@json_option
@connection_options
def download(base_url: str, checkpoint: str, folder: Path, parallel: int, as_json: bool) -> None:
    """Copy the files of a checkpoint, which is named by its id or its bt:// address, into DIR.

    DIR must be new or empty, or hold an earlier download of the same checkpoint, which is then completed: the same
    command goes on where it was interrupted. Every file is compared with its announced size, with its SHA-256 where the
    file store tells it, and a safetensors file with its own table of contents. A sampler checkpoint gives a folder
    that PeftModel.from_pretrained loads.

    \b
    Example:  loops checkpoints download bt://loops:k4q95w5/sampler_weights/step-100 adapter
    """
    with _resumable(checkpoint, folder):
        paths = ask(
            base_url,
            lambda control: download_checkpoint(control, checkpoint, folder, parallel=parallel),
            unknown=UNKNOWN_CHECKPOINT,
            retries_are_told=True,
        )
    if as_json:
        print_json({"checkpoint": checkpoint, "folder": str(folder), "files": [str(path) for path in paths]})
    else:
        total = size(sum(path.stat().st_size for path in paths))
        click.echo(f"{len(paths)} file{'' if len(paths) == 1 else 's'}, {total}, in {folder}")


@contextmanager
def _resumable(checkpoint: str, folder: Path) -> Iterator[None]:
    """Say how to go on, whatever ended it, if something has come."""
    try:
        yield
    except (LoopsError, KeyboardInterrupt) as error:
        if not isinstance(error, InvalidInputError) and (there := _there(folder)):
            command = shlex.join(["loops", "checkpoints", "download", checkpoint, str(folder)])
            note(f"{size(there)} are in {folder}; to go on from there: {command}")
        raise


def _there(folder: Path) -> int:
    """Bytes of what a download has put into a folder."""
    if not (folder / RECORD).is_file():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("[!.]*") if path.is_file())
