"""Which weights a request gets: the base model, the live adapter, or a published checkpoint, loaded on demand.

It decides what stays in memory. Everything but the reading of `live` happens in the driver's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import attrs

from loops_sdk.errors import NotFoundError, ServerFailureError
from loops_sdk.local.engine import GenerationEngine
from loops_sdk.local.storage import Storage
from loops_sdk.types import CheckpointPath

__all__ = ["Adapters", "Weights"]


@attrs.frozen
class Weights:
    """Weights that a request runs with: `adapter` is the engine's name for them, `None` for the base model."""

    adapter: str | None
    policy_version: int


BASE = Weights(None, 0)


class Adapters:
    """The adapters of one engine.

    Args:
        engine: loads and unloads; requests that run keep theirs.
        storage: where checkpoints lie.
        most: adapters that stay loaded besides the live one; the one used longest ago goes first.
    """

    def __init__(self, engine: GenerationEngine, storage: Storage, *, most: int = 4) -> None:
        self._engine, self._storage, self._most = engine, storage, most
        self._loaded: OrderedDict[str, str] = OrderedDict()  # folder -> the engine's name
        self._count = 0
        self._live_folder: Path | None = None
        self.live: Weights | None = None

    def load_live(self, run_id: str) -> None:
        """Make what the run's pointer names the live adapter; without a pointer nothing changes.

        Raises:
            NotFoundError, RuntimeError: the files are gone (a newer pointer follows), or do not fit.
        """
        pointer = self._storage.live(run_id)
        if pointer is not None:
            self._set_live(self._storage.live_folder(run_id, pointer), pointer.policy_version)

    def load_fixed(self, path: CheckpointPath) -> None:
        """Make one checkpoint the live adapter, for good."""
        saved = self._storage.checkpoint(path)
        self._set_live(saved.folder, saved.policy_version)

    def _set_live(self, folder: Path, policy_version: int) -> None:
        weights = self._load(folder, policy_version)
        self._live_folder, self.live = folder, weights
        self._evict()

    def published(self, path: CheckpointPath) -> Weights:
        """The weights of a published checkpoint, loaded if need be.

        Raises:
            NotFoundError: there is no such checkpoint.
            ServerFailureError: 500, its files cannot be loaded.
        """
        return _twice(lambda: self._published(path))

    def _published(self, path: CheckpointPath) -> Weights:
        saved = self._storage.checkpoint(path)
        weights = self._load(saved.folder, saved.policy_version)
        self._evict()
        return weights

    def unload(self) -> None:
        """Forget all adapters; the engine is as it was when it was new."""
        self._live_folder = self.live = None
        while self._loaded:
            _, name = self._loaded.popitem()
            self._engine.unload_adapter(name)

    def _load(self, folder: Path, policy_version: int) -> Weights:
        key = str(folder)
        if key not in self._loaded:
            self._count += 1
            name = f"{folder.name}#{self._count}"
            self._engine.load_adapter(name, folder)
            self._loaded[key] = name
        self._loaded.move_to_end(key)
        return Weights(self._loaded[key], policy_version)

    def _evict(self) -> None:
        others = [key for key in self._loaded if key != str(self._live_folder)]
        for key in others[: max(0, len(others) - self._most)]:
            self._engine.unload_adapter(self._loaded.pop(key))


def _twice(load: Callable[[], Weights]) -> Weights:
    """Saving under the same name takes away the old files while they are read; a second look finds the new ones."""
    try:
        return load()
    except NotFoundError:
        raise
    except Exception:
        pass
    try:
        return load()
    except NotFoundError:
        raise
    except Exception as error:
        raise ServerFailureError(f"the checkpoint cannot be loaded: {error}", status=500) from error
