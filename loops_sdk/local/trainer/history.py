"""`History`: what a trainer has done, one line of JSON per operation, for people who watch the run or come back to it.

Nothing depends on it: it is neither flushed nor needed to go on after a crash, and a disk that refuses it stops no
training. It decides which numbers of a result are worth keeping, and how large the file may become.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from loops_sdk._wire.codec import dumps
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.operations import Told
from loops_sdk.local.storage.files import write_atomically
from loops_sdk.types import (
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    OptimStepResponse,
    SaveWeightsResponse,
)

__all__ = ["MOST_BYTES", "History"]

#: The file is cut to its newer half when it is larger: some 100,000 operations.
MOST_BYTES = 32 * 2**20
_LONGEST_ERROR = 1000
_METRICS = {"grad_norm": "grad_norm", "learning_rate": "learning_rate", "step": "policy_version"}

_log = logger(__name__)


class History:
    """Appends to one run's file. For one thread.

    Args:
        path: made with the first line; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts: dict[str, Any] = {}
        self._refused = False

    def note(self, result: Any) -> None:
        """The result of the operation of which `write` will be told next."""
        self._facts = _facts(result)

    def write(self, told: Told) -> None:
        """Write down an operation that has finished, with what was noted of its result."""
        facts, self._facts = self._facts, {}
        error = told.error and told.error[:_LONGEST_ERROR].encode("utf-8", "replace").decode()
        row = attrs.asdict(attrs.evolve(told, error=error)) | facts
        try:
            self._append(dumps({name: value for name, value in row.items() if value is not None}) + b"\n")
        except OSError as failure:
            if not self._refused:
                _log.warning("%s cannot be written (%s); training goes on without it", self._path, failure)
            self._refused = True

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)
            size = file.tell()
        if size > MOST_BYTES:
            newer = self._path.read_bytes()[-size // 2 :]
            write_atomically(self._path, newer[newer.index(b"\n") + 1 :])


def _facts(result: Any) -> dict[str, Any]:
    """The few numbers of a result that people look for; arrays are not among them."""
    if isinstance(result, ForwardBackwardOutput):
        metrics = result.metrics or {}
        return {"loss": result.loss, "tokens": metrics.get("loss_tokens:sum")}
    if isinstance(result, OptimStepResponse):
        known = {ours: result.metrics.get(theirs) for theirs, ours in _METRICS.items()}
        return known | {"policy_version": int(known["policy_version"] or 0)}
    if isinstance(result, SaveWeightsResponse | LoadWeightsResponse):
        return {"path": result.path, "policy_version": result.policy_version}
    return {"policy_version": 0} if isinstance(result, InitTrainerServerResponse) else {}
