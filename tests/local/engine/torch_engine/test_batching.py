"""Every sequence lands in exactly one micro-batch, and no micro-batch is over budget."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from loops_sdk.local.engine.torch_engine.batching import plan

lengths = st.lists(st.integers(1, 50), max_size=40)


@settings(deadline=None, max_examples=100)
@given(lengths, st.integers(1, 200))
def test_each_once_within_budget(sizes: list[int], budget: int) -> None:
    batches = plan(sizes, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(sizes[index] for index in batch) <= budget


@settings(deadline=None, max_examples=100)
@given(lengths, st.integers(1, 200))
def test_no_two_neighbours_would_fit_together(sizes: list[int], budget: int) -> None:
    batches = plan(sizes, budget)
    for left, right in pairwise(batches):
        assert (len(left) + 1) * sizes[left[0]] > budget
        assert sizes[left[-1]] >= sizes[right[0]]


def test_order_does_not_depend_on_anything_else() -> None:
    assert plan([3, 5, 5, 1], 10) == [[1, 2], [0, 3]]
