"""Whether somebody is there to be shown what is waited for, and where.

What shows it is imported when something is shown: programs that nobody looks at do not pay for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation.waiting import Waiting, nobody, waiting

if TYPE_CHECKING:
    from loops_sdk.instrumentation.progress.display import Surface
    from loops_sdk.instrumentation.progress.observer import ProgressObserver

__all__ = ["in_notebook", "progress_observer", "shown"]

_PROGRESS = "LOOPS_PROGRESS"
_CI = "CI"
_TERM = "TERM"


def progress_observer(progress: bool | None) -> ProgressObserver | None:
    """Who shows what is waited for; `None` where nothing is shown.

    Args:
        progress: as `loops_sdk.ServiceClient` takes it.

    Raises:
        InvalidInputError: it is neither a bool nor `None`, or ``LOOPS_PROGRESS`` is neither ``0`` nor ``1``.
    """
    surface = _surface(_wanted(progress))
    if surface is None:
        return None
    from loops_sdk.instrumentation.progress.observer import ProgressObserver

    return ProgressObserver(surface)


@contextmanager
def shown(progress: bool | None, operation: str, subject: str) -> Iterator[Waiting]:
    """Something that is waited for without a client, shown as the waits of clients are.

    Args:
        progress: as `loops_sdk.ServiceClient` takes it.
        operation: the call that waits.
        subject: what is waited for, for people.

    Raises:
        InvalidInputError: as `progress_observer`.
    """
    observer = progress_observer(progress)
    try:
        with waiting(observer or nobody, operation, subject) as wait:
            yield wait
    finally:
        if observer is not None:
            observer.close()


def _wanted(progress: bool | None) -> bool | None:
    if not (progress is None or isinstance(progress, bool)):
        raise InvalidInputError(f"progress: expected True, False or None, got {progress!r}")
    told = os.environ.get(_PROGRESS) or None
    if told not in (None, "0", "1"):
        raise InvalidInputError(f"{_PROGRESS}: expected 0 or 1, got {told!r}")
    return progress if progress is not None or told is None else told == "1"


def _surface(wanted: bool | None) -> Callable[[], Surface] | None:
    """Where lines go. Unasked, only where a person looks on and a line is in nobody's way."""
    if wanted is False or (wanted is None and _unattended()):
        return None
    if in_notebook():
        return _notebook
    stream: TextIO | None = sys.stderr
    if stream is None:  # a program without a console
        return None
    if _is_terminal(stream) and (wanted or not hasattr(sys, "ps1")):  # a prompt would be drawn over
        return partial(_terminal, stream)
    return partial(_plain, stream) if wanted else None


def _unattended() -> bool:
    return os.environ.get(_CI, "").lower() not in ("", "0", "false")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get(_TERM) != "dumb"
    except ValueError:  # it is closed
        return False


def _shell() -> Any:
    """The shell of IPython, if the program runs in one."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def in_notebook() -> bool:
    """Whether the program runs in the kernel of a notebook."""
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(_shell()).__mro__)


# ------------------------------------------------------------------ where


def _notebook() -> Surface:
    from loops_sdk.instrumentation.progress.notebook import Notebook

    return Notebook(lambda: getattr(_shell(), "execution_count", None))


def _terminal(stream: TextIO) -> Surface:
    from loops_sdk.instrumentation.progress.terminal import Terminal

    return Terminal(stream)


def _plain(stream: TextIO) -> Surface:
    from loops_sdk.instrumentation.progress.plain import Plain

    return Plain(stream)
