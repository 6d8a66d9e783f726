"""The journal: what is there after it was closed, or after the process that had it open is gone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loops_sdk.errors import DeploymentFailedError, ServerShutdownError
from loops_sdk.local.operations import Journal, State
from loops_sdk.local.operations.journal import Entry, JournalError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


def entry(name: str, body: bytes = b"body") -> Entry:
    return Entry(0, f"id-{name}", f"key-{name}", b"mark", name, body=body)


def after_a_kill(path: Path) -> Journal:
    """What a process finds that opens the files as they lie there at this moment."""
    copy = path.parent / "killed"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in path.parent.glob("journal.sqlite*"):
        shutil.copy(file, copy)
    return Journal(copy / path.name)


def test_what_was_accepted_is_there_after_a_kill_in_order(journal: Journal, path: Path) -> None:
    seqs = [journal.accept(entry(name)) for name in "abc"]
    again = after_a_kill(path)
    assert [(one.seq, one.id, one.key, one.body, one.finished_at) for one in again.entries()] == [
        (seq, f"id-{name}", f"key-{name}", b"body", None) for seq, name in zip(seqs, "abc", strict=True)
    ]
    again.close()


def test_a_result_and_the_state_that_goes_with_it_come_together(journal: Journal, path: Path) -> None:
    first, second, third = (journal.accept(entry(name)) for name in "abc")
    journal.begin(State("start", 4))
    journal.finish(first, b"r1", 1.0, error=None, keep_body=True, state=None)
    assert [one.body for one in journal.entries()] == [b"body"] * 3  # needed until a state has its effect
    journal.finish(second, b"r2", 2.0, error="RuntimeError: no", keep_body=False, state=State("next", 8))
    again = after_a_kill(path)
    assert again.state() == State("next", 8)
    assert [(one.reply, one.error, one.body) for one in again.entries()] == [
        (b"r1", None, None),
        (b"r2", "RuntimeError: no", None),
        (None, None, b"body"),
    ]
    assert again.entries()[2].seq == third
    again.close()


def test_a_refused_write_changes_nothing(journal: Journal) -> None:
    seq = journal.accept(entry("a"))
    with pytest.raises(ServerShutdownError, match="nothing was accepted") as refused:
        journal.accept(entry("a"))
    assert (refused.value.status, refused.value.retry_after) == (503, 5.0)
    journal.finish(seq, b"r", 1.0, error=None, keep_body=False, state=None)
    with pytest.raises(JournalError):  # there is a result already; the state must not move without it
        journal.finish(seq, b"r", 1.0, error=None, keep_body=False, state=State("never", 4))
    assert journal.state() is None
    assert len(journal.entries()) == 1


def test_what_is_dropped_is_dropped_on_the_disk_and_numbers_are_not_given_again(journal: Journal) -> None:
    first, second = journal.accept(entry("a")), journal.accept(entry("b"))
    journal.finish(first, b"r", 1.0, error=None, keep_body=False, state=None)
    journal.finish(second, b"r", 2.0, error=None, keep_body=False, state=None, dropped=[first])
    assert [(one.id, one.reply) for one in journal.entries()] == [("id-a", None), ("id-b", b"r")]
    third = journal.accept(entry("c"))
    journal.finish(third, b"r", 3.0, error=None, keep_body=False, state=None, forgotten=[first, second, third])
    assert journal.entries() == []
    assert journal.accept(entry("d")) > third


def test_the_file_does_not_grow_with_what_is_dropped(journal: Journal, path: Path) -> None:
    sizes = []
    last = 0
    for number in range(40):
        seq = journal.accept(entry(str(number), b"x" * 2**18))
        journal.finish(seq, b"y" * 2**18, 1.0, error=None, keep_body=False, state=None, forgotten=[last])
        last = seq
        sizes.append(path.stat().st_size + path.with_name(path.name + "-wal").stat().st_size)
    assert max(sizes[20:]) <= max(sizes[:20])
    journal.close()
    Journal(path).close()  # opening gives what is free back to the disk
    assert path.stat().st_size < 2**20


def test_tries_are_counted(journal: Journal, path: Path) -> None:
    seq = journal.accept(entry("a"))
    assert [journal.redo(seq), journal.redo(seq)] == [1, 2]
    again = after_a_kill(path)
    assert again.redo(seq) == 3
    again.close()


def test_what_is_no_journal_says_so(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(DeploymentFailedError, match=r"journal\.sqlite cannot be opened"):
        Journal(path)


HOLDER = """
import sys
from pathlib import Path
from loops_sdk.local.operations import Journal
journal = Journal(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time_and_the_next_one_waits_for_the_end_of_the_last(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.MonkeyPatch.context() as patience:
            patience.setattr("loops_sdk.local.operations.journal._PATIENCE", 0.05)
            with pytest.raises(DeploymentFailedError, match="locked"):
                Journal(path)
        holder.kill()
        Journal(path).close()


def test_every_write_is_flushed_to_the_disk(journal: Journal) -> None:
    database: sqlite3.Connection = journal._db
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
