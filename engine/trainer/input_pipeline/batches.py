"""Which sequences a train step sees: a pure function of (seed, epoch, train_step), without iterator state.

The sequences of an epoch are permuted by a counter-based generator keyed by (seed, epoch). The epochs follow each other
endlessly and train step s takes the s-th slice, so every batch is full (one may span two epochs), and resuming in the
middle of an epoch needs nothing but the number of the step.

    >>> order = DataOrder(n_sequences=3, per_step=2, seed=0)
    >>> sorted(np.concatenate([order.indices(1), order.indices(2)])[:3].tolist())
    [0, 1, 2]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputInvalid
from engine.trainer.input_pipeline.packing import Packed, permutation
from engine.trainer.input_pipeline.token_table import Array

Batch = dict[str, NDArray[np.int32]]
EMPTY = -1  # in place of a sequence's number: an empty slot

# Caches a pure function: a step touches two epochs at most, unless an epoch is shorter than a step.
_epoch = functools.lru_cache(maxsize=4)(permutation)


@dataclass(frozen=True, slots=True)
class DataOrder:
    """``per_step`` sequences a train step, of ``n_sequences`` an epoch."""

    n_sequences: int
    per_step: int
    seed: int

    def epoch(self, number: int) -> Array:
        """The permutation of epoch 0, 1, …"""
        return _epoch(self.n_sequences, self.seed, number)

    def indices(self, train_step: int) -> Array:
        """The sequences of train step 1, 2, …, which may span epochs."""
        first = (train_step - 1) * self.per_step
        slices: list[Array] = []
        missing = self.per_step
        while missing:
            epoch, offset = divmod(first + self.per_step - missing, self.n_sequences)
            slices.append(self.epoch(epoch)[offset : offset + missing])
            missing -= len(slices[-1])
        return np.concatenate(slices)


def batch_at(
    packed: Packed,
    order: DataOrder,
    train_step: int,
    micro_batches: int,
    *,
    rows: int | None = None,
    columns: slice = slice(None),
) -> Batch:
    """The arrays of :meth:`Packed.take`, each i32[A, B, …] for A micro-batches of B sequences.

    ``rows``: B; the last micro-batch is filled up with empty sequences. ``columns``: the slice of the B to make. Raises
    InputInvalid T118 if ``rows`` is not given and the sequences of a step do not divide into the micro-batches.
    """
    if rows is None and order.per_step % micro_batches:
        raise InputInvalid(
            "T118",
            f"a batch of {order.per_step} sequences does not divide into {micro_batches} micro-batches",
            hint=f"{order.per_step - order.per_step % micro_batches or micro_batches} sequences would",
        )
    rows = order.per_step // micro_batches if rows is None else rows
    slots = np.full(micro_batches * rows, EMPTY)
    slots[: order.per_step] = order.indices(train_step)
    grid = slots.reshape(micro_batches, rows)[:, columns]  # [A, B]
    filled = np.flatnonzero(grid.reshape(-1) != EMPTY)
    arrays = packed.take(grid.reshape(-1)[filled])
    if len(filled) < grid.size:
        arrays = {name: _scatter(array, filled, grid.size) for name, array in arrays.items()}
    return {name: array.reshape(*grid.shape, *array.shape[1:]) for name, array in arrays.items()}  # [A, B, …]


def _scatter(array: Array, slots: Array, count: int) -> Array:
    """[N, …] in these slots of [count, …]; the others are zeros: segment 0 is padding, and target weights are 0."""
    scattered = np.zeros((count, *array.shape[1:]), array.dtype)
    scattered[slots] = array
    return scattered


def real_tokens(packed: Packed, order: DataOrder, train_steps: int) -> int:
    """Tokens without padding in the first ``train_steps``: full epochs, and a part of the next."""
    each = packed.real_tokens
    epochs, rest = divmod(train_steps * order.per_step, order.n_sequences)
    return epochs * int(each.sum()) + int(each[order.epoch(epochs)[:rest]].sum())
