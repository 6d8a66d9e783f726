"""The policy that sampled against the one that is trained: their log-probabilities of the same tokens.

It decides which positions count. numpy is imported when there is something to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loops_sdk._clients.targets import IGNORED
from loops_sdk.types import Datum, ForwardBackwardOutput, TensorData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What decides where there is loss, beside the targets.
_FACTORS = ("mask", "weights")


class Comparison:
    """What a pass was given; of its datums nothing is kept but the tensors that are compared."""

    def __init__(self, data: Sequence[Datum], loss_fn: str) -> None:
        given = [datum.loss_fn_inputs for datum in data]
        spelt_out = all("target_tokens" in one for one in given)
        by_policy = loss_fn != "cross_entropy" and all("logprobs" in one for one in given)
        self._masks = [_parts(one) for one in given] if spelt_out else None
        self._sampler = [one["logprobs"] for one in given] if spelt_out and by_policy else None

    def of(self, output: ForwardBackwardOutput) -> tuple[int | None, float | None]:
        """How many positions carry loss, and the mean over them of (sampler - trainer), an estimate of
        KL(sampler || trainer); `None` for what cannot be known.
        """
        if self._masks is None:
            return None, None
        scored = _joined([_carries_loss(parts) for parts in self._masks])
        count = int(scored.sum())
        trainer = [one.get("logprobs") for one in output.loss_fn_outputs]
        if self._sampler is None or not count or not _alike(self._sampler, trainer):
            return count, None
        gap = _joined([one.data for one in self._sampler]) - _joined([one.data for one in trainer if one is not None])
        return count, float(gap[scored].mean(dtype="float64"))


def _parts(given: dict[str, TensorData]) -> list[TensorData]:
    return [given["target_tokens"], *(given[name] for name in _FACTORS if name in given)]


def _carries_loss(parts: list[TensorData]) -> NDArray[np.bool_]:
    targets, *factors = parts
    scored: NDArray[np.bool_] = targets.data != IGNORED
    for factor in factors:
        scored = scored & (factor.data != 0)
    return scored


def _alike(sampler: Sequence[TensorData], trainer: Sequence[TensorData | None]) -> bool:
    """Whether the trainer has told as many log-probabilities of each datum as there are of the sampler."""
    sizes = [None if one is None else one.data.size for one in trainer]
    return sizes == [one.data.size for one in sampler]


def _joined(arrays: Sequence[Any]) -> NDArray[Any]:
    import numpy as np

    return np.concatenate(arrays)
