"""Which checkpoints are kept: a pure function of their train steps and eval losses.

In: what is declared (``keep_checkpoints``, ``keep_every_steps``, ``keep_best``) and the existing checkpoints. Out: the
train steps of those to delete.

    >>> retention = Retention(last=2, every=100, best=1)
    >>> retention.to_delete({50: 1.2, 100: 0.9, 150: 0.7, 200: 0.8, 250: None, 300: 0.9})
    [50]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from engine.protocol.disk_space import Kept


@dataclass(frozen=True, slots=True)
class Retention:
    """Keeps the newest ``last``, those whose train step ``every`` divides, and the ``best`` by eval loss; None: not declared."""

    last: int
    every: int | None = None
    best: int | None = None

    @property
    def kept(self) -> Kept:
        """How many that is, as the plan counts them."""
        return Kept(self.last, self.every, self.best)

    def to_delete(self, losses: Mapping[int, float | None]) -> list[int]:
        """Of the checkpoints {train step: its eval loss, or None}, those not kept, oldest first."""
        steps = sorted(losses)
        kept = {*steps[-self.last :], *best_steps(losses)[: self.best or 0]}
        kept.update(step for step in steps if self.every and step % self.every == 0)
        return [step for step in steps if step not in kept]


def best_steps(losses: Mapping[int, float | None]) -> list[int]:
    """Train steps that have a finite eval loss, the lowest first, the earlier of equals first.

    >>> best_steps({10: 0.9, 20: float("nan"), 30: 0.7, 40: None, 50: float("-inf")})
    [30, 10]
    """
    known = {step: loss for step, loss in losses.items() if loss is not None and math.isfinite(loss)}
    return sorted(known, key=lambda step: (known[step], step))
