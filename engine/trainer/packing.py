"""Rows -> sequences of ``seq_len``: several rows in one, kept apart by segment ids and restarted positions.

In: token rows that fit. Out: :class:`Packed`, four integer arrays [P, T] for P packed sequences. The plan is
best-fit decreasing (Johnson 1973): longest rows first, each into the sequence where it leaves least room; it is a
pure function of the lengths, so that every run packs alike. Without packing every row has a sequence of its own.

    >>> plan_packs([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.trainer.rows import TokenRow

Ints = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, slots=True)
class Packed:
    """Arrays i32[P, T]. ``loss_mask[p, t]`` is 1 where the token at t counts; segment 0 is padding."""

    tokens: Ints
    loss_mask: Ints
    segment_ids: Ints
    positions: Ints

    @property
    def real_token_share(self) -> float:
        """The part of all places that holds a token of a row."""
        return float(np.count_nonzero(self.segment_ids) / self.segment_ids.size)


def plan_packs(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    """Row indices of each sequence. Every length must be at most ``seq_len``."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (room left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        at = bisect.bisect_left(room, (lengths[index], -1))
        if at == len(room):
            packs.append([index])
            bisect.insort(room, (seq_len - lengths[index], len(packs) - 1))
            continue
        left, pack = room.pop(at)
        packs[pack].append(index)
        bisect.insort(room, (left - lengths[index], pack))
    return packs


def pack_rows(rows: Sequence[TokenRow], seq_len: int, *, packing: bool) -> Packed:
    """Lay the rows out. ``packing`` False: one row a sequence, padded at the end."""
    lengths = [len(row.tokens) for row in rows]
    packs = plan_packs(lengths, seq_len) if packing else [[index] for index in range(len(rows))]
    shape = (len(packs), seq_len)
    tokens, mask, segments, positions = (np.zeros(shape, np.int32) for _ in range(4))
    for line, members in enumerate(packs):
        start = 0
        for segment, index in enumerate(members, start=1):
            row = rows[index]
            end = start + len(row.tokens)
            tokens[line, start:end] = row.tokens
            mask[line, start:end] = row.loss_mask
            segments[line, start:end] = segment
            positions[line, start:end] = np.arange(end - start)
            start = end
    return Packed(tokens, mask, segments, positions)
