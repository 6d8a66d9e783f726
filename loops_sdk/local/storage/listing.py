"""Which files of a saved checkpoint are for others. It knows a folder, and nothing of names, runs or addresses.

A save's folder never changes and goes in one step, so a listing is whole or there is none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from loops_sdk.errors import NotFoundError
from loops_sdk.local.storage.records import SavedFile

__all__ = ["METADATA", "listed"]

#: What this package writes beside an engine's files, for itself.
METADATA = "checkpoint.json"


def listed(folder: Path) -> list[SavedFile]:
    """All files below `folder` but our own, by name. Links are not followed.

    Raises:
        NotFoundError: the folder is gone.
    """
    paths = sorted(path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    try:  # looked at after the last name was read: a folder that is still there was there all the time
        found = [_described(path, path.relative_to(folder)) for path in paths]
    except FileNotFoundError:
        found = []
    if not found:
        raise NotFoundError("the checkpoint has been replaced or removed; its files are gone", status=404)
    return [file for file in found if file.name != METADATA]


def _described(path: Path, name: Path) -> SavedFile:
    status = path.stat()
    return SavedFile(name.as_posix(), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
