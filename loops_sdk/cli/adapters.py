"""Where the commands that use an adapter get it from: a folder, or a checkpoint, which is fetched for as long as the
command runs. What they do with it is theirs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click
from click.shell_completion import CompletionItem

from loops_sdk._clients.archives import address_of
from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.downloads import download_checkpoint
from loops_sdk.cli.connection import UNKNOWN_CHECKPOINT, ask, checkpoint_name
from loops_sdk.errors import LoopsError
from loops_sdk.local.engine.peft_folder import PeftFolder


@attrs.frozen
class Source:
    """What a command was given.

    Attributes:
        given: as it was given.
        name: a short name for it.
        folder: where its files are now.
        base_model: the base model as the service calls it, if it was asked.
        is_fetched: whether `folder` vanishes with the command.
    """

    given: str
    name: str
    folder: Path
    base_model: str | None = None
    is_fetched: bool = False

    def base_model_of(self, adapter: PeftFolder) -> str:
        """The base model that the adapter names, if that is a folder which is here; else what the service calls it.

        Raises:
            click.UsageError: neither says.
        """
        if adapter.base_model is not None and Path(adapter.base_model).is_dir():
            return adapter.base_model
        named = self.base_model or adapter.base_model
        if named is None:
            raise click.UsageError("the adapter does not name its base model: give --base-model")
        return named


def _checked(context: click.Context, argument: click.Parameter, value: str) -> str:
    """A folder that is there, else a checkpoint's address or id."""
    if value and Path(value).expanduser().is_dir():
        return value
    if not value.startswith("bt:") and (value.startswith((".", "~")) or "/" in value or os.sep in value):
        raise click.BadParameter(f"there is no folder {value}")
    return checkpoint_name(context, argument, value)


def _folders(_context: click.Context, _argument: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="dir")]


source_argument = click.argument("source", metavar="CHECKPOINT|DIR", callback=_checked, shell_complete=_folders)


@contextmanager
def fetched(base_url: str, given: str, only: Collection[str] | None = None) -> Iterator[Source]:
    """The files of what was given; of a checkpoint those named by `only`, or all.

    Raises:
        LoopsError: a checkpoint that is not there or cannot be fetched.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        yield Source(given, folder.resolve().name, folder)
        return
    with tempfile.TemporaryDirectory(prefix="loops-") as place:
        folder = Path(place) / "checkpoint"
        base_model = _fetch(base_url, given, folder, only)
        try:
            yield Source(given, given.rpartition("/")[2], folder, base_model, is_fetched=True)
        except LoopsError as error:  # nobody knows the folder by its name
            error.message = error.message.replace(str(folder), given)
            raise


def _fetch(base_url: str, given: str, folder: Path, only: Collection[str] | None) -> str | None:
    """Download a checkpoint; gives the base model, which is known of those that are named by their address."""

    async def fetch(control: ControlPlane) -> str | None:
        await download_checkpoint(control, given, folder, only=only)
        return (await control.checkpoint(given)).base_model if address_of(given) else None

    return ask(base_url, fetch, unknown=UNKNOWN_CHECKPOINT, retries_are_told=True)
