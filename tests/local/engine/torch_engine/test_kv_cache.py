"""The row cache against plain lists: whatever joins, leaves and grows, every row sees its own columns and no others."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicCache

from loops_sdk.local.engine.torch_engine.kv_cache import RowCache

HEADS, SIZE = 2, 3

moves = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 90), st.integers(1, 3)),
        st.tuples(st.just("drop"), st.integers(0, 100), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 40), st.just(0)),
    ),
    max_size=20,
)


def prefilled(length: int, start: float) -> DynamicCache:
    """Two layers of a cache whose second row holds `length` distinct columns; the first one is somebody else's."""
    cache = DynamicCache()
    for layer in range(2):
        columns = torch.arange(length + 5, dtype=torch.float32) + start + 0.5 * layer
        states = columns[None, None, :, None].expand(2, HEADS, -1, SIZE).clone()
        states[0] = -1
        cache.update(states, -states, layer)
    return cache


@settings(deadline=None, max_examples=40)
@given(moves)
def test_rows_keep_their_columns(plan: list[tuple[str, int, int]]) -> None:
    cache, rows, counter = RowCache(), [], 0.0
    for move, number, copies in plan:
        if move == "join":
            cache.join(prefilled(number, counter), [(1, number, copies)])
            rows += [[counter + i for i in range(number)] for _ in range(copies)]
            counter += number
        elif move == "drop" and rows:
            index = number % len(rows)
            cache.drop(index)
            rows[index] = rows[-1]
            rows.pop()
        elif move == "step" and rows:
            for _ in range(number):
                counter = step(cache, rows, counter)


@torch.inference_mode()
def step(cache: RowCache, rows: list[list[float]], counter: float) -> float:
    """One pass over all rows: write a new column each, and compare all that is seen with what should be."""
    cache.prepare()
    mask = cache.mask(torch.device("cpu"))
    fresh = torch.arange(len(rows), dtype=torch.float32) + counter
    for index, row in enumerate(rows):
        row.append(float(fresh[index]))
    for layer in range(2):
        states = (fresh + 0.5 * layer)[:, None, None, None].expand(-1, HEADS, 1, SIZE)
        keys, values = cache.update(states, -states, layer)
        assert torch.equal(keys, -values)
        assert keys.isfinite().all()
        assert keys.shape[2] == max(map(len, rows)) == cache.get_mask_sizes(1, layer)[0]
        for index, row in enumerate(rows):
            seen = keys[index, 0, :, 0] if mask is None else keys[index, 0, mask[index], 0]
            assert (seen - 0.5 * layer).tolist() == row
    cache.advance()
    return counter + len(rows)


@torch.inference_mode()
def test_buffers_do_not_grow_with_time() -> None:
    """Short rows that come and go keep moving right; the columns they leave behind must be used again."""
    cache = RowCache()
    cache.join(prefilled(4, 0), [(1, 4, 1)])
    for turn in range(300):
        cache.join(prefilled(4, turn), [(1, 4, 1)])
        cache.drop(0)
        cache.prepare()
        for layer in range(2):
            cache.update(torch.zeros(1, HEADS, 1, SIZE), torch.zeros(1, HEADS, 1, SIZE), layer)
        cache.advance()
    assert cache.layers[0].buffers[0].shape[2] <= 128
