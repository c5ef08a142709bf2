"""Rows -> sequences of ``seq_len``: several rows in one, kept apart by segment ids and restarted positions.

In: token rows that fit. Out: :class:`Packed`, integer arrays for P packed sequences. The plan is
best-fit decreasing (Johnson 1973): longest rows first, each into the sequence where it leaves least room; it is a
pure function of lengths and seed, so that every run packs alike. Rows of one length are taken in an order drawn
from the seed: neighbours in the file, which are often of one kind, do not end up in one sequence. Without packing
every row has a sequence of its own.

What is to be predicted is written out as targets, so that logits are made for these places only: target j of a
sequence is the token ``target_ids[j]``, predicted at place ``target_places[j]``. All sequences have room for as many
targets as the fullest one; ``target_weights`` is 1 for a target and 0 for what fills up.

    >>> plan_packs([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from engine.trainer.rows import TokenRow

Ints = np.ndarray[Any, np.dtype[np.int32]]

PACKING_STREAM = 1 << 63  # keeps the draws of packing apart from those of any epoch


@dataclass(frozen=True, slots=True)
class Packed:
    """tokens, segment_ids, positions i32[P, T] (segment 0 is padding); targets i32[P, J] (see the module)."""

    tokens: Ints
    segment_ids: Ints
    positions: Ints
    target_places: Ints
    target_ids: Ints
    target_weights: Ints

    @property
    def n_sequences(self) -> int:
        """P."""
        return int(self.tokens.shape[0])

    @property
    def real_tokens(self) -> Ints:
        """i32[P]: tokens of each sequence that are no padding."""
        found: Ints = np.sum(self.segment_ids != 0, axis=1, dtype=np.int32)
        return found

    def take(self, indices: Sequence[int]) -> dict[str, Ints]:
        """The named sequences of every array, [B, …]."""
        return {field.name: getattr(self, field.name)[list(indices)] for field in fields(self)}

    @property
    def real_token_share(self) -> float:
        """The part of all places that holds a token of a row."""
        return float(np.count_nonzero(self.segment_ids) / self.segment_ids.size)


def plan_packs(lengths: Sequence[int], seq_len: int, *, seed: int | None = None) -> list[list[int]]:
    """Row indices of each sequence. Every length must be at most ``seq_len``. No seed: file order breaks ties."""
    rank = range(len(lengths)) if seed is None else _drawn_ranks(len(lengths), seed)
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (room left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], rank[index])):
        at = bisect.bisect_left(room, (lengths[index], -1))
        if at == len(room):
            packs.append([index])
            bisect.insort(room, (seq_len - lengths[index], len(packs) - 1))
            continue
        left, pack = room.pop(at)
        packs[pack].append(index)
        bisect.insort(room, (left - lengths[index], pack))
    return packs


def permutation(count: int, *key: int) -> tuple[int, ...]:
    """0 … count-1 in an order that is a pure function of two numbers.

    Made from the raw words of the Philox generator, which numpy promises never to change (it promises no such
    thing for ``Generator.permutation``).
    """
    words = np.random.Philox(key=np.asarray(key, np.uint64)).random_raw(count)
    return tuple(np.argsort(words, kind="stable").tolist())


def _drawn_ranks(count: int, seed: int) -> Sequence[int]:
    ranks = [0] * count
    for rank, index in enumerate(permutation(count, seed, PACKING_STREAM)):
        ranks[index] = rank
    return ranks


def pack_rows(rows: Sequence[TokenRow], seq_len: int, *, packing: bool, seed: int | None = None) -> Packed:
    """Lay the rows out. ``packing`` False: one row a sequence, padded at the end."""
    lengths = [len(row.tokens) for row in rows]
    packs = plan_packs(lengths, seq_len, seed=seed) if packing else [[index] for index in range(len(rows))]
    tokens, segments, positions = (np.zeros((len(packs), seq_len), np.int32) for _ in range(3))
    targets = max(sum(sum(rows[index].loss_mask) for index in members) for members in packs)
    places, ids, weights = (np.zeros((len(packs), targets), np.int32) for _ in range(3))
    for line, members in enumerate(packs):
        start = filled = 0
        for segment, index in enumerate(members, start=1):
            row = rows[index]
            end = start + len(row.tokens)
            tokens[line, start:end] = row.tokens
            segments[line, start:end] = segment
            positions[line, start:end] = np.arange(end - start)
            # BOS is never trained, so that the place before a trained token belongs to the same row.
            counted = np.flatnonzero(row.loss_mask)
            to = filled + len(counted)
            places[line, filled:to] = start + counted - 1
            ids[line, filled:to] = np.asarray(row.tokens, np.int32)[counted]
            weights[line, filled:to] = 1
            start, filled = end, to
    return Packed(tokens, segments, positions, places, ids, weights)
