"""Which sequences a train step sees: a pure function of (seed, epoch, train_step), without iterator state.

The sequences of an epoch are permuted by a counter-based generator keyed by (seed, epoch); train step s takes
the s-th slice of the endless row of epochs, so every batch is full (one that begins at the end of an epoch goes on
in the next) and a restart in the middle of an epoch needs nothing but the number of the step.

    >>> order = DataOrder(n_sequences=3, per_step=2, seed=0)
    >>> sorted(np.concatenate([order.indices(1), order.indices(2)])[:3].tolist())
    [0, 1, 2]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import InputInvalid
from engine.trainer.input_pipeline.packing import Packed, permutation

Batch = dict[str, np.ndarray[Any, np.dtype[np.int32]]]
Array = np.ndarray[Any, np.dtype[Any]]
EMPTY = -1  # the number of a sequence that is none

# A memo of a pure function: two epochs are what a step can touch unless an epoch is shorter than a step.
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
        """The sequences of train step 1, 2, …, across the end of an epoch where it falls inside."""
        first = (train_step - 1) * self.per_step
        found: list[Array] = []
        missing = self.per_step
        while missing:
            epoch, offset = divmod(first + self.per_step - missing, self.n_sequences)
            found.append(self.epoch(epoch)[offset : offset + missing])
            missing -= len(found[-1])
        return np.concatenate(found)


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

    With ``rows`` B is that, and what the sequences of the step leave of the last micro-batch is filled up with empty
    ones. ``columns``: those of the B that are wanted. Raises InputInvalid T118 where B is not given and the sequences
    of a step do not divide into so many.
    """
    if rows is None and order.per_step % micro_batches:
        raise InputInvalid(
            "T118",
            f"a batch of {order.per_step} sequences does not divide into {micro_batches} micro-batches",
            hint=f"{order.per_step - order.per_step % micro_batches or micro_batches} sequences would",
        )
    rows = order.per_step // micro_batches if rows is None else rows
    places = np.full(micro_batches * rows, EMPTY)
    places[: order.per_step] = order.indices(train_step)
    grid = places.reshape(micro_batches, rows)[:, columns]  # [A, B]
    lines = np.flatnonzero(grid.reshape(-1) != EMPTY)
    chosen = packed.take(grid.reshape(-1)[lines])
    if len(lines) < grid.size:
        chosen = {name: _among(array, lines, grid.size) for name, array in chosen.items()}
    return {name: array.reshape(*grid.shape, *array.shape[1:]) for name, array in chosen.items()}  # [A, B, …]


def _among(array: Array, lines: Array, count: int) -> Array:
    """[N, …] at these lines of [count, …]; the others are zeros: segment 0 is padding, and no target weighs."""
    whole = np.zeros((count, *array.shape[1:]), array.dtype)
    whole[lines] = array
    return whole


def real_tokens(packed: Packed, order: DataOrder, train_steps: int) -> int:
    """Tokens, padding left out, that the first ``train_steps`` are fed: whole epochs, and a part of the next."""
    each = packed.real_tokens
    epochs, rest = divmod(train_steps * order.per_step, order.n_sequences)
    return epochs * int(each.sum()) + int(each[order.epoch(epochs)[:rest]].sum())
