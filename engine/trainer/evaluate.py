"""The eval loss: the mean loss over withheld rows, token by token.

evaluator = Evaluator(graphdef, args, placement, withheld, rows=8)
if evaluator.is_due(train_step, last):
    loss = evaluator.loss(state)
"""

from __future__ import annotations

import math

import numpy as np
from flax import nnx

from engine.protocol.train_args import TrainArgs
from engine.trainer.distributed.placement import Placement
from engine.trainer.input_pipeline.packing import Packed
from engine.trainer.models.decoder import Decoder
from engine.trainer.remat_policy import compute_policy
from engine.trainer.train_step import State, make_eval_loss


class Evaluator:
    """For one training run; without ``withheld`` rows no eval is ever due."""

    def __init__(
        self,
        graphdef: nnx.GraphDef[Decoder],
        args: TrainArgs,
        placement: Placement,
        withheld: Packed | None,
        *,
        rows: int,
    ) -> None:
        self._every = args.eval_every_steps
        self._placement, self._withheld, self._rows = placement, withheld, rows
        self._loss = make_eval_loss(graphdef, compute_policy(args, placement))

    def is_due(self, train_step: int, last: int) -> bool:
        """Every ``eval_every_steps``, and at the end."""
        if self._withheld is None:
            return False
        return train_step == last or bool(self._every and train_step % self._every == 0)

    def loss(self, state: State) -> float:
        """Mean over all trained tokens of the withheld rows, in batches of ``rows`` sequences; NaN or infinite as it comes."""
        assert self._withheld is not None
        total = tokens = 0.0
        for start in range(0, self._withheld.n_sequences, self._rows):
            batch = self._withheld.take(range(start, min(start + self._rows, self._withheld.n_sequences)))
            full = {name: _padded(array, self._rows) for name, array in batch.items()}
            loss, count = self._loss(state, self._placement.batch(full, axis=0))
            total, tokens = total + float(loss), tokens + float(count)
        return total / tokens if tokens else math.nan


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    """The last batch padded with empty sequences, so that one compiled program serves all batches."""
    return np.pad(array, ((0, size - array.shape[0]), (0, 0)))
