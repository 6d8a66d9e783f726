"""Keys and values of the rows that are being decoded, where rows join, leave and grow without a copy per step.

All rows end at the same column, so a step writes one column for everybody; a row's first column depends on its length.
The cache knows columns and rows; whose they are is the batch's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

__all__ = ["RowCache"]

_COLUMNS = 64  #: fewest columns of a buffer; more are added by doubling


@attrs.define(eq=False)
class _Span:
    """Which columns are in use. It is apart from the cache so that layers need not refer to the cache that holds them:
    a cycle would keep the buffers until the garbage collector comes by.

    Attributes:
        first: first column of each row, by row.
        end: the column after the last one.
    """

    first: list[int] = attrs.field(factory=list)
    end: int = 0

    @property
    def start(self) -> int:
        """The first column that any row uses."""
        return min(self.first, default=self.end)

    @property
    def width(self) -> int:
        """Columns in use."""
        return self.end - self.start


class RowCache(Cache):
    """A transformers cache whose rows come from prefilled caches."""

    def __init__(self) -> None:
        self._span = _Span()
        self._rows = self._columns = 0
        self.layers: list[_RowLayer] = []  # type: ignore[assignment]  # narrower than the library's
        super().__init__(layers=[])

    @torch.inference_mode()
    def join(self, prefilled: DynamicCache, rows: Sequence[tuple[int, int, int]]) -> None:
        """Add rows from a cache of prompts padded on the right: for each its row there, its length, how many copies."""
        span = self._span
        if not self.layers:
            self.layers = [_RowLayer(span, source) for source in prefilled.layers]
        count = len(span.first) + sum(copies for _, _, copies in rows)
        longest = max(length for _, length, _ in rows)
        if count > self._rows or longest > span.end:
            self._lay_out(max(count, self._rows), max(longest, span.width))
        for row, length, copies in rows:
            targets = slice(len(span.first), len(span.first) + copies)
            for layer, source in zip(self.layers, prefilled.layers, strict=True):
                layer.write(source, row, length, targets)
            span.first += [span.end - length] * copies

    @torch.inference_mode()
    def prepare(self) -> None:
        """Make room for the column that the next pass writes."""
        if self._span.end >= self._columns:
            self._lay_out(self._rows, self._span.width)

    def advance(self) -> None:
        """Count the column that a pass over all rows has written."""
        self._span.end += 1

    def _lay_out(self, rows: int, end: int) -> None:
        """New buffers for `rows` rows, in which the columns in use end at `end` and may double before the next move."""
        columns, move = max(_COLUMNS, 2 * end), end - self._span.end
        moved = [layer.moved(rows, columns, move) for layer in self.layers]  # all or nothing: memory may run out
        for layer, buffers in zip(self.layers, moved, strict=True):
            layer.buffers = buffers
        self._span.first = [column + move for column in self._span.first]
        self._span.end, self._rows, self._columns = end, rows, columns

    @torch.inference_mode()
    def drop(self, row: int) -> None:
        """Remove a row; the last one takes its place."""
        first = self._span.first
        last = len(first) - 1
        if row != last:
            for layer in self.layers:
                layer.move(last, row)
        first[row] = first[last]
        first.pop()

    def mask(self, device: torch.device) -> Tensor | None:
        """What each row may attend to in the next pass, ``[rows, width + 1]``; `None` if that is everything."""
        first, start = self._span.first, self._span.start
        if all(column == start for column in first):
            return None
        columns = torch.arange(start, self._span.end + 1, device=device)
        return columns >= torch.tensor(first, device=device)[:, None]


class _RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # the library's __init_subclass__
    """Buffers ``[rows, heads, columns, size]`` of one layer. Always finite: masked garbage times zero must be zero."""

    is_sliding = False

    def __init__(self, span: _Span, like: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._span = span
        self.buffers: tuple[Tensor, Tensor] = (like.keys[:0], like.values[:0])
        self.is_initialized = True

    def moved(self, rows: int, columns: int, move: int) -> tuple[Tensor, Tensor]:
        """New buffers with the columns in use moved by `move`."""
        count, start, end = len(self._span.first), self._span.start, self._span.end
        keys, values = (old.new_zeros(rows, old.shape[1], columns, old.shape[3]) for old in self.buffers)
        for new, old in zip((keys, values), self.buffers, strict=True):
            new[:count, :, start + move : end + move] = old[:count, :, start:end]
        return keys, values

    def write(self, source: Any, row: int, length: int, rows: slice) -> None:
        """Copy one prefilled row into `rows` so that it ends where all rows end."""
        columns = slice(self._span.end - length, self._span.end)
        for buffer, filled in zip(self.buffers, (source.keys, source.values), strict=True):
            buffer[rows, :, columns] = filled[row : row + 1, :, :length]

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        columns = slice(self._span.start, self._span.end)
        for buffer in self.buffers:
            buffer[target, :, columns] = buffer[source, :, columns]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new column of every row; return all columns in use."""
        rows, start, end = key_states.shape[0], self._span.start, self._span.end
        keys, values = self.buffers
        keys[:rows, :, end : end + 1] = key_states
        values[:rows, :, end : end + 1] = value_states
        return keys[:rows, :, start : end + 1], values[:rows, :, start : end + 1]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: buffers are made when a row joins."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a pass sees, and the offset of the first one."""
        return self._span.width + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self._span.width

    def get_max_length(self) -> int:
        """Unbounded."""
        return -1
