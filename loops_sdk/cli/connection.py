"""How the commands reach the control plane: address and key as a script finds them, one conversation, errors in one
line with a hint. No session is opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import click

from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.service import DEFAULT_BASE_URL
from loops_sdk._net.network import Network
from loops_sdk.errors import ConnectionFailedError, InvalidInputError, LoopsError, NotFoundError
from loops_sdk.instrumentation import Observer
from loops_sdk.instrumentation.progress import progress_observer
from loops_sdk.types import CheckpointPath
from loops_sdk.types._checks import check_address
from loops_sdk.types.checkpoints import check_name

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")

_API_KEY = "BASETEN_API_KEY"

#: What to do when there is no such checkpoint.
UNKNOWN_CHECKPOINT = "CHECKPOINT is the first column of `loops checkpoints list`, or a bt:// address"


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    url = value or DEFAULT_BASE_URL
    try:
        check_address("base_url", url)
    except InvalidInputError as error:
        raise click.BadParameter(error.message) from None
    return url


def connection_options(command: Command) -> Command:
    """The option of every command that asks the control plane."""
    option = click.option(
        "--base-url",
        envvar="LOOPS_BASE_URL",
        callback=_address,
        help=f"Address of the control plane.  [default: LOOPS_BASE_URL, then {DEFAULT_BASE_URL}]",
    )
    return option(command)


def bt_address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """A ``bt://`` address as it was given; one of another form is a wrong call."""
    if value is not None:
        try:
            CheckpointPath.parse(value, "address")
        except InvalidInputError as error:
            raise click.BadParameter(error.message) from None
    return value


def checkpoint_name(context: click.Context, argument: click.Parameter, value: str) -> str:
    """A checkpoint's address, or else its id."""
    if value.startswith("bt:"):
        bt_address(context, argument, value)
        return value
    try:
        return check_name("checkpoint", value)
    except InvalidInputError as error:
        raise click.BadParameter(error.message) from None


def ask(
    base_url: str,
    conversation: Callable[[ControlPlane], Awaitable[T]],
    *,
    unknown: str = "",
    retries_are_told: bool = False,
) -> T:
    """What a conversation with the control plane comes to. What it waits for long is shown, where somebody looks on.

    Args:
        unknown: what to do when the thing that was asked for does not exist.
        retries_are_told: log each retry, for what takes long; else there is one line at the end, if it fails.

    Raises:
        click.UsageError: there is no key, or none that can be sent.
        LoopsError: with its message on one line, and what to do about it.
    """
    progress = progress_observer(None)
    network = _network(() if progress is None else (progress,))
    try:
        with nullcontext() if retries_are_told else without_retries():
            return asyncio.run(_converse(base_url, network, conversation))
    except LoopsError as error:
        hint = _hint(error, unknown)
        error.message = " ".join(error.message.split()) + (f" ({hint})" if hint else "")
        raise
    finally:
        if progress is not None:
            progress.close()


def _network(observers: Sequence[Observer]) -> Network:
    if not os.environ.get(_API_KEY):
        raise click.UsageError(f"{_API_KEY} is not set: export the key that `loops serve` printed, or your account's")
    try:
        return Network(observers=observers)
    except InvalidInputError as error:
        raise click.UsageError(error.message) from None


@contextmanager
def without_retries() -> Iterator[None]:
    """The log of the package without its warnings of retries."""
    log = logging.getLogger("loops_sdk")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


async def _converse(base_url: str, network: Network, conversation: Callable[[ControlPlane], Awaitable[T]]) -> T:
    try:
        return await conversation(ControlPlane(base_url, network))
    finally:
        await network.aclose()


def _hint(error: LoopsError, unknown: str) -> str:
    if isinstance(error, NotFoundError):
        return unknown
    if isinstance(error, ConnectionFailedError) and error.operation != "download":
        return "is the server up, and are LOOPS_BASE_URL or --base-url right?"
    return ""
