"""`Records`: teams, sessions, runs and samplers as files, one each. It knows nothing of what runs save."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from loops_sdk._wire.codec import decode, encode
from loops_sdk.errors import NotFoundError, ProtocolError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.storage.files import new_id, read_if_there, write_atomically
from loops_sdk.local.storage.records import RunRecord, SamplerRecord, TeamRecord
from loops_sdk.types.checkpoints import check_name

if TYPE_CHECKING:
    from typing import Self

__all__ = ["KINDS", "Records", "read", "visible"]

T = TypeVar("T")
_log = logger(__name__)
#: The kinds of checkpoints that a run has, each with a folder of names.
KINDS: tuple[Literal["weights", "sampler_weights"], ...] = ("weights", "sampler_weights")


class Records:
    """The records of one data directory.

    Args:
        root: an existing folder, made ready by `create`. It is never made again once it is gone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path) -> Self:
        """Make the folders that everything else expects below an existing `root`."""
        for name in ("sessions", "runs", "samplers", "logs", "cache"):
            (root / name).mkdir(exist_ok=True, mode=0o700)
        if read(root / "team.json", TeamRecord) is None:
            write_atomically(root / "team.json", encode(TeamRecord(new_id(7), "default", datetime.now(UTC))))
        return cls(root)

    def team(self) -> TeamRecord:
        """The team to which everything belongs; the same one for as long as the folder lives."""
        return _found(self.root / "team.json", TeamRecord, "there is no team")

    def new_session(self) -> str:
        """Record a session and return its id."""
        session_id = new_id(10)
        write_atomically(self.root / "sessions" / f"{session_id}.json", encode({"id": session_id}))
        return session_id

    def has_session(self, session_id: str) -> bool:
        """Whether `new_session` made it, in this deployment or an earlier one on the same folder."""
        return (self.root / "sessions" / f"{check_name('session_id', session_id)}.json").is_file()

    def write_run(self, run: RunRecord) -> None:
        """Record a run, or what has changed about it."""
        folder = self._run(run.id)
        for place in (folder, folder / "saves", *(folder / kind for kind in KINDS)):
            place.mkdir(exist_ok=True, mode=0o700)
        write_atomically(folder / "run.json", encode(run))

    def run(self, run_id: str) -> RunRecord:
        """The record of a run.

        Raises:
            NotFoundError: there is none.
        """
        return _found(self._run(run_id) / "run.json", RunRecord, f"there is no run {run_id!r}")

    def runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        records = (read(folder / "run.json", RunRecord) for folder in visible(self.root / "runs"))
        return sorted((run for run in records if run), key=lambda run: run.created_at, reverse=True)

    def write_sampler(self, sampler: SamplerRecord) -> None:
        """Record a sampler."""
        write_atomically(self.root / "samplers" / f"{check_name('sampler_id', sampler.id)}.json", encode(sampler))

    def sampler(self, sampler_id: str) -> SamplerRecord:
        """The record of a sampler.

        Raises:
            NotFoundError: there is none.
        """
        path = self.root / "samplers" / f"{check_name('sampler_id', sampler_id)}.json"
        return _found(path, SamplerRecord, f"there is no sampler {sampler_id!r}")

    def samplers(self) -> list[SamplerRecord]:
        """All samplers, newest first."""
        records = (read(path, SamplerRecord) for path in visible(self.root / "samplers"))
        return sorted((one for one in records if one), key=lambda one: one.created_at, reverse=True)

    def _run(self, run_id: str) -> Path:
        return self.root / "runs" / check_name("run_id", run_id)


def visible(folder: Path) -> Iterator[Path]:
    """Entries under their final names; empty for a folder that does not exist."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return iter(())
    return (entry for entry in entries if not entry.name.startswith("."))


def read(path: Path, kind: type[T]) -> T | None:
    """The value in a file; `None` when there is no such file, or nothing of ours in it."""
    body = read_if_there(path)
    try:
        return None if body is None else decode(body, kind)
    except ProtocolError as error:
        _log.warning("%s is left aside: %s", path, error.message)
        return None


def _found(path: Path, kind: type[T], message: str) -> T:
    value = read(path, kind)
    if value is None:
        raise NotFoundError(message, status=404)
    return value
