"""Files that are whole or absent: written under a temporary name, flushed to the disk, renamed.

It decides how a crash at any instant leaves the disk. It knows nothing of what the files mean.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

__all__ = ["detach_and_remove", "new_id", "point", "read_if_there", "sync_tree", "write_atomically"]

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that are mistaken for one another


def new_id(length: int) -> str:
    """A random name of lower-case letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file so that a reader, also after a crash, sees the old content or the new one. The folder must exist.

    Args:
        mode: who may read it, less what the umask takes away.
    """
    scratch = path.with_name(f".{path.name}.{new_id(8)}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_if_there(path: Path) -> bytes | None:
    """The bytes of a file, `None` when there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step when it is one already. Its folder must exist."""
    scratch = link.with_name(f".{new_id(12)}")
    scratch.symlink_to(target)
    try:
        scratch.replace(link)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(link.parent)


def sync_tree(folder: Path) -> None:
    """Flush every file below `folder`, and the folders themselves, to the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent, name))
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Flush the entries of one folder to the disk."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def detach_and_remove(folder: Path) -> None:
    """Remove a folder that others may still be writing into; a folder that is gone is no error.

    Renaming it first takes the path away from them: whatever they create next fails instead of coming back.
    """
    detached = folder.with_name(f"{folder.name}.{new_id(6)}.removed")
    try:
        folder.rename(detached)
    except OSError:
        return
    shutil.rmtree(detached, ignore_errors=True)
