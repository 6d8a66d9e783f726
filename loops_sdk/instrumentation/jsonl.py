"""`JsonlObserver`: every event as one line of JSON in a file, for programs that draw curves or look for trouble.

It decides the shape of a line. When it is written, and what becomes of errors, is the background thread's.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from loops_sdk.instrumentation.background import Background
from loops_sdk.instrumentation.events import Event

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["JsonlObserver"]


class JsonlObserver:
    """An observer that appends one JSON object per event to a file.

    ``time`` is the wall-clock time in seconds since 1970 (UTC), ``event`` the name of the event's class; the rest are
    its fields. Numbers that JSON does not know are written as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``. Lines are
    written by a thread of its own, each in one piece; an observer may be given to several clients.

        with JsonlObserver("events.jsonl") as observer:
            async with ServiceClient(observers=[observer]) as service:
                ...

    An error of the disk gives one warning of the logger ``loops_sdk`` and ends the recording, never the training.

    Args:
        path: the file; it is made when it does not exist, its folder is not.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._background = Background(f"JsonlObserver({str(path)!r})", _Lines(self._path))

    def __repr__(self) -> str:
        return f"<JsonlObserver {self._path}>"

    def __call__(self, event: Event) -> None:
        self._background.put(event)

    def close(self) -> None:
        """Return when all events so far are in the file. What comes later is ignored."""
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Lines:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        self._file = self._path.open("ab", buffering=0)

    def write(self, event: Event, at: float) -> None:
        said = {"time": at, "event": type(event).__name__, **attrs.asdict(event)}
        if self._file is not None:
            append(self._file, said)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def append(file: IO[bytes], said: dict[str, Any]) -> None:
    """Write an object as a line, in one piece, to a file without a buffer.

    Raises:
        OSError: the disk did not take all of it.
    """
    line = json.dumps(_plain(said), allow_nan=False).encode() + b"\n"
    if file.write(line) != len(line):
        raise OSError("the line was not written whole")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
