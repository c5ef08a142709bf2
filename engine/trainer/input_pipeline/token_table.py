"""Token rows as columns: a million rows are a handful of arrays, not a million objects.

In: token rows, or arrays mapped from a token store. Out: :class:`TokenTable`. Row r is
``tokens[offsets[r]:offsets[r + 1]]`` with its ``loss_mask``; ids are UTF-8, end to end.

    >>> table = TokenTable.of([TokenRow("a", (2, 7, 1), (0, 1, 1)), TokenRow("b", (2, 8), (0, 1))])
    >>> table.tokens.tolist(), table.offsets.tolist(), table.trained.tolist(), table.row(1).id
    ([2, 7, 1, 2, 8], [0, 3, 5], [2, 1], 'b')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.trainer.input_pipeline.rows import TokenRow

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TokenTable:
    """R rows of n tokens in all: tokens u16|u32[n], loss_mask u8[n], offsets i64[R+1], trained i32[R] (number of trained
    tokens), boundary_merges i32[R], ids u8[…] and id_offsets i64[R+1]."""

    tokens: Array
    loss_mask: Array
    offsets: Array
    trained: Array
    boundary_merges: Array
    ids: Array
    id_offsets: Array

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenTable:
        """The columns of rows in memory."""
        names = [row.id.encode() for row in rows]
        lengths = np.fromiter((len(row.tokens) for row in rows), np.int64, len(rows))
        offsets = offsets_of(lengths)
        total = int(offsets[-1])
        loss_mask = np.fromiter(chain.from_iterable(row.loss_mask for row in rows), np.uint8, total)
        return cls(
            tokens=np.fromiter(chain.from_iterable(row.tokens for row in rows), np.uint32, total),
            loss_mask=loss_mask,
            offsets=offsets,
            trained=counts_between(loss_mask, offsets[:-1], offsets[1:]),
            boundary_merges=np.fromiter((row.boundary_merges for row in rows), np.int32, len(rows)),
            ids=np.frombuffer(b"".join(names), np.uint8),
            id_offsets=offsets_of(np.fromiter(map(len, names), np.int64, len(names))),
        )

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array]) -> TokenTable:
        """From :meth:`arrays`. Raises KeyError for one that is missing."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> dict[str, Array]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def n_rows(self) -> int:
        """R."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """i64[R]: tokens of each row."""
        return np.diff(self.offsets)

    def row_id(self, row: int) -> str:
        """The row's id in rows.jsonl."""
        return bytes(self.ids[self.id_offsets[row] : self.id_offsets[row + 1]]).decode()

    def row(self, row: int) -> TokenRow:
        """One row as an object."""
        where = slice(self.offsets[row], self.offsets[row + 1])
        tokens, loss_mask = self.tokens[where].tolist(), self.loss_mask[where].tolist()
        return TokenRow(self.row_id(row), tuple(tokens), tuple(loss_mask), int(self.boundary_merges[row]))


def offsets_of(lengths: Array) -> Array:
    """Where each of n items laid end to end begins, and the end of the last: i64[n+1].

    >>> offsets_of(np.array([3, 2])).tolist()
    [0, 3, 5]
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


SPAN = 1 << 22  # elements counted together: 16 MiB of running counts


def counts_between(mask: Array, starts: Array, ends: Array) -> Array:
    """i32: how many elements are set in each ``mask[start:end]``, for ordered ranges, in constant memory.

    >>> counts_between(np.array([0, 1, 1, 0, 1], np.uint8), np.array([0, 2]), np.array([2, 5])).tolist()
    [1, 2]
    """
    counts = np.zeros(len(starts), np.int32)
    first = 0
    while first < len(starts):
        base = int(starts[first])
        last = max(first + 1, int(np.searchsorted(ends, base + SPAN, side="right")))
        running = np.concatenate([np.zeros(1, np.int32), np.cumsum(mask[base : ends[last - 1]], dtype=np.int32)])
        counts[first:last] = running[ends[first:last] - base] - running[starts[first:last] - base]
        first = last
    return counts
