"""Packing and data order: every token once, by a pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.trainer.batches import DataOrder, batch_at, real_tokens
from engine.trainer.packing import pack_rows, permutation, plan_packs

LENGTHS = st.lists(st.integers(1, 32), min_size=1, max_size=60)


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
    plan = plan_packs([8] * 64, 32, seed=1)
    assert plan == plan_packs([8] * 64, 32, seed=1) != plan_packs([8] * 64, 32, seed=2)
    assert plan[0] != [0, 1, 2, 3]


def test_packed_rows_keep_their_tokens_and_targets(make_rows: Callable[..., Any]) -> None:
    """Segment by segment the tokens, restarted positions and targets are those of the rows."""
    rows = make_rows(30)
    packed = pack_rows(rows, 48, packing=True, seed=3)
    found = []
    for line in range(packed.n_sequences):
        segments = packed.segment_ids[line]
        counts = packed.target_weights[line].astype(bool)
        places, ids = packed.target_places[line][counts], packed.target_ids[line][counts]
        for segment in range(1, segments.max() + 1):
            where = np.flatnonzero(segments == segment)
            tokens = tuple(int(token) for token in packed.tokens[line, where])
            assert packed.positions[line, where].tolist() == list(range(len(where)))
            inside = (places >= where[0]) & (places < where[-1])
            mask = [0] * len(where)
            for place, label in zip(places[inside], ids[inside], strict=True):
                assert tokens[place + 1 - where[0]] == label
                mask[place + 1 - where[0]] = 1
            found.append((tokens, tuple(mask)))
    assert sorted(found) == sorted((row.tokens, row.loss_mask) for row in rows)


def test_without_packing_a_row_has_a_sequence(make_rows: Callable[..., Any]) -> None:
    """packing: false gives one row a sequence, in file order."""
    rows = make_rows(5)
    packed = pack_rows(rows, 48, packing=False)
    assert packed.n_sequences == 5
    assert [int(packed.segment_ids[line].max()) for line in range(5)] == [1] * 5
    assert packed.real_tokens.tolist() == [len(row.tokens) for row in rows]


def test_packing_fills_sequences(make_rows: Callable[..., Any]) -> None:
    """Rows of mixed length leave less than 5 % of the places empty."""
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
    """Asked for backwards, or alone, batches are what they are in order."""
    packed = pack_rows(make_rows(40), 48, packing=True, seed=0)
    order = DataOrder(packed.n_sequences, 4, 7)
    forwards = [batch_at(packed, order, step, 2) for step in range(1, 9)]
    backwards = [batch_at(packed, order, step, 2) for step in range(8, 0, -1)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert forwards[0]["tokens"].shape == (2, 2, 48)
    assert sum(int((batch["segment_ids"] != 0).sum()) for batch in forwards) == real_tokens(packed, order, 1, 8)


def test_epochs_and_seeds_differ() -> None:
    """Another epoch and another seed give another order."""
    one = DataOrder(50, 5, 1)
    assert one.epoch(0) != one.epoch(1)
    assert one.epoch(0) != DataOrder(50, 5, 2).epoch(0)


def test_the_order_never_changes() -> None:
    """The permutation is the same on every machine and numpy: a checkpoint of last year still means the same data."""
    assert permutation(8, 42, 0) == (7, 1, 6, 4, 3, 5, 0, 2)
    assert permutation(8, 42, 1) == (4, 5, 3, 0, 2, 7, 1, 6)
