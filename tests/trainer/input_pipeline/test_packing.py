"""Packing: every token once, in a sequence that is a pure function of lengths and seed."""

from __future__ import annotations

import bisect
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.input_pipeline.long_rows import handle_long_rows
from engine.trainer.input_pipeline.packing import (
    PACKING_STREAM,
    Packed,
    pack_rows,
    permutation,
    plan_packs,
    plan_pieces,
)
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.input_pipeline.token_table import TokenTable

LENGTHS = st.lists(st.integers(1, 32), min_size=1, max_size=60)
BODY = st.lists(st.tuples(st.integers(4, 259), st.integers(0, 1)), min_size=1, max_size=30)


def rows_of(lengths: Sequence[int]) -> list[TokenRow]:
    """Rows r0, r1, … of these lengths: BOS and tokens, of which the later half counts."""
    return [
        TokenRow(f"r{index}", (2, *range(4, 3 + length)), tuple(int(place > length // 2) for place in range(length)))
        for index, length in enumerate(lengths)
    ]


def one_by_one(lengths: Sequence[int], seq_len: int, seed: int | None) -> list[list[int]]:
    """The plan, written to be read: each item into the sequence with least space that takes it, the oldest of equals."""
    rank = list(range(len(lengths)))
    if seed is not None:
        for number, index in enumerate(permutation(len(lengths), seed, PACKING_STREAM).tolist()):
            rank[index] = number
    packs: list[list[int]] = []
    bins: list[tuple[int, int]] = []  # (space left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], rank[index])):
        at = bisect.bisect_left(bins, (lengths[index], -1))
        left, pack = bins.pop(at) if at < len(bins) else (seq_len, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(index)
        bisect.insort(bins, (left - lengths[index], pack))
    return packs


def token_by_token(rows: Sequence[TokenRow], packs: Sequence[Sequence[int]], seq_len: int) -> dict[str, Any]:
    """The arrays of all sequences, written to be read."""
    most = max(sum(sum(rows[index].loss_mask) for index in members) for members in packs)
    widths = {"tokens": seq_len, "segment_ids": seq_len, "positions": seq_len}
    widths |= {"target_positions": most, "target_ids": most, "target_weights": most}
    arrays = {name: np.zeros((len(packs), width), np.int32) for name, width in widths.items()}
    for line, members in enumerate(packs):
        column = target = 0
        for segment, index in enumerate(members, start=1):
            for position, (token, counts) in enumerate(zip(rows[index].tokens, rows[index].loss_mask, strict=True)):
                arrays["tokens"][line, column] = token
                arrays["segment_ids"][line, column] = segment
                arrays["positions"][line, column] = position
                if counts:
                    arrays["target_positions"][line, target] = column - 1
                    arrays["target_ids"][line, target] = token
                    arrays["target_weights"][line, target] = 1
                    target += 1
                column += 1
    return arrays


@given(st.lists(st.integers(1, 40), max_size=120), st.integers(40, 90), st.none() | st.integers(0, 3))
def test_the_plan_is_that_of_one_item_at_a_time(lengths: list[int], seq_len: int, seed: int | None) -> None:
    """Placing all items of one length together gives the same sequences, in the same order, as one after the other."""
    plan = [pack.tolist() for pack in plan_packs(lengths, seq_len, seed=seed)]
    assert plan == (one_by_one(lengths, seq_len, seed) or [[]])


@given(st.lists(BODY, min_size=1, max_size=20), st.booleans())
def test_sequences_are_those_of_one_token_at_a_time(bodies: list[list[tuple[int, int]]], packing: bool) -> None:
    """Every array of every sequence is what a loop over rows and tokens writes, whatever order is requested."""
    rows = [
        TokenRow(str(index), (2, *(token for token, _ in body)), (0, *(counts for _, counts in body)))
        for index, body in enumerate(bodies)
    ]
    packed = pack_rows(rows, 32, packing=packing, seed=1)
    packs = one_by_one([len(row.tokens) for row in rows], 32, 1) if packing else [[index] for index in range(len(rows))]
    expected = token_by_token(rows, packs, 32)
    indices = [*reversed(range(packed.n_sequences)), 0]
    for name, array in packed.take(indices).items():
        assert array.dtype == np.int32
        np.testing.assert_array_equal(array, expected[name][indices])
    assert packed.real_tokens.tolist() == np.count_nonzero(expected["segment_ids"], axis=1).tolist()
    assert packed.real_token_share == np.count_nonzero(expected["segment_ids"]) / expected["segment_ids"].size


@given(LENGTHS, st.integers(0, 3))
def test_every_row_is_packed_once_and_fits(lengths: list[int], seed: int) -> None:
    """A plan uses each row exactly once and no sequence overflows."""
    plan = plan_packs(lengths, 32, seed=seed)
    assert Counter(index for pack in plan for index in pack) == Counter(range(len(lengths)))
    assert all(sum(lengths[index] for index in pack) <= 32 for pack in plan)


@given(LENGTHS)
def test_the_plan_is_near_the_least_possible(lengths: list[int]) -> None:
    """Best-fit decreasing needs at most 11/9 of the least number of sequences, plus one (Johnson 1973)."""
    least = -(-sum(lengths) // 32)
    longest_alone = sum(1 for length in lengths if length > 16)
    assert len(plan_packs(lengths, 32)) <= 2 * max(least, longest_alone)
    assert len(plan_packs([16] * len(lengths), 32)) == -(-len(lengths) // 2)


def test_equal_lengths_are_mixed_by_the_seed() -> None:
    """Neighbours in the file do not stay together, and the same seed gives the same plan."""
    one, again, other = (np.concatenate(plan_packs([8] * 64, 32, seed=seed)).tolist() for seed in (1, 1, 2))
    assert one == again != other
    assert one[:4] != [0, 1, 2, 3]


def test_without_packing_a_row_has_a_sequence() -> None:
    """packing: false gives one row a sequence, in file order."""
    rows = rows_of([20, 4, 9, 20, 11])
    packed = pack_rows(rows, 48, packing=False)
    assert packed.n_sequences == 5
    assert packed.take(range(5))["segment_ids"].max(axis=1).tolist() == [1] * 5
    assert packed.real_tokens.tolist() == [len(row.tokens) for row in rows]


@given(LENGTHS, st.booleans())
def test_the_rows_of_sequences_are_named(lengths: list[int], packing: bool) -> None:
    """The rows of a sequence under their names in the file, each once, in the order of the file."""
    packed = pack_rows(rows_of(lengths), 32, packing=packing, seed=0)
    members = one_by_one(lengths, 32, 0) if packing else [[index] for index in range(len(lengths))]
    for number, indices in enumerate(members):
        assert packed.row_ids([number]) == [f"r{index}" for index in sorted(indices)]
    assert packed.row_ids(range(len(members))) == [f"r{index}" for index in range(len(lengths))]
    assert packed.row_ids([0, 0]) == packed.row_ids([0])


def test_packing_fills_sequences() -> None:
    """Rows of mixed length leave less than 5 % of the token positions empty."""
    draw = random.Random(0)
    rows = rows_of([draw.randint(20, 200) for _ in range(400)])
    assert pack_rows(rows, 512, packing=True, seed=0).real_token_share >= 0.95


@given(st.lists(BODY, min_size=1, max_size=12), st.booleans())
def test_pieces_of_a_split_row_are_rows(bodies: list[list[tuple[int, int]]], packing: bool) -> None:
    """A row cut to 8 tokens is fed as rows that each begin with its first token: the same arrays, one and all."""
    rows = [
        TokenRow(str(index), (index, *(token for token, _ in body), 1), (0, *(counts for _, counts in body), 1))
        for index, body in enumerate(bodies)
    ]
    pieces = [piece for row in rows for piece in pieces_of(row, 8)]
    table = TokenTable.of(rows)
    plan = plan_pieces(handle_long_rows(table, 8, "split").pieces, 8, packing=packing, seed=3)
    split, whole = Packed(table, plan, 8), pack_rows(pieces, 8, packing=packing, seed=3)
    assert split.n_sequences == whole.n_sequences
    every = range(whole.n_sequences)
    expected = whole.take(every)
    for name, array in split.take(every).items():
        np.testing.assert_array_equal(array, expected[name])
    assert [split.row_ids([number]) for number in every] == [
        list(dict.fromkeys(whole.row_ids([number]))) for number in every
    ]


def pieces_of(row: TokenRow, seq_len: int) -> list[TokenRow]:
    """The pieces of a long row that have something to learn, each a row with the name of the whole."""
    if len(row.tokens) <= seq_len:
        return [row]
    found = []
    for first in range(1, len(row.tokens), seq_len - 1):
        inside = slice(first, first + seq_len - 1)
        piece = TokenRow(row.id, (row.tokens[0], *row.tokens[inside]), (0, *row.loss_mask[inside]))
        found += [piece] if any(piece.loss_mask) else []
    return found


def test_the_first_token_of_a_row_is_no_target() -> None:
    """Nothing stands before it from which it could be predicted, whatever the row's mask says."""
    rows = [TokenRow("a", (2, 7), (1, 1)), TokenRow("b", (2, 8, 9), (1, 0, 1))]
    taken = pack_rows(rows, 5, packing=True).take([0])
    assert taken["tokens"].tolist() == [[2, 8, 9, 2, 7]]
    targets = [taken[f"target_{name}"][taken["target_weights"] == 1].tolist() for name in ("positions", "ids")]
    assert targets == [[1, 3], [9, 7]]


def test_without_a_seed_the_file_breaks_ties() -> None:
    """Rows of one length go in the order of the file, by each of the three ways to a plan."""
    expected = [["r0", "r1"], ["r2", "r3"]]
    assert [pack.tolist() for pack in plan_packs([4] * 4, 8)] == [[0, 1], [2, 3]]
    packed = pack_rows(rows_of([4] * 4), 8, packing=True)
    table = TokenTable.of(rows_of([4] * 4))
    planned = Packed(table, plan_pieces(handle_long_rows(table, 8, "fail").pieces, 8, packing=True), 8)
    for found in (packed, planned):
        assert [found.row_ids([number]) for number in range(found.n_sequences)] == expected


def test_a_row_that_is_too_long_is_refused() -> None:
    """T113, with the row's name and length."""
    with pytest.raises(InputInvalid) as caught:
        pack_rows(rows_of([8, 9]), 8, packing=True)
    assert [(found.code, found.message) for found in caught.value.diagnostics] == [
        ("T113", 'row "r1" has 9 tokens, more than seq_len 8')
    ]


def test_nothing_packed_is_an_empty_batch() -> None:
    """No sequences asked for: arrays without lines. No pieces: no sequences, and no targets."""
    packed = pack_rows(rows_of([4]), 8, packing=True)
    assert {array.shape[0] for array in packed.take([]).values()} == {0}
    nothing = handle_long_rows(packed.table, 8, "fail").pieces.take(np.zeros(1, bool))
    for packing in (False, True):
        plan = plan_pieces(nothing, 8, packing=packing)
        assert (plan.n_targets, plan.offsets.tolist()) == (0, [0])


def test_counts_of_a_plan_are_plain_numbers() -> None:
    """They go into digests and reports as JSON."""
    packed = pack_rows(rows_of([4, 4, 3]), 8, packing=True)
    assert json.dumps([packed.n_sequences, packed.plan.n_targets, packed.real_token_share]) == "[2, 2, 0.6875]"
    assert type(packed.real_token_share) is float


def test_the_order_never_changes() -> None:
    """The permutation is the same on every machine and numpy: an old checkpoint still means the same data."""
    assert permutation(8, 42, 0).tolist() == [7, 1, 6, 4, 3, 5, 0, 2]
    assert permutation(8, 42, 1).tolist() == [4, 5, 3, 0, 2, 7, 1, 6]


def test_the_packing_never_changes() -> None:
    """Which rows of one length share a sequence is drawn from the seed, apart from the order of any epoch."""
    assert [pack.tolist() for pack in plan_packs([4] * 8, 16, seed=42)] == [[5, 4, 6, 7], [1, 0, 2, 3]]


def test_an_order_cannot_be_changed() -> None:
    """It is kept for the next batch: who sorted it in place would change what is trained."""
    with pytest.raises(ValueError, match="read-only"):
        permutation(4, 1, 2)[0] = 0
