"""Which sequences a train step sees, and how they are split: a pure function of its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.config.batch_shape import batch_shape
from engine.trainer.input_pipeline.batches import DataOrder, batch_at, real_tokens
from engine.trainer.input_pipeline.packing import pack_rows
from engine.trainer.input_pipeline.rows import TokenRow


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


@given(st.integers(1, 30), st.integers(1, 20))
def test_real_tokens_are_those_of_the_batches(per_step: int, train_steps: int) -> None:
    """What is counted without making the batches is what the batches hold, over ends of epochs too."""
    rows = [TokenRow(str(length), (2,) * length, (0,) * (length - 1) + (1,)) for length in range(2, 9)]
    packed = pack_rows(rows, 9, packing=True, seed=0)
    order = DataOrder(packed.n_sequences, per_step, 7)
    batches = [batch_at(packed, order, step, 1) for step in range(1, train_steps + 1)]
    assert real_tokens(packed, order, train_steps) == sum(int((one["segment_ids"] != 0).sum()) for one in batches)


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


@pytest.mark.parametrize(("per_device", "size"), [(1, 1), (2, 1), (3, 2), (2, 4), (10, 1), (1, 8)])
def test_the_same_sequences_in_the_same_order_however_they_are_split(make_rows: Any, per_device: int, size: int):
    """The real rows are those of the plain batch, in its order; the filling rows have no segment and no weight."""
    packed = pack_rows(make_rows(30), 24, packing=True, seed=0)
    shape = batch_shape(10, per_device, 1, data_parallel_size=size)
    order = DataOrder(packed.n_sequences, 10, 7)
    for train_step in (1, 2, 5):
        plain = packed.take(order.indices(train_step))
        split = batch_at(packed, order, train_step, shape.micro_batches, rows=shape.rows)
        for name, array in split.items():
            assert array.shape[:2] == shape[1:]
            flat = array.reshape(-1, array.shape[-1])
            np.testing.assert_array_equal(flat[:10], plain[name])
            assert not flat[10:].any()


def test_a_process_makes_its_own_columns(make_rows: Any):
    """A part of the columns is that part of the whole batch."""
    packed = pack_rows(make_rows(30), 24, packing=True, seed=0)
    order, shape = DataOrder(packed.n_sequences, 10, 7), batch_shape(10, 2, 1, data_parallel_size=4)
    whole = batch_at(packed, order, 3, shape.micro_batches, rows=shape.rows)
    for first in range(0, shape.rows, 2):
        part = batch_at(packed, order, 3, shape.micro_batches, rows=shape.rows, columns=slice(first, first + 2))
        for name, array in part.items():
            np.testing.assert_array_equal(array, whole[name][:, first : first + 2])
