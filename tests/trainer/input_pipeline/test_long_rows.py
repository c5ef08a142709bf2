"""Rows longer than seq_len: each declared policy, against one row at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.input_pipeline import token_table
from engine.trainer.input_pipeline.long_rows import LongRowResult, handle_long_rows
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.input_pipeline.token_table import TokenTable

ROWS = [TokenRow(f"r{index}", (2, *range(4, 4 + length), 1), (0, *[0] * (length - 2), 1, 1, 1)) for index, length in
        enumerate((3, 8, 9))]  # fmt: skip


def one_by_one(row: TokenRow, seq_len: int, on_long_row: str) -> list[TokenRow]:
    """The pieces of a row to train on, written to be read."""
    if len(row.tokens) <= seq_len:
        return [row]
    if on_long_row == "drop":
        return []
    if on_long_row == "truncate":
        pieces = [TokenRow(row.id, row.tokens[:seq_len], row.loss_mask[:seq_len])]
    else:  # BOS in front of every run of the rest
        step = seq_len - 1
        runs = [slice(start, start + step) for start in range(1, len(row.tokens), step)]
        pieces = [TokenRow(row.id, (row.tokens[0], *row.tokens[run]), (0, *row.loss_mask[run])) for run in runs]
    return [piece for piece in pieces if any(piece.loss_mask)]


def pieces_of(rows: list[TokenRow], fitted: LongRowResult) -> list[TokenRow]:
    """The pieces as rows."""
    table, pieces, token_rows = TokenTable.of(rows), fitted.pieces, []
    for index, row in enumerate(pieces.rows.tolist()):
        where = slice(pieces.starts[index], pieces.starts[index] + pieces.lengths[index])
        tokens, mask = table.tokens[where].tolist(), table.loss_mask[where].tolist()
        head = int(table.tokens[pieces.heads[index]])
        token_rows.append(TokenRow(table.row_id(row), (head, *tokens[1:]), (0, *mask[1:])))
    return token_rows


@st.composite
def row_lists(draw: st.DrawFn) -> list[TokenRow]:
    """Rows of BOS and a body with at least one trained token."""
    rows = []
    for index in range(draw(st.integers(1, 8))):
        mask = draw(st.lists(st.integers(0, 1), min_size=1, max_size=40).filter(any))
        rows.append(TokenRow(f"r{index}", (2, *range(10, 10 + len(mask))), (0, *mask)))
    return rows


@given(row_lists(), st.integers(2, 45), st.sampled_from(["drop", "truncate", "split"]))
def test_each_policy_gives_what_one_row_at_a_time_gives(rows: list[TokenRow], seq_len: int, policy: Any) -> None:
    """The pieces, their trained tokens and all counts are what a loop over the rows gives."""
    expected = [one_by_one(row, seq_len, policy) for row in rows]
    if not any(expected):
        with pytest.raises(InputInvalid, match="no row is left"):
            handle_long_rows(TokenTable.of(rows), seq_len, policy)
        return
    fitted = handle_long_rows(TokenTable.of(rows), seq_len, policy)
    flat = [piece for pieces in expected for piece in pieces]
    assert pieces_of(rows, fitted) == flat
    assert fitted.pieces.trained.tolist() == [sum(piece.loss_mask) for piece in flat]
    long = [len(row.tokens) > seq_len for row in rows]
    dropped = sum(not pieces for pieces in expected)
    assert (fitted.n_rows, fitted.n_dropped) == (len(rows) - dropped, dropped)
    assert fitted.n_truncated == (sum(long) - dropped if policy == "truncate" else 0)
    assert fitted.n_split == (sum(long) if policy == "split" else 0)


@given(row_lists(), st.integers(2, 45))
def test_split_trains_every_token_once(rows: list[TokenRow], seq_len: int) -> None:
    """Pieces begin with BOS, fit, and hold each trained token exactly once; dropped pieces held none."""
    fitted = handle_long_rows(TokenTable.of(rows), seq_len, "split")
    pieces = pieces_of(rows, fitted)
    assert all(piece.tokens[0] == 2 and len(piece.tokens) <= seq_len for piece in pieces)
    for row in rows:
        trained = [token for token, counts in zip(row.tokens, row.loss_mask, strict=True) if counts]
        in_pieces = [
            token
            for piece in pieces
            if piece.id == row.id
            for token, counts in zip(piece.tokens, piece.loss_mask, strict=True)
            if counts
        ]
        assert in_pieces == trained
    all_pieces = sum(max(1, -(-(len(row.tokens) - 1) // (seq_len - 1))) for row in rows)
    assert fitted.n_dropped_pieces == all_pieces - len(pieces)


def test_long_rows_fail_by_default() -> None:
    """fail: every long row is named, with the seq_len that would be enough."""
    with pytest.raises(InputInvalid) as caught:
        handle_long_rows(TokenTable.of(ROWS), 6, "fail")
    assert [found.message.split('"')[1] for found in caught.value.diagnostics] == ["r1", "r2"]
    assert str(caught.value).startswith(
        'error[T113]: row "r1" has 10 tokens, more than seq_len 6\n'
        "   = help: raise seq_len to 11, or declare on_long_row: drop, truncate or split"
    )


def test_many_long_rows_are_counted() -> None:
    """Twenty long rows are named, the others counted."""
    with pytest.raises(InputInvalid) as caught:
        handle_long_rows(TokenTable.of([ROWS[2]] * 30), 6, "fail")
    assert len(caught.value.diagnostics) == 21
    assert "10 more rows" in caught.value.diagnostics[-1].message


def test_no_row_left_is_refused() -> None:
    """Dropping everything is an error, not an empty training run."""
    with pytest.raises(InputInvalid, match="no row is left"):
        handle_long_rows(TokenTable.of(ROWS), 2, "drop")


def test_counting_in_spans_is_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained tokens are counted a span of the table at a time; the size of the span makes no difference."""
    expected = handle_long_rows(TokenTable.of(ROWS * 5), 4, "split").pieces.trained.tolist()
    for span in (1, 5, 13):
        monkeypatch.setattr(token_table, "SPAN", span)
        assert handle_long_rows(TokenTable.of(ROWS * 5), 4, "split").pieces.trained.tolist() == expected
