"""``loops checkpoints push-hf``: an adapter or a merged model to the Hugging Face Hub, in one commit.

It decides who may read it there and when nothing is sent. Which files go is decided elsewhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import click

from loops_sdk.cli.adapters import fetched, source_argument
from loops_sdk.cli.connection import connection_options
from loops_sdk.cli.deployment import base_models
from loops_sdk.cli.model_card import Shipment, shipment
from loops_sdk.cli.output import json_option, note, print_json, print_table, size

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REPO_ID = re.compile(r"(?:[\w-]+/)?\w[\w.-]{0,95}", re.ASCII)
_LOGIN = "run `hf auth login`, or set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens)"


@attrs.frozen
class Target:
    """Where to.

    Attributes:
        branch: `None` is the default one.
    """

    repo_id: str
    private: bool
    branch: str | None
    message: str


def _repo_id(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    if not _REPO_ID.fullmatch(value) or "--" in value or ".." in value or value.endswith(".git"):
        raise click.BadParameter(f"expected NAME/REPO of letters, digits, '.', '_' and '-', got {value!r}")
    return value


@click.command("push-hf", short_help="Upload it to the Hugging Face Hub; private unless told.")
@source_argument
@click.argument("repo_id", metavar="REPO_ID", callback=_repo_id)
@click.option("--private/--public", default=True, show_default=True, help="Who may see a repository.")
@click.option("--revision", metavar="BRANCH", help="Branch to commit to; made if missing.  [default: main]")
@click.option("--message", help="Of the commit.  [default: Upload and what it is]")
@click.option("--base-model", shell_complete=base_models, help="Hub id of the base model, for the model card.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Also files of this name, say 'optimizer*'.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent where; nobody on the hub is asked.")
@json_option
@connection_options
def push_hf(
    base_url: str,
    source: str,
    repo_id: str,
    private: bool,
    revision: str | None,
    message: str | None,
    base_model: str | None,
    include: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload a checkpoint, or the adapter or merged model in DIR, to REPO_ID on the Hugging Face Hub, in one commit.

    The repository is made if it is missing, private unless --public is given; what is private here is never sent to a
    public one. Adapter, model, tokenizer, licence and README.md are sent, and a model card is written where there is no
    README.md. Anything else, such as the state of an optimizer, only with --include.

    \b
    Example:  loops checkpoints push-hf adapter my-name/help-desk --dry-run
    """
    with fetched(base_url, source) as found:
        shipped = shipment(found.folder, repo_id, base_model or found.base_model, include)
        target = Target(repo_id, private, revision, message or f"Upload {found.name}")
        for remark in shipped.remarks:
            note(remark)
        url = None if dry_run else _sent(target, shipped)
        if as_json:
            print_json(_record(target, shipped, url))
        else:
            _show(target, shipped, url)


def _record(target: Target, shipped: Shipment, url: str | None) -> dict[str, Any]:
    return {**attrs.asdict(target), "files": shipped.sizes(), "left_out": list(shipped.left_out), "url": url}


def _show(target: Target, shipped: Shipment, url: str | None) -> None:
    from huggingface_hub import constants

    if url is not None:
        click.echo(f"{len(shipped.files)} files, {size(sum(shipped.sizes().values()))}, are in {url}")
        return
    branch = f", branch {target.branch}" if target.branch else ""
    seen = "private" if target.private else "public"
    click.echo(f"dry run, nothing is sent: to {constants.ENDPOINT}/{target.repo_id} ({seen}{branch})\n")
    sizes = shipped.sizes()
    rows = [
        [name, size(sizes[name]), "made for the hub" if isinstance(one, bytes) else "as it is"]
        for name, one in shipped.files.items()
    ]
    print_table(["FILE", "SIZE", "CONTENT"], rows, empty="no files")
    if shipped.left_out:
        click.echo(f"\nleft out: {', '.join(shipped.left_out)} (--include PATTERN sends them)")


# ------------------------------------------------------------------ the hub


def _sent(target: Target, shipped: Shipment) -> str:
    """The address of what was sent."""
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.utils.tqdm import disable_progress_bars

    token = get_token()
    if not token:
        raise click.ClickException(f"there is no Hugging Face token: {_LOGIN}")
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=token)
    with _explained(target.repo_id):
        repo_id = _ready(api, target)
        adds = [CommitOperationAdd(name, one) for name, one in shipped.files.items()]
        done = api.create_commit(repo_id, adds, commit_message=target.message, revision=target.branch)
    return str(done.repo_url)


def _ready(api: HfApi, target: Target) -> str:
    """The full name of the repository, which is there, and seen by nobody who should not see it."""
    made = api.create_repo(target.repo_id, private=target.private, exist_ok=True)
    is_private = bool(api.repo_info(made.repo_id).private)
    if target.private and not is_private:
        raise click.ClickException(f"{made.repo_id} is public on the hub, nothing was sent: --public sends it there")
    if not target.private and is_private:
        note(f"{made.repo_id} is private on the hub and stays so: its settings there make it public")
    if target.branch is not None:
        api.create_branch(made.repo_id, branch=target.branch, exist_ok=True)
    return made.repo_id


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Failures of the hub in one line with what to do. Its client's errors have no common base across its versions."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        advice = {401: f": {_LOGIN}", 403: f": the token may not write to {repo_id}; {_LOGIN}"}.get(status or 0, "")
        raise click.ClickException(f"the upload to {repo_id} failed: {_in_words(error)}{advice}") from error


def _in_words(error: BaseException) -> str:
    """What the hub said, else what its client says, and why."""
    said = " ".join((getattr(error, "server_message", None) or str(error)).split())[:300] or type(error).__name__
    return said if error.__cause__ is None else f"{said} ({_in_words(error.__cause__)})"
