"""`Durability`: what a trainer keeps of a run so that another process can go on as if nothing had happened.

It decides which operations call for a saved state, and what to do again after a crash. Weights, moments and step are
saved in two folders in turn; the journal says which one counts, and that one is whole. Gradients are kept as requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from loops_sdk._wire import endpoints
from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local.engine import AdapterConfig, TrainingEngine
from loops_sdk.local.operations import Done, Journal, State
from loops_sdk.local.storage.files import sync_folder, sync_tree

__all__ = ["LASTING", "Durability"]

#: Operations whose effect, the gradient, is in no saved state: they are done again after a crash.
LASTING = frozenset({endpoints.FORWARD_BACKWARD.name})
#: Operations that change what a saved state holds, and empty the gradients.
_CHANGING = frozenset(
    {
        endpoints.OPTIM_STEP.name,
        endpoints.LOAD_STATE.name,
        endpoints.LOAD_STATE_WITH_OPTIMIZER.name,
        endpoints.INIT_TRAINER_SERVER.name,
    }
)
#: Where states are saved in turn.
_FOLDERS = ("even", "odd")


class Durability:
    """The journal and the saved states of one run, for one process at a time.

    Args:
        folder: made when it is not there; its parent must exist.

    Raises:
        DeploymentFailedError: the journal cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._states = folder / "states"
        for place in (folder, self._states):
            place.mkdir(exist_ok=True, mode=0o700)
        self.journal = Journal(folder / "journal.sqlite")
        self._state = self.journal.state()

    @property
    def begun(self) -> bool:
        """Whether there is a saved state to go on from."""
        return self._state is not None

    def begin(self, engine: TrainingEngine) -> None:
        """Save the state in which the run starts."""
        self._state = self._save(engine)
        self.journal.begin(self._state)

    def resume(self, engine: TrainingEngine, window: Sequence[Done], redo: Callable[[Done], object]) -> None:
        """Bring a fresh engine to where the last process was.

        Args:
            window: the operations since the saved state whose effect it lacks.
            redo: does one of them.

        Raises:
            DeploymentFailedError: the saved state does not fit the engine.
            Exception: an operation that had succeeded fails this time.
        """
        assert self._state is not None  # `begun`
        engine.init_adapter(AdapterConfig(lora_rank=self._state.rank))
        try:
            engine.load_state(self._states / self._state.folder, optimizer=True)
        except RuntimeError as error:
            raise DeploymentFailedError(f"the run cannot be resumed: {error}") from error
        _refill(engine, window, redo)

    def keep(self, engine: TrainingEngine, name: str, *, failed: bool) -> State | None:
        """The saved state that has the effect of the operation just done; `None` when the last one still does.

        A step that fails has dropped the gradients and nothing else; a load or a new start that fails, nothing at all.
        """
        if name not in _CHANGING:
            return None
        if not failed:
            self._state = self._save(engine)
        return self._state if not failed or name == endpoints.OPTIM_STEP.name else None

    def _save(self, engine: TrainingEngine) -> State:
        """Save into the folder that does not count, over what it holds: files that are there already are written and
        flushed in a fraction of the time that new ones take.
        """
        name = next(name for name in _FOLDERS if self._state is None or name != self._state.folder)
        folder = self._states / name
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(self._states)
        engine.save_state(folder)
        sync_tree(folder)
        return State(name, int(engine.adapter_config["r"]))


def _refill(engine: TrainingEngine, window: Sequence[Done], redo: Callable[[Done], object]) -> None:
    """The gradients as they were. One failed pass spoils them all, so then there is nothing to compute."""
    if (reason := next((one.error for one in window if one.error is not None), None)) is not None:
        engine.poison(reason)
        return
    for one in window:
        redo(one)
