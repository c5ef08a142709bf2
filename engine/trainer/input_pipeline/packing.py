"""Rows -> sequences of ``seq_len``: several rows in one, kept apart by segment ids and restarted positions.

In: a token table and the pieces of it to train on. Out: :class:`Packed`, which makes the integer arrays of any
sequences of a plan. The plan is best-fit decreasing (Johnson 1973): longest rows first, each into the sequence
where it leaves least space; it is a pure function of lengths and seed, so that every run packs alike. Rows of one
length are taken in an order drawn from the seed: neighbours in the file, which are often alike, do not end up in one
sequence. Without packing every row has a sequence of its own.

Targets are listed explicitly, so that logits are computed for them only: target j of a sequence is the token
``target_ids[j]``, predicted at token position ``target_positions[j]``. All sequences have as many targets as the fullest
one; ``target_weights`` is 1 for a target and 0 for padding.

    >>> [pack.tolist() for pack in plan_packs([5, 3, 4, 2], 7)]
    [[0, 3], [2, 1]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.trainer.input_pipeline.long_rows import Pieces, handle_long_rows
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.input_pipeline.token_table import Array, TokenTable, offsets_of

Ints = NDArray[np.int32]

PACKING_STREAM = 1 << 63  # differs from the stream of every epoch


@dataclass(frozen=True, slots=True)
class PackPlan:
    """P sequences: sequence p has the pieces ``offsets[p]`` to ``offsets[p + 1]``.

    heads, starts i64[K] and lengths i32[K] as in :class:`engine.trainer.input_pipeline.long_rows.Pieces`, offsets i64[P+1]; ``n_targets``
    is J, the trained tokens of the fullest sequence.
    """

    heads: Array
    starts: Array
    lengths: Array
    offsets: Array
    n_targets: int


@dataclass(frozen=True, slots=True)
class Packed:
    """The sequences of a plan, whose arrays are made on demand."""

    table: TokenTable
    plan: PackPlan
    seq_len: int

    @property
    def n_sequences(self) -> int:
        """P."""
        return len(self.plan.offsets) - 1

    @property
    def real_tokens(self) -> Array:
        """i64[P]: tokens of each sequence without padding."""
        return np.diff(offsets_of(self.plan.lengths)[self.plan.offsets])

    @property
    def real_token_share(self) -> float:
        """The share of all token positions that is not padding."""
        return float(self.plan.lengths.sum(dtype=np.int64) / (self.n_sequences * self.seq_len))

    def take(self, indices: Sequence[int] | Array) -> dict[str, Ints]:
        """tokens, segment_ids, positions i32[B, T] (segment 0 is padding); target_… i32[B, J] (see the module)."""
        sequences = np.asarray(indices, np.int64)
        first, counts = self.plan.offsets[sequences], np.diff(self.plan.offsets)[sequences]
        pieces = np.repeat(first, counts) + _ramp(counts)  # [K]
        lengths = self.plan.lengths[pieces]
        piece_lines = np.repeat(np.arange(len(sequences)), counts)  # [K]
        position = _ramp(lengths)  # [n]: in its piece
        source = np.repeat(self.plan.starts[pieces], lengths) + position
        begins = np.cumsum(lengths, dtype=np.int64) - lengths  # [K]: where each piece begins among the n
        source[begins] = self.plan.heads[pieces]
        # Where a token goes: pieces of one line follow each other.
        used = np.bincount(piece_lines, lengths, len(sequences)).astype(np.int64)  # [B]
        column = np.arange(len(source)) - np.repeat(np.cumsum(used) - used, used)  # [n]
        lines = np.repeat(piece_lines, lengths)
        shape = (len(sequences), self.seq_len)
        tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
        tokens[lines, column] = self.table.tokens[source]
        segments[lines, column] = np.repeat(_ramp(counts) + 1, lengths)
        positions[lines, column] = position
        mask = self.table.loss_mask[source] != 0
        mask[begins] = False  # the first token of a piece has none before it to be predicted from
        return {
            "tokens": tokens,
            "segment_ids": segments,
            "positions": positions,
            **self._targets(tokens, lines[mask], column[mask]),
        }

    def row_ids(self, indices: Sequence[int] | Array) -> list[str]:
        """The ids of the rows of these sequences, each once, in file order."""
        spans = [slice(self.plan.offsets[index], self.plan.offsets[index + 1]) for index in indices]
        heads = np.concatenate([self.plan.heads[span] for span in spans])
        rows = np.unique(np.searchsorted(self.table.offsets, heads, side="right") - 1)
        return [self.table.row_id(int(row)) for row in rows]

    def _targets(self, tokens: Ints, lines: Array, columns: Array) -> dict[str, Ints]:
        """The trained tokens at (line, column), in order, aligned left: i32[B, J]."""
        shape = (tokens.shape[0], self.plan.n_targets)
        positions, ids, weights = (np.zeros(shape, np.int32) for _ in range(3))
        number = _ramp(np.bincount(lines, minlength=shape[0]))  # j
        positions[lines, number] = columns - 1
        ids[lines, number] = tokens[lines, columns]
        weights[lines, number] = 1
        return {"target_positions": positions, "target_ids": ids, "target_weights": weights}


def _ramp(counts: Array) -> Array:
    """0 … count-1 for each count, end to end.

    >>> _ramp(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(counts, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def plan_packs(lengths: Sequence[int] | Array, seq_len: int, *, seed: int | None = None) -> list[Array]:
    """Row indices of each sequence. Every length must be at most ``seq_len``. No seed: file order breaks ties."""
    order, offsets = _best_fit(np.asarray(lengths, np.int64), seq_len, seed)
    return np.split(order, offsets[1:-1])


def plan_pieces(pieces: Pieces, seq_len: int, *, packing: bool, seed: int | None = None) -> PackPlan:
    """Assign the pieces to sequences. ``packing`` False: one piece a sequence, in file order."""
    if packing:
        order, offsets = _best_fit(pieces.lengths, seq_len, seed)
    else:
        order, offsets = np.arange(len(pieces)), np.arange(len(pieces) + 1)
    ordered = pieces.take(order)
    trained = np.diff(offsets_of(ordered.trained)[offsets])
    return PackPlan(
        ordered.heads, ordered.starts, ordered.lengths.astype(np.int32), offsets, int(trained.max(initial=0))
    )


def pack_rows(rows: Sequence[TokenRow], seq_len: int, *, packing: bool, seed: int | None = None) -> Packed:
    """Rows in memory, packed. Raises InputInvalid T113 if one is longer than ``seq_len``."""
    table = TokenTable.of(rows)
    pieces = handle_long_rows(table, seq_len, "fail").pieces
    return Packed(table, plan_pieces(pieces, seq_len, packing=packing, seed=seed), seq_len)


def _best_fit(lengths: Array, seq_len: int, seed: int | None) -> tuple[Array, Array]:
    """(order i64[N], offsets i64[P+1]): the items of each sequence, end to end.

    All items of one length are placed together: the sequence with least space takes as many as fit, since its space
    after one of them is again the least, then the next. So the work is one step for each pair of a length and a space
    that meet, not one for each item, and the result is that of one item at a time.
    """
    rank = np.arange(len(lengths)) if seed is None else _drawn_ranks(len(lengths), seed)
    order = np.lexsort((rank, -lengths))
    by_length, counts = np.unique(-lengths, return_counts=True)
    bins = _Bins(seq_len)
    placed = [np.zeros(0, np.int64)]
    placed += [bins.place(-length, count) for length, count in zip(by_length.tolist(), counts.tolist(), strict=True)]
    packs = np.concatenate(placed)  # of each item, in order
    return order[np.argsort(packs, kind="stable")], offsets_of(np.bincount(packs))


class _Bins:
    """The sequences as bins, by the space each has left."""

    def __init__(self, seq_len: int) -> None:
        self.n_packs, self._seq_len = 0, seq_len
        self._by_space: dict[int, list[Array]] = {}  # space -> sequences, sorted when they are used
        self._has_space = np.zeros(seq_len + 1, bool)  # whether any sequence has exactly this space

    def place(self, length: int, count: int) -> Array:
        """The sequences that ``count`` items of one length go into, one after the other."""
        placed = []
        for space in (np.flatnonzero(self._has_space[length:]) + length).tolist():
            if not count:
                break
            candidates = np.sort(np.concatenate(self._by_space.pop(space)))
            self._has_space[space] = False
            used = candidates[: -(-count // (space // length))]
            self._add(space, candidates[len(used) :])
            placed.append(self._fill(used, space, length, count))
            count -= len(placed[-1])
        if count:
            new = np.arange(self.n_packs, self.n_packs - (-count // (self._seq_len // length)))
            self.n_packs += len(new)
            placed.append(self._fill(new, self._seq_len, length, count))
        return np.concatenate(placed)

    def _fill(self, packs: Array, space: int, length: int, count: int) -> Array:
        """Put up to ``count`` items into these, each filled before the next; the last may keep more space."""
        each = space // length
        filled = np.repeat(packs, each)[:count]
        in_last = len(filled) - each * (len(packs) - 1)
        self._add(space - each * length, packs[:-1])
        self._add(space - in_last * length, packs[-1:])
        return filled

    def _add(self, space: int, packs: Array) -> None:
        if len(packs):
            self._by_space.setdefault(space, []).append(packs)
            self._has_space[space] = True


def permutation(count: int, *key: int) -> Array:
    """i64: 0 … count-1 in an order that is a pure function of two numbers; read-only.

    From the raw output of the Philox generator, which numpy promises never to change (it does not promise that for
    ``Generator.permutation``).
    """
    words = np.random.Philox(key=np.asarray(key, np.uint64)).random_raw(count)
    order: Array = np.argsort(words, kind="stable")
    order.setflags(write=False)
    return order


def _drawn_ranks(count: int, seed: int) -> Array:
    ranks = np.empty(count, np.int64)
    ranks[permutation(count, seed, PACKING_STREAM)] = np.arange(count)
    return ranks
