"""The folder a checkpoint is downloaded into: which names may be written there, and what may be there already. It opens
no connection.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import attrs

from loops_sdk._net.download import PART
from loops_sdk._wire import codec
from loops_sdk.errors import InvalidInputError, LoopsError, ProtocolError
from loops_sdk.types import CheckpointFile
from loops_sdk.types._checks import shown

#: Says of which checkpoint the files around it are: adapters of one run differ in neither names nor sizes.
RECORD = ".loops-checkpoint.json"
#: Parts of a path that Windows does not write, or takes for a device or for a stream of another file.
_RESERVED = re.compile(r'[<>:"|?*]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


def check_names(files: list[CheckpointFile]) -> None:
    """Refuse names that lead out of the folder or do not fit beside each other.

    Raises:
        ProtocolError: the first such name is in the message.
    """
    names = [_as_the_disk_has_it(_checked_name(file.relative_file_name)) for file in files]
    taken = {RECORD}
    for name in names:
        if not taken.isdisjoint((name, name + PART)):
            raise ProtocolError(f"the service named two files that both want to be called {name!r}")
        taken |= {name, name + PART}
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if both := taken & folders:
        raise ProtocolError(f"the service named a file that is also a folder: {min(both)!r}")


def _as_the_disk_has_it(name: str) -> str:
    """What disks that do not tell capitals from small letters take two names for."""
    return name.casefold() if sys.platform in ("win32", "darwin") else name


def _checked_name(name: str) -> str:
    parts = name.split("/")
    steps_out = "\\" in name or PureWindowsPath(name).drive or not {"", ".", ".."}.isdisjoint(parts)
    reserved = sys.platform in ("win32",) and any(map(_RESERVED.search, parts))
    if steps_out or reserved or not name.isprintable():
        raise ProtocolError(f"the service named a file {shown(name, 120)}, which is no path inside a folder: refused")
    return name


@attrs.frozen
class Record:
    """What a folder says about itself: the checkpoint, and name, size and time of each file."""

    checkpoint: str
    files: list[tuple[str, int, str]]


class CheckpointFolder:
    """The folder of one checkpoint.

    Args:
        root: where it is or will be.
        checkpoint_id: whose files it holds.
        files: the files, whose names `check_names` has seen.
    """

    def __init__(self, root: str | Path, checkpoint_id: str, files: list[CheckpointFile]) -> None:
        self._root, self.files = Path(root).expanduser(), files
        listed = [(file.relative_file_name, file.size_bytes, file.last_modified) for file in files]
        self.record = Record(checkpoint_id, sorted(listed))

    def path(self, file: CheckpointFile) -> Path:
        """Where a file goes."""
        return self._root / file.relative_file_name

    def missing(self, wanted: Collection[str]) -> list[tuple[int, CheckpointFile]]:
        """Those of the wanted files that are not there as a whole, with their places in the service's order."""
        listed = [(index, file) for index, file in enumerate(self.files) if file.relative_file_name in wanted]
        return [(index, file) for index, file in listed if not self._is_whole(file)]

    def _is_whole(self, file: CheckpointFile) -> bool:
        path = self.path(file)
        return path.is_file() and path.stat().st_size == file.size_bytes

    def require_room(self, files: list[CheckpointFile]) -> None:
        """Refuse to begin what cannot be finished: files that the disk has no room for.

        Raises:
            LoopsError: says how much is wanted and how much is free.
        """
        wanted = sum(file.size_bytes - self._have(file) for file in files)
        if (free := shutil.disk_usage(self._root).free) < wanted:
            raise LoopsError(f"folder: {wanted:,} bytes are still to come, {free:,} are free in {self._root}")

    def _have(self, file: CheckpointFile) -> int:
        part = self.path(file).with_name(self.path(file).name + PART)
        return min(part.stat().st_size, file.size_bytes) if part.is_file() else 0

    def verify(self, file: CheckpointFile) -> None:
        """Look into a file that has come: tensors must be where the file says that they are, and all of them there.

        Raises:
            ProtocolError: they are not; the file is gone again.
        """
        path = self.path(file)
        if path.suffix != ".safetensors":
            return
        from safetensors import SafetensorError, safe_open  # who downloads nothing can do without

        try:
            with safe_open(path, framework="np"):
                pass
        except (OSError, SafetensorError) as error:
            path.unlink()
            raise ProtocolError(
                f"{file.relative_file_name} has come as announced and is no whole safetensors file ({error}): it was "
                f"not kept; if that happens again, the checkpoint itself is damaged"
            ) from None

    def open(self) -> None:
        """Make the folder ready.

        Raises:
            InvalidInputError: it holds something else than this checkpoint.
            LoopsError: it cannot be made.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            before = self._read_record()
            self._check(before)
            if before is None:
                (self._root / RECORD).write_bytes(codec.encode(self.record))
            for file in self.files:
                self.path(file).parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise InvalidInputError(f"folder: {error.filename} is a file") from None
        except LoopsError:
            raise
        except OSError as error:
            raise LoopsError(f"folder: {self._root} cannot be written ({error.strerror or error})") from error

    def _check(self, before: Record | None) -> None:
        if before is not None and before.checkpoint != self.record.checkpoint:
            raise self._refused(f"holds another checkpoint, {before.checkpoint}")
        if before is not None and before != self.record:
            raise self._refused("holds an earlier state of this checkpoint, whose files have changed since")
        ours = {name + end for name, _, _ in self.record.files for end in ("", PART)} if before else set()
        for name in self._content():
            if name not in ours:
                raise self._refused(f"holds {name!r}, which no download of this checkpoint has put there")

    def _content(self) -> Iterator[str]:
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            if path.is_symlink():
                raise self._refused(f"holds {name!r}, a link that may lead elsewhere")
            if name != RECORD and not path.is_dir():
                yield name

    def _read_record(self) -> Record | None:
        try:
            return codec.decode((self._root / RECORD).read_bytes(), Record)
        except FileNotFoundError:
            return None
        except ProtocolError:
            raise self._refused(f"holds a {RECORD} that is not legible") from None

    def _refused(self, why: str) -> InvalidInputError:
        return InvalidInputError(f"folder: {self._root} {why}; give an empty or a new folder")
