"""Rows longer than ``seq_len``: the declared policy, applied to a whole table at once.

In: a token table. Out: :class:`Pieces`, runs of at most ``seq_len`` tokens to train on, and counts.

===========  ==========================================================================================================
``fail``     a longer row is an error
``drop``     it is left out
``truncate`` its end is cut off; a row that loses all its trained tokens teaches nothing and counts as dropped
``split``    it is split into pieces. Each begins with the row's first token (BOS) and continues where the previous one
             ended, so that every trained token is trained exactly once, in its order among at most ``seq_len``
             tokens; a piece does not see the pieces before it. A piece without a trained token is left out and counted
===========  ==========================================================================================================

    tokens 2 5 6 7 8 1, mask 0 0 0 0 1 1, seq_len 4   ->   [2 5 6 7] (left out), [2 8 1] mask 0 1 1
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from engine.errors import Diagnostic, InputInvalid
from engine.trainer.input_pipeline.rows import SHOWN_ROWS, OnLongRow
from engine.trainer.input_pipeline.token_table import Array, TokenTable, counts_between


@dataclass(frozen=True, slots=True)
class Pieces:
    """K pieces in file order: ``tokens[starts:starts + lengths]``, the first token replaced by ``tokens[heads]``.

    rows i64[K] (the piece's row), heads i64[K], starts i64[K], lengths i64[K], trained i32[K] (number of trained tokens).
    """

    rows: Array
    heads: Array
    starts: Array
    lengths: Array
    trained: Array

    def take(self, index: Array) -> Pieces:
        """The pieces at these indices, or where this mask is True."""
        return Pieces(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True)
class LongRowResult:
    """The pieces to train on, and how many rows (and pieces of split ones) the policy changed."""

    pieces: Pieces
    n_rows: int
    n_dropped: int
    n_truncated: int
    n_split: int
    n_dropped_pieces: int


def handle_long_rows(table: TokenTable, seq_len: int, on_long_row: OnLongRow) -> LongRowResult:
    """Apply the policy. Raises InputInvalid T113 (fail), T114 (nothing left)."""
    lengths = table.lengths
    long = np.flatnonzero(lengths > seq_len)
    if len(long) and on_long_row == "fail":
        raise InputInvalid.of(_too_long(table, long, seq_len))
    pieces = _unsplit(table)
    dropped = truncated = split = dropped_pieces = 0
    if len(long) and on_long_row == "split":
        all_pieces = _split(table, seq_len)
        pieces = all_pieces.take(all_pieces.trained > 0)
        split, dropped_pieces = len(long), len(all_pieces) - len(pieces)
    elif len(long):
        all_pieces = _truncated(table, pieces, long, seq_len)
        is_kept = (lengths <= seq_len) | ((all_pieces.trained > 0) & (on_long_row == "truncate"))
        pieces = all_pieces.take(is_kept)
        dropped = int(np.count_nonzero(~is_kept))
        truncated = len(long) - dropped
    if not len(pieces):
        raise InputInvalid(
            "T114",
            f"no row is left to train on: all {len(long)} are longer than seq_len {seq_len}",
            hint="raise seq_len",
        )
    n_rows = table.n_rows - dropped
    return LongRowResult(pieces, n_rows, dropped, truncated, split, dropped_pieces)


def _unsplit(table: TokenTable) -> Pieces:
    """One piece a row."""
    starts = np.array(table.offsets[:-1])
    return Pieces(np.arange(table.n_rows), starts, starts, table.lengths, np.array(table.trained))


def _truncated(table: TokenTable, rows: Pieces, long: Array, seq_len: int) -> Pieces:
    """The first ``seq_len`` tokens of every row."""
    trained = rows.trained.copy()
    trained[long] = counts_between(table.loss_mask, rows.starts[long], rows.starts[long] + seq_len)
    return Pieces(rows.rows, rows.heads, rows.starts, np.minimum(rows.lengths, seq_len), trained)


def _split(table: TokenTable, seq_len: int) -> Pieces:
    """All pieces of all rows. Piece k starts at the row's token k (seq_len - 1), which BOS replaces."""
    step = seq_len - 1
    counts = np.maximum(1, -(-(table.lengths - 1) // step))
    rows = np.repeat(np.arange(table.n_rows), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # k
    heads = table.offsets[:-1][rows]
    lengths = np.minimum(seq_len, table.lengths[rows] - number * step)
    starts = heads + number * step
    trained = counts_between(table.loss_mask, starts + 1, starts + lengths)
    return Pieces(rows, heads, starts, lengths, trained)


def _too_long(table: TokenTable, long: Array, seq_len: int) -> list[Diagnostic]:
    lengths = table.lengths[long]
    hint = f"raise seq_len to {lengths.max()}, or declare on_long_row: drop, truncate or split"
    findings = [
        Diagnostic("T113", f'row "{table.row_id(row)}" has {length} tokens, more than seq_len {seq_len}', hint=hint)
        for row, length in zip(long[:SHOWN_ROWS], lengths[:SHOWN_ROWS], strict=True)
    ]
    if len(long) > SHOWN_ROWS:
        findings.append(Diagnostic("T113", f"and {len(long) - SHOWN_ROWS} more rows are too long", hint=hint))
    return findings
