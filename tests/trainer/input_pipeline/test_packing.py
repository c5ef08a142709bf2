"""Packing and data order: every token once, by a pure function."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.input_pipeline.batches import DataOrder, batch_at, real_tokens
from engine.trainer.input_pipeline.packing import PACKING_STREAM, pack_rows, permutation, plan_packs
from engine.trainer.input_pipeline.rows import TokenRow

LENGTHS = st.lists(st.integers(1, 32), min_size=1, max_size=60)
BODY = st.lists(st.tuples(st.integers(4, 259), st.integers(0, 1)), min_size=1, max_size=30)


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


def test_without_packing_a_row_has_a_sequence(make_rows: Callable[..., Any]) -> None:
    """packing: false gives one row a sequence, in file order."""
    rows = make_rows(5)
    packed = pack_rows(rows, 48, packing=False)
    assert packed.n_sequences == 5
    assert packed.take(range(5))["segment_ids"].max(axis=1).tolist() == [1] * 5
    assert packed.real_tokens.tolist() == [len(row.tokens) for row in rows]


def test_the_rows_of_sequences_are_named(make_rows: Callable[..., Any]) -> None:
    """Each row is in one sequence, under its id in the file."""
    rows = make_rows(9)
    packed = pack_rows(rows, 64, packing=True, seed=0)
    ids = [packed.row_ids([index]) for index in range(packed.n_sequences)]
    assert sorted(row_id for row_ids in ids for row_id in row_ids) == sorted(row.id for row in rows)
    assert packed.row_ids(range(packed.n_sequences)) == [row.id for row in rows]


def test_packing_fills_sequences(make_rows: Callable[..., Any]) -> None:
    """Rows of mixed length leave less than 5 % of the token positions empty."""
    assert pack_rows(make_rows(400, shortest=20, longest=200), 512, packing=True, seed=0).real_token_share >= 0.95


@given(st.integers(1, 50), st.integers(1, 9), st.integers(0, 2**32))
def test_each_epoch_is_a_permutation(n_sequences: int, per_step: int, seed: int) -> None:
    """Reading the steps one after the other, every sequence comes once an epoch, whatever the batch size."""
    order = DataOrder(n_sequences, per_step, seed)
    steps = -(-2 * n_sequences // per_step)
    read = [index for step in range(1, steps + 1) for index in order.indices(step)]
    assert sorted(read[:n_sequences]) == sorted(read[n_sequences : 2 * n_sequences]) == list(range(n_sequences))
    assert all(len(order.indices(step)) == per_step for step in range(1, steps + 1))


def test_a_batch_depends_on_its_step_alone(make_rows: Callable[..., Any]) -> None:
    """Made backwards, batches are what they are in order."""
    packed = pack_rows(make_rows(40), 48, packing=True, seed=0)
    order = DataOrder(packed.n_sequences, 4, 7)
    forwards = [batch_at(packed, order, step, 2) for step in range(1, 9)]
    backwards = [batch_at(packed, order, step, 2) for step in range(8, 0, -1)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert forwards[0]["tokens"].shape == (2, 2, 48)


@given(st.integers(1, 30), st.integers(1, 20))
def test_real_tokens_are_those_of_the_batches(per_step: int, train_steps: int) -> None:
    """The count without making the batches is what the batches hold, across epochs too."""
    rows = [TokenRow(str(length), (2,) * length, (0,) * (length - 1) + (1,)) for length in range(2, 9)]
    packed = pack_rows(rows, 9, packing=True, seed=0)
    order = DataOrder(packed.n_sequences, per_step, 7)
    batches = [batch_at(packed, order, step, 1) for step in range(1, train_steps + 1)]
    assert real_tokens(packed, order, train_steps) == sum(int((batch["segment_ids"] != 0).sum()) for batch in batches)


def test_a_batch_that_does_not_divide_is_refused(make_rows: Callable[..., Any]) -> None:
    """Sequences that do not divide into the micro-batches are an error that says how many would."""
    packed = pack_rows(make_rows(20), 48, packing=True, seed=0)
    with pytest.raises(InputInvalid) as caught:
        batch_at(packed, DataOrder(packed.n_sequences, 7, 0), 1, 3)
    assert str(caught.value) == (
        "error[T118]: a batch of 7 sequences does not divide into 3 micro-batches\n   = help: 6 sequences would"
    )


def test_epochs_and_seeds_differ() -> None:
    """Another epoch and another seed give another order."""
    one = DataOrder(50, 5, 1)
    assert one.epoch(0).tolist() != one.epoch(1).tolist()
    assert one.epoch(0).tolist() != DataOrder(50, 5, 2).epoch(0).tolist()


def test_the_order_never_changes() -> None:
    """The permutation is the same on every machine and numpy: an old checkpoint still means the same data."""
    assert permutation(8, 42, 0).tolist() == [7, 1, 6, 4, 3, 5, 0, 2]
    assert permutation(8, 42, 1).tolist() == [4, 5, 3, 0, 2, 7, 1, 6]
