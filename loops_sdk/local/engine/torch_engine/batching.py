"""Which sequences share a micro-batch: sorted by length, cut by a budget of padded tokens. Knows only lengths."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["plan"]


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut a batch into micro-batches of similar lengths.

    Args:
        lengths: tokens per sequence, each >= 1.
        budget: most padded tokens (rows times longest row) of a micro-batch. A longer sequence gets one of its own.

    Returns:
        Lists of indices into `lengths`, longest sequences first; every index occurs exactly once.
    """
    batches: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batches and (len(batches[-1]) + 1) * width <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
            width = lengths[index]
    return batches
