"""Checkpoints are whole or absent, names lead nowhere else, and what is not needed any more goes."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk.errors import InvalidInputError, NotFoundError
from loops_sdk.local.storage import Saved, Storage, detach_and_remove
from loops_sdk.local.storage.recorded import read
from loops_sdk.types import CheckpointPath

PATH = CheckpointPath("run7", "sampler_weights", "step-1")


def save(storage: Storage, path: CheckpointPath = PATH, *, version: int = 1, ttl: int | None = None) -> Saved:
    def write(folder: Path) -> None:
        for name in ("a", "b"):
            (folder / name).write_text(str(version))

    config = {"r": 4, "target_modules": ["up", "down"]}
    return storage.save(path, write, base_model="m", adapter_config=config, policy_version=version, ttl_seconds=ttl)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_saved_checkpoint_is_found_under_its_name_and_says_what_it_is(storage: Storage) -> None:
    saved = save(storage, version=3)
    found = storage.checkpoint(PATH)
    assert found == saved
    assert (found.checkpoint.target, found.checkpoint.checkpoint_id, found.policy_version) == ("sampler", "step-1", 3)
    assert found.checkpoint.size_bytes == 2
    assert found.checkpoint.lora_config is not None
    assert found.checkpoint.lora_config.targets == ["down", "up"]
    assert found.checkpoint.path == str(PATH)
    assert (storage.root / "runs" / "run7" / "sampler_weights" / "step-1" / "a").read_text() == "3"


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(storage: Storage) -> None:
    save(storage)
    before = files(storage.root)

    def fail(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        storage.save(PATH, fail, base_model="m", adapter_config={}, policy_version=2)
    assert files(storage.root) == before
    assert storage.checkpoint(PATH).policy_version == 1


def test_a_reader_never_sees_a_mixture_of_two_saves(storage: Storage) -> None:
    save(storage, version=0)
    mixtures: list[tuple[str, str]] = []
    reads = 0
    ended = threading.Event()

    def read() -> None:
        nonlocal reads
        while not ended.is_set():
            saved = storage.checkpoint(PATH)
            try:
                seen = (saved.folder / "a").read_text(), (saved.folder / "b").read_text()
            except FileNotFoundError:  # replaced in between, and said so
                continue
            reads += 1
            if set(seen) != {str(saved.policy_version)}:
                mixtures.append(seen)

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(1, 60):
        storage.publish(save(storage, version=version))
        storage.sweep("run7")
    ended.set()
    reader.join()
    assert mixtures == []
    assert reads > 0


@pytest.mark.parametrize("removed", [False, True])
def test_a_name_whose_save_is_replaced_while_it_is_read(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """The name was there all the time, so it is found; unless it was removed as well."""
    save(storage, version=1)

    def replaced_before(path: Path, kind: Any) -> Any:
        monkeypatch.undo()
        save(storage, version=2)
        storage.sweep("run7")
        if removed:
            (storage.root / "runs" / "run7" / "sampler_weights" / "step-1").unlink()
        return read(path, kind)

    monkeypatch.setattr("loops_sdk.local.storage.directory.read", replaced_before)
    if removed:
        with pytest.raises(NotFoundError):
            storage.checkpoint(PATH)
    else:
        assert storage.checkpoint(PATH).policy_version == 2


def test_sweeping_keeps_what_a_name_or_the_pointer_leads_to(storage: Storage) -> None:
    first = save(storage, version=1)
    storage.publish(first)
    second = save(storage, version=2)
    other = save(storage, CheckpointPath("run7", "weights", "step-1"))
    (storage.root / "runs" / "run7" / "saves" / ".left-by-a-crash").mkdir()
    storage.sweep("run7")
    kept = {folder.name for folder in (storage.root / "runs" / "run7" / "saves").iterdir()}
    assert kept == {first.folder.name, second.folder.name, other.folder.name}
    storage.publish(second)
    storage.sweep("run7")
    assert not first.folder.exists()
    assert storage.live("run7") is not None


def test_an_expired_checkpoint_is_not_found_and_is_swept(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save(storage, ttl=60)
    assert storage.checkpoints("run7") == [saved]
    assert saved.expires_at is not None
    later = saved.expires_at + 1
    monkeypatch.setattr("loops_sdk.local.storage.directory.time.time", lambda: later)
    assert storage.checkpoints("run7") == []
    with pytest.raises(NotFoundError):
        storage.checkpoint(PATH)
    storage.sweep("run7")
    assert not saved.folder.exists()


def test_what_expired_is_removed_without_another_save_and_nothing_else_is(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, expired = save(storage), save(storage, attrs.evolve(PATH, name="b"), ttl=60)
    served = save(storage, attrs.evolve(PATH, name="c"), ttl=60)
    storage.publish(served)
    assert expired.expires_at is not None
    later = expired.expires_at + 1
    unread = save(storage, attrs.evolve(PATH, name="d"), ttl=60)
    (unread.folder / "checkpoint.json").write_text("no JSON")
    storage.remove_expired("run7")
    assert len(storage.checkpoints("run7")) == 3
    monkeypatch.setattr("loops_sdk.local.storage.directory.time.time", lambda: later)
    storage.remove_expired("run7")
    assert storage.checkpoints("run7") == [kept]
    assert (kept.folder.exists(), expired.folder.exists(), served.folder.exists()) == (True, False, True)
    assert unread.folder.exists()  # nobody knows whether it has expired
    names = {link.name for link in (storage.root / "runs" / "run7" / "sampler_weights").iterdir()}
    assert names == {"step-1", "d"}


def test_the_team_stays_the_same(storage: Storage) -> None:
    assert Storage.create(storage.root).team() == storage.team()


def test_a_checkpoint_is_found_by_its_id_and_only_while_it_is_there(storage: Storage) -> None:
    saved = save(storage)
    assert storage.checkpoint_by_id(saved.checkpoint.id) == saved
    again = save(storage, version=2)
    with pytest.raises(NotFoundError, match="not the name"):
        storage.checkpoint_by_id(saved.checkpoint.id)
    assert storage.checkpoint_by_id(again.checkpoint.id) == again


def test_our_own_file_is_not_listed_and_a_folder_that_is_gone_lists_nothing(storage: Storage) -> None:
    saved = save(storage)
    assert [(file.name, file.size_bytes) for file in storage.files(saved)] == [("a", 1), ("b", 1)]
    assert (saved.folder / "checkpoint.json").is_file()
    detach_and_remove(saved.folder)
    with pytest.raises(NotFoundError, match="replaced or removed"):
        storage.files(saved)


def test_the_pointer_names_the_newest_publication(storage: Storage) -> None:
    assert storage.pointer("run7") is None
    seen = set()
    for version in range(3):
        saved = save(storage, version=version)
        storage.publish(saved)
        live = storage.live("run7")
        assert live is not None
        assert live.policy_version == version
        assert storage.live_folder("run7", live) == saved.folder
        seen.add(storage.pointer("run7"))
    assert len(seen) == 3


def test_checkpoints_are_listed_oldest_first(storage: Storage) -> None:
    names = ["b", "a", "c"]
    for name in names:
        save(storage, attrs.evolve(PATH, name=name))
    assert [saved.checkpoint.checkpoint_id for saved in storage.checkpoints("run7")] == names
    assert storage.checkpoints("nothing") == []


def test_runs_come_back_as_they_were_recorded(storage: Storage) -> None:
    run = storage.run("run7")
    storage.write_run(attrs.evolve(run, id="other", seed=3))
    assert {one.id for one in storage.runs()} == {"run7", "other"}
    assert storage.run("other") == attrs.evolve(run, id="other", seed=3)
    with pytest.raises(NotFoundError, match="nothing"):
        storage.run("nothing")


def test_a_record_that_is_no_record_is_left_aside(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    (storage.root / "runs" / "run7" / "run.json").write_text("{}")
    assert storage.runs() == []
    assert "run.json" in caplog.text


@given(name=st.text(max_size=300))
def test_no_name_leads_out_of_the_directory(name: str) -> None:
    storage = Storage(Path("/nonexistent/root"))
    for ask in (storage.run, storage.sampler, storage.has_session, storage.pointer, storage.checkpoints):
        with contextlib.suppress(InvalidInputError, NotFoundError):
            ask(name)
    with pytest.raises((InvalidInputError, NotFoundError)):
        storage.checkpoint(CheckpointPath("run7", "weights", name))


def test_a_detached_folder_does_not_come_back(tmp_path: Path, storage: Storage) -> None:
    run = storage.run("run7")
    detach_and_remove(storage.root)
    with pytest.raises(FileNotFoundError):
        save(storage)
    with pytest.raises(FileNotFoundError):
        storage.write_run(attrs.evolve(run, id="late"))
    assert not storage.root.exists()
    assert [path for path in tmp_path.parent.iterdir() if path.name.startswith(f"{tmp_path.name}.")] == []
    detach_and_remove(storage.root)
