"""Per-token numbers of a batch collected into one `ForwardBackwardOutput`: sums in float64, arrays per datum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loops_sdk.local.engine.datums import Columns
from loops_sdk.types import ForwardBackwardOutput, TensorData

__all__ = ["Results"]

_METRICS = {"ratio": "ratio:sum", "clipped": "clipped_tokens:sum"}


class Results:
    """Collects the datums of one call in any order.

    Args:
        size: number of datums.
        reports: what the loss reports beside loss and gradient.

    The metrics are sums over the positions that carry weight: ``loss:sum``, ``loss_tokens:sum`` (how many there are),
    and, for losses that have them, ``ratio:sum`` and ``clipped_tokens:sum``.
    """

    def __init__(self, size: int, reports: Sequence[str]) -> None:
        self._outputs: list[dict[str, TensorData]] = [{}] * size
        self._sums: dict[str, float] = {"loss:sum": 0.0, "loss_tokens:sum": 0.0}
        self._reports = {name: _METRICS[name] for name in reports}
        self._sums |= dict.fromkeys(self._reports.values(), 0.0)

    def add(
        self, order: Sequence[int], lengths: Sequence[int], batch: Columns, columns: dict[str, NDArray[Any]]
    ) -> None:
        """Take the flat columns ``logprobs`` and ``loss`` (and those in `reports`) of the datums in `order`."""
        weighted = batch.scale != 0
        self._sums["loss:sum"] += float(columns["loss"].sum(dtype=np.float64))
        self._sums["loss_tokens:sum"] += float(weighted.sum())
        for name, metric in self._reports.items():
            self._sums[metric] += float(columns[name][weighted].sum(dtype=np.float64))
        ends = np.cumsum(lengths)
        for index, end, length in zip(order, ends.tolist(), lengths, strict=True):
            part = slice(end - length, end)
            self._outputs[index] = {
                "logprobs": TensorData(columns["logprobs"][part]),
                "elementwise_loss": TensorData(columns["loss"][part]),
            }

    def output(self) -> ForwardBackwardOutput:
        """Everything that was added."""
        return ForwardBackwardOutput(self._sums["loss:sum"], dict(self._sums), list(self._outputs))
