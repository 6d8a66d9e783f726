"""`Storage`: where runs, samplers and checkpoints lie, and how a checkpoint comes into being.

A save writes a folder that never changes afterwards, then points the checkpoint's name at it, so that a reader sees the
old files or the new ones and never a mixture. One process saves a run's checkpoints; any number read them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loops_sdk._wire.codec import decode, encode, to_dict
from loops_sdk.errors import NotFoundError
from loops_sdk.local.storage.files import (
    detach_and_remove,
    new_id,
    point,
    read_if_there,
    sync_tree,
    write_atomically,
)
from loops_sdk.local.storage.listing import METADATA, listed
from loops_sdk.local.storage.recorded import KINDS, Records, read, visible
from loops_sdk.local.storage.records import Live, Saved, SavedFile
from loops_sdk.types import Checkpoint, CheckpointPath, LoraConfig
from loops_sdk.types.checkpoints import check_name

__all__ = ["Storage"]


class Storage(Records):
    """One data directory: its records, and what runs save.

    Args:
        root: an existing folder, made ready by `create`. It is never made again once it is gone.
    """

    def progress(self, run_id: str) -> Path:
        """The folder in which a trainer keeps what another one needs to go on with the run. Only trainers make it."""
        return self._run(run_id) / "progress"

    def history(self, run_id: str) -> Path:
        """The file in which a trainer writes down, for people, what it has done: a line of JSON for each operation. It
        outlives the run.
        """
        return self._run(run_id) / "history.jsonl"

    def drop_progress(self, run_id: str) -> None:
        """Nobody will go on with the run, and nobody does."""
        shutil.rmtree(self.progress(run_id), ignore_errors=True)

    def save(
        self,
        path: CheckpointPath,
        write: Callable[[Path], None],
        *,
        base_model: str,
        adapter_config: dict[str, Any],
        policy_version: int,
        ttl_seconds: int | None = None,
    ) -> Saved:
        """Make a checkpoint out of what `write` puts into the folder it is given; replaces one of the same name.

        When anything fails, `write` included, every name leads where it led before.
        """
        run = self._run(path.run_id)
        save_id = new_id(12)
        scratch, folder = run / "saves" / f".{save_id}", run / "saves" / save_id
        scratch.mkdir(mode=0o700)
        try:
            write(scratch)
            checkpoint = _describe(path, scratch, base_model, adapter_config)
            expires_at = None if ttl_seconds is None else time.time() + ttl_seconds
            saved = Saved(checkpoint, folder, policy_version, expires_at)
            extra = {"policy_version": policy_version, "expires_at": expires_at}
            write_atomically(scratch / METADATA, encode({**to_dict(checkpoint), **extra}))
            sync_tree(scratch)
            scratch.rename(folder)
            point(run / path.kind / path.name, f"../saves/{save_id}")
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return saved

    def checkpoint(self, path: CheckpointPath) -> Saved:
        """The checkpoint under an address.

        Raises:
            NotFoundError: there is none, or it has expired.
        """
        saved = self._saved(self._run(path.run_id) / path.kind / check_name("path", path.name))
        if saved is None:
            listed = f"`loops checkpoints list --run-id {path.run_id}` shows those of its run"
            raise NotFoundError(f"there is no checkpoint {path}; {listed}", status=404)
        return saved

    def checkpoints(self, run_id: str) -> list[Saved]:
        """All checkpoints of a run, oldest first; none for a run that does not exist."""
        found = (self._saved(link) for kind in KINDS for link in visible(self._run(run_id) / kind))
        return sorted((saved for saved in found if saved), key=lambda saved: saved.checkpoint.created_at)

    def checkpoint_by_id(self, checkpoint_id: str) -> Saved:
        """The checkpoint with this `Checkpoint.id`.

        Raises:
            NotFoundError: there is none, or it has expired or been replaced.
        """
        check_name("checkpoint_id", checkpoint_id)
        everything = (saved for run in self.runs() for saved in self.checkpoints(run.id))
        found = next((saved for saved in everything if saved.checkpoint.id == checkpoint_id), None)
        if found is None:
            text = f"there is no checkpoint with the id {checkpoint_id!r} (the id is wanted, not the name)"
            raise NotFoundError(text, status=404)
        return found

    def files(self, saved: Saved) -> list[SavedFile]:
        """The files of a checkpoint that are for others, by name.

        Raises:
            NotFoundError: it has been replaced meanwhile, and its files are gone.
        """
        return listed(saved.folder)

    def file(self, run_id: str, save: str, name: str) -> Path:
        """Where one of the files of `files` lies.

        Args:
            save: name of the folder of a `Saved`.

        Raises:
            NotFoundError: no such file, or it is gone; nothing outside the folder is ever found.
        """
        folder = self._run(run_id) / "saves" / check_name("save", save)
        if not any(file.name == name for file in listed(folder)):
            raise NotFoundError(f"the checkpoint has no file {name!r}", status=404)
        return folder / name

    def _saved(self, link: Path) -> Saved | None:
        """What a name points at. The link is followed once, so that everything read after it is of one save.

        It is followed again when that save was replaced and swept away meanwhile: the name then leads to another.
        """
        gone: Path | None = None
        while (folder := _target(link)) is not None and folder != gone:
            meta = read(folder / METADATA, dict)
            if meta is not None:
                return None if _has_expired(meta) else _as_saved(folder, meta)
            gone = folder
        return None

    def sweep(self, run_id: str) -> None:
        """Remove expired checkpoints, and files that no name and no pointer leads to. For the saving process."""
        run = self._run(run_id)
        kept = {live.folder} if (live := self.live(run_id)) else set()
        for link in [link for kind in KINDS for link in visible(run / kind)]:
            saved = self._saved(link)
            if saved is None:
                link.unlink(missing_ok=True)
            else:
                kept.add(f"saves/{saved.folder.name}")
        for folder in (run / "saves").iterdir():
            if f"saves/{folder.name}" not in kept:
                detach_and_remove(folder)  # gone in one step, so that nobody finds half of its files

    def remove_expired(self, run_id: str) -> None:
        """Remove what has expired of a run that nobody saves for any more: no save is left that would sweep."""
        live = self.live(run_id)
        for link in [link for kind in KINDS for link in visible(self._run(run_id) / kind)]:
            folder = link.resolve()
            if _has_expired(read(folder / METADATA, dict) or {}):
                link.unlink(missing_ok=True)
                if live is None or folder.name != Path(live.folder).name:
                    detach_and_remove(folder)

    # ------------------------------------------------------------ the live adapter

    def publish(self, saved: Saved) -> None:
        """Point the run's sampler at a checkpoint's adapter."""
        live = Live(saved.checkpoint.checkpoint_id, f"saves/{saved.folder.name}", saved.policy_version)
        write_atomically(self._run(saved.checkpoint.run_id) / "live.json", encode(live))

    def live(self, run_id: str) -> Live | None:
        """What the pointer says; `None` before the first publication."""
        return read(self._run(run_id) / "live.json", Live)

    def live_folder(self, run_id: str, live: Live) -> Path:
        """Where the files of a pointer lie."""
        return self._run(run_id) / "saves" / check_name("folder", Path(live.folder).name)

    def pointer(self, run_id: str) -> bytes | None:
        """The pointer's file as it is: other bytes for every publication; cheap enough to ask many times a second."""
        return read_if_there(self._run(run_id) / "live.json")


def _target(link: Path) -> Path | None:
    try:
        return link.parent / link.readlink()
    except OSError:
        return None


def _as_saved(folder: Path, meta: dict[str, Any]) -> Saved:
    checkpoint = decode(encode(meta), Checkpoint)
    return Saved(checkpoint, folder.resolve(), int(meta["policy_version"]), meta.get("expires_at"))


def _has_expired(meta: dict[str, Any]) -> bool:
    expires_at = meta.get("expires_at")
    return expires_at is not None and expires_at <= time.time()


def _describe(path: CheckpointPath, folder: Path, base_model: str, adapter_config: dict[str, Any]) -> Checkpoint:
    targets = adapter_config.get("target_modules") or []
    return Checkpoint(
        id=new_id(8),
        checkpoint_id=check_name("name", path.name),
        run_id=path.run_id,
        target="trainer" if path.kind == "weights" else "sampler",
        checkpoint_type="lora",
        base_model=base_model,
        size_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        created_at=datetime.now(UTC),
        lora_adapter_config=adapter_config,
        lora_config=LoraConfig("v1", [targets] if isinstance(targets, str) else sorted(targets)),
        sync_status="COMPLETE",
    )
