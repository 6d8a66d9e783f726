"""`Journal`: what a trainer has promised, on the disk before it is promised. SQLite, one file per run.

It decides what survives a crash at any instant: every operation that was accepted, every result that was reported, and
which saved state goes with them. It knows neither threads nor engines; each of its writes is one transaction.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from loops_sdk.errors import DeploymentFailedError, ServerShutdownError

__all__ = ["Entry", "Journal", "JournalError", "State"]

#: Seconds to wait for another process that has the file: a trainer whose end has not got round yet.
_PATIENCE = 30.0

_SETTINGS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864;
"""

# Results and requests have tables of their own, so that dropping one never rewrites the row that remembers its key.
# AUTOINCREMENT: a number that has been given is never given again, whatever has been deleted since.
_TABLES = """
CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, key TEXT UNIQUE, fingerprint BLOB NOT NULL,
    name TEXT NOT NULL, finished_at REAL, error TEXT, redone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS replies (seq INTEGER PRIMARY KEY, reply BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS state (
    one INTEGER PRIMARY KEY CHECK (one = 1), folder TEXT NOT NULL, rank INTEGER NOT NULL
);
"""


class JournalError(Exception):
    """The disk refused: what was to be written is not there, and nothing that was there is gone."""


@attrs.frozen
class State:
    """A saved state of the engine.

    Attributes:
        folder: name of the folder that holds it.
        rank: rank of the adapter in it, which an engine must have before it can load the state.
    """

    folder: str
    rank: int


@attrs.frozen
class Entry:
    """One accepted operation as it stands in the journal.

    Attributes:
        seq: its place in the order.
        finished_at: seconds since the epoch, `None` when it has not finished.
        error: what it failed with; `None` when it succeeded, or has not finished.
        body: the request; kept until the operation has finished and the saved state has its effect.
        reply: the result; `None` before it is there and after it has been dropped.
    """

    seq: int
    id: str
    key: str | None
    fingerprint: bytes
    name: str
    finished_at: float | None = None
    error: str | None = None
    body: bytes | None = None
    reply: bytes | None = None


class Journal:
    """The journal of one run, for one process at a time.

    Args:
        path: the file; made when it is not there.

    Raises:
        DeploymentFailedError: it cannot be opened, or another process keeps it open.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._set_up()
        except sqlite3.Error as error:
            raise DeploymentFailedError(f"the journal {path} cannot be opened: {error}") from error

    def _set_up(self) -> None:
        try:
            self._db.executescript(_SETTINGS)
            self._db.executescript(_TABLES)
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file. What was written is on the disk already."""
        with self._lock:
            self._db.close()

    # ------------------------------------------------------------ what is there

    def entries(self) -> list[Entry]:
        """All operations in the order of acceptance, those whose result has been dropped included."""
        rows = self._db.execute(
            "SELECT seq, id, key, fingerprint, name, finished_at, error, body, reply FROM operations "
            "LEFT JOIN bodies USING (seq) LEFT JOIN replies USING (seq) ORDER BY seq"
        )
        return [Entry(*row) for row in rows]

    def state(self) -> State | None:
        """The saved state that all operations without a body are part of; `None` before the first."""
        row = self._db.execute("SELECT folder, rank FROM state").fetchone()
        return None if row is None else State(*row)

    # ------------------------------------------------------------ what happens

    def begin(self, state: State) -> None:
        """Record the state in which the run starts."""
        with self._transaction():
            self._point(0, state)

    def accept(self, entry: Entry) -> int:
        """Write down an operation and return its place in the order, whatever place the entry says.

        Raises:
            ServerShutdownError: 503, it cannot be written now; nothing has changed.
        """
        try:
            with self._transaction():
                values = (entry.id, entry.key, entry.fingerprint, entry.name)
                cursor = self._db.execute(
                    "INSERT INTO operations (id, key, fingerprint, name) VALUES (?, ?, ?, ?)", values
                )
                assert cursor.lastrowid is not None  # a row was inserted
                self._db.execute("INSERT INTO bodies VALUES (?, ?)", (cursor.lastrowid, entry.body))
                return cursor.lastrowid
        except JournalError as error:
            text = f"the operation cannot be written down ({error}); nothing was accepted"
            raise ServerShutdownError(text, status=503, retry_after=5.0) from error

    def finish(
        self,
        seq: int,
        reply: bytes,
        at: float,
        *,
        error: str | None,
        keep_body: bool,
        state: State | None,
        dropped: Sequence[int] = (),
        forgotten: Sequence[int] = (),
    ) -> None:
        """Write down what came of an operation, all of it or nothing.

        Args:
            at: seconds since the epoch.
            error: what it failed with, if it did.
            keep_body: whether the request is needed to do the operation again after a crash.
            state: a saved state that has the effect of this operation and of all before it, whose requests go.
            dropped: operations whose results go.
            forgotten: operations of which nothing stays.

        Raises:
            JournalError: nothing was written.
        """
        with self._transaction():
            self._db.execute("UPDATE operations SET finished_at = ?, error = ? WHERE seq = ?", (at, error, seq))
            self._db.execute("INSERT INTO replies VALUES (?, ?)", (seq, reply))
            if state is not None:
                self._point(seq, state)
            if not keep_body:
                self._db.execute("DELETE FROM bodies WHERE seq = ?", (seq,))
            self._db.executemany("DELETE FROM replies WHERE seq = ?", ((one,) for one in (*dropped, *forgotten)))
            self._db.executemany("DELETE FROM operations WHERE seq = ?", ((one,) for one in forgotten))

    def redo(self, seq: int) -> int:
        """Count one more try at an operation that may have been under way at a crash; how many that makes.

        Raises:
            JournalError: nothing was written.
        """
        with self._transaction():
            self._db.execute("UPDATE operations SET redone = redone + 1 WHERE seq = ?", (seq,))
            (redone,) = self._db.execute("SELECT redone FROM operations WHERE seq = ?", (seq,)).fetchone()
            return int(redone)

    def _point(self, seq: int, state: State) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (state.folder, state.rank))
        self._db.execute("DELETE FROM bodies WHERE seq <= ?", (seq,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise JournalError(str(error)) from error
                raise
