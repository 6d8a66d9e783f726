"""``loops completion``: the script by which a shell completes commands, options, base models, examples and run ids.

Run ids are asked of the server, for a second at most; what goes wrong there completes nothing and says nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.service import DEFAULT_BASE_URL
from loops_sdk._net.network import Network
from loops_sdk.errors import LoopsError

_WITHIN = 1.0
_INSTALL = {
    "bash": "# To have it in every shell:  echo 'eval \"$(loops completion bash)\"' >> ~/.bashrc",
    "zsh": "# To have it in every shell:  echo 'eval \"$(loops completion zsh)\"' >> ~/.zshrc",
    "fish": "# To have it in every shell:  loops completion fish > ~/.config/fish/completions/loops.fish",
}


@click.command(short_help="The completion script of a shell.")
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL; its first line says how to install it.

    \b
    Example:  loops completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all three
    script = kind(context.find_root().command, {}, "loops", "_LOOPS_COMPLETE")
    click.echo(_INSTALL[shell])
    click.echo(ShellComplete.source(script))  # not bash's own, which would start a bash to see its version


def run_ids(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The caller's runs, with their names."""
    key = os.environ.get("BASETEN_API_KEY")
    if not key:
        return []
    url = context.params.get("base_url") or os.environ.get("LOOPS_BASE_URL") or DEFAULT_BASE_URL
    logging.getLogger("loops_sdk").setLevel(logging.CRITICAL)
    try:
        return [one for one in asyncio.run(_asked(url, key)) if one.value.startswith(begun)]
    except (LoopsError, TimeoutError):
        return []


async def _asked(url: str, key: str) -> list[CompletionItem]:
    network = Network(key)
    try:
        async with asyncio.timeout(_WITHIN):
            runs = await ControlPlane(url, network).list_runs()
    finally:
        await network.aclose()
    return [CompletionItem(run.id, help=run.name) for run in runs]
