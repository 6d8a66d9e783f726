"""Lines of a file to which another process is appending: forward from an offset, or backward from the end, a bounded
piece at a time. A line that is not an object in JSON is skipped; the last one may be half written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Lines", "parsed", "read_after", "read_before", "size"]

#: Lines with the offset at which each ends.
Lines = list[tuple[bytes, int]]

_PIECE = 2**18
_MOST_BACKWARD = 2**22
#: Whole numbers beyond it are none to JavaScript.
_MOST_WHOLE = 2**53


def size(path: Path) -> int:
    """Bytes of the file; 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_after(path: Path, offset: int) -> tuple[Lines, int]:
    """The next whole lines from an offset on, and the offset from which to go on."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            piece = file.read(_PIECE)
    except FileNotFoundError:
        return [], 0
    whole = piece[: piece.rfind(b"\n") + 1]
    if not whole and len(piece) == _PIECE:  # no line of ours is as long
        return [], offset + len(piece)
    return list(_numbered(whole, offset)), offset + len(whole)


def read_before(path: Path, end: int | None, most: int) -> tuple[Lines, int]:
    """The last lines that end at or before an offset, newest first, and the offset before which to go on; 0 when there
    is nothing older.

    Args:
        end: `None` for the end of the file.
        most: how many lines at most.
    """
    try:
        with path.open("rb") as file:
            stop = size(path) if end is None else min(end, size(path))
            start, tail = stop, b""
            while start > 0 and tail.count(b"\n") <= most and stop - start < _MOST_BACKWARD:
                step = min(_PIECE, start)
                start -= step
                file.seek(start)
                tail = file.read(step) + tail
    except FileNotFoundError:
        return [], 0
    whole = tail[tail.find(b"\n") + 1 :] if start > 0 else tail  # the first one may have begun further up
    lines = list(_numbered(whole, start + len(tail) - len(whole)))[-most:]
    older = lines[0][1] - len(lines[0][0]) - 1 if lines else 0
    return lines[::-1], older


def _numbered(whole: bytes, offset: int) -> Iterator[tuple[bytes, int]]:
    for line in whole.splitlines(keepends=True):
        offset += len(line)
        if line.endswith(b"\n"):
            yield line[:-1], offset


def parsed(line: bytes) -> dict[str, Any]:
    """The texts and finite numbers of a flat object; empty for a line that is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in row.items() if _shown(value)} if isinstance(row, dict) else {}


def _shown(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) or (type(value) is int and abs(value) <= _MOST_WHOLE)
