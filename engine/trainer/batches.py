"""Which sequences a train step sees: a pure function of (seed, epoch, train_step), without iterator state.

The sequences of an epoch are permuted by a counter-based generator keyed by (seed, epoch); train step s takes
the s-th slice of the endless row of epochs, so every batch is full (one that begins at the end of an epoch goes on
in the next) and a restart in the middle of an epoch needs nothing but the number of the step.

    >>> order = DataOrder(n_sequences=3, per_step=2, seed=0)
    >>> sorted([*order.indices(1), *order.indices(2)][:3])
    [0, 1, 2]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.trainer.packing import Packed, permutation

Batch = dict[str, np.ndarray[Any, np.dtype[np.int32]]]

# A memo of a pure function: two epochs are what a step can touch unless an epoch is shorter than a step.
_epoch = functools.lru_cache(maxsize=4)(permutation)


@dataclass(frozen=True, slots=True)
class DataOrder:
    """``per_step`` sequences a train step, of ``n_sequences`` an epoch."""

    n_sequences: int
    per_step: int
    seed: int

    def epoch(self, number: int) -> tuple[int, ...]:
        """The permutation of epoch 0, 1, …"""
        return _epoch(self.n_sequences, self.seed, number)

    def indices(self, train_step: int) -> list[int]:
        """The sequences of train step 1, 2, …, across the end of an epoch where it falls inside."""
        first = (train_step - 1) * self.per_step
        found: list[int] = []
        while len(found) < self.per_step:
            epoch, offset = divmod(first + len(found), self.n_sequences)
            found += self.epoch(epoch)[offset : offset + self.per_step - len(found)]
        return found


def batch_at(packed: Packed, order: DataOrder, train_step: int, micro_batches: int) -> Batch:
    """The arrays of :class:`Packed`, each i32[A, B, …] for A micro-batches of B sequences."""
    chosen = packed.take(order.indices(train_step))
    return {name: _split(array, micro_batches) for name, array in chosen.items()}


def real_tokens(packed: Packed, order: DataOrder, first: int, last: int) -> int:
    """Tokens, padding left out, that train steps ``first`` to ``last`` are fed."""
    each = packed.real_tokens
    return sum(int(each[order.indices(train_step)].sum()) for train_step in range(first, last + 1))


def _split(array: np.ndarray[Any, np.dtype[np.int32]], parts: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return array.reshape(parts, array.shape[0] // parts, *array.shape[1:])  # [A, B, …]
