"""What the commands share: the options that describe an embedded deployment, and bringing one up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from rich.console import Console

from loops_sdk.local import LocalStack

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_MODEL = "loops/tiny"


def base_models(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """The one that ships, and whatever lies in the current folder."""
    shipped = [CompletionItem(DEFAULT_MODEL)] if DEFAULT_MODEL.startswith(begun) else []
    return [*shipped, CompletionItem(begun, type="file")]


def deployment_options(command: Command) -> Command:
    """The options of every command that starts a deployment."""
    for option in reversed(
        (
            click.option(
                "--base-model",
                default=DEFAULT_MODEL,
                show_default=True,
                shell_complete=base_models,
                help="A model that ships with this package, a Hugging Face id, a local folder, or a .gguf file.",
            ),
            click.option(
                "--data-dir",
                type=click.Path(file_okay=False, path_type=Path),
                help="Where runs and checkpoints are kept.  [default: a temporary folder, removed at the end]",
            ),
            click.option("--max-seq-len", type=click.IntRange(min=1), help="Longest sequence, in tokens."),
        )
    ):
        command = option(command)
    return command


durable_option = click.option(
    "--durable/--no-durable",
    default=True,
    show_default=True,
    help="Whether a run survives the sudden death of its trainer. Without it steps are a little faster.",
)


@asynccontextmanager
async def started(
    console: Console, base_model: str, data_dir: Path | None, max_seq_len: int | None, **more: Any
) -> AsyncIterator[LocalStack]:
    """A running deployment; where somebody looks on, a line says what is being waited for."""
    start = time.monotonic()
    stack = LocalStack(base_model, data_dir=data_dir, max_seq_len=max_seq_len, **more)
    await stack.start()
    try:
        console.print(f"[green]✓[/] control plane, trainer and sampler are up ({time.monotonic() - start:.1f} s)")
        yield stack
    finally:
        await stack.aclose()
