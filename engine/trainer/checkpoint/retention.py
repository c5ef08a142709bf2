"""Which checkpoints stay: a pure function of their train steps and eval losses.

In: what is declared (``keep_checkpoints``, ``keep_every_steps``, ``keep_best``) and the checkpoints there are. Out: the
train steps of those that go.

    >>> keep = Retention(last=2, every=100, best=1)
    >>> keep.let_go({50: 1.2, 100: 0.9, 150: 0.7, 200: 0.8, 250: None, 300: 0.9})
    [50]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """The newest ``last``, those whose train step ``every`` divides, and the ``best`` by eval loss; None: not asked for."""

    last: int
    every: int | None = None
    best: int | None = None

    def let_go(self, losses: Mapping[int, float | None]) -> list[int]:
        """Of the checkpoints {train step: its eval loss, or None}, those that go, oldest first."""
        steps = sorted(losses)
        kept = {*steps[-self.last :], *best_steps(losses)[: self.best or 0]}
        kept.update(step for step in steps if self.every and step % self.every == 0)
        return [step for step in steps if step not in kept]

    def at_once(self, saves: int, last: int) -> int:
        """How many lie side by side at most, of ``saves`` up to train step ``last``: those kept, and one being written.

        >>> Retention(last=2, every=100).at_once(20, 1000), Retention(last=2).at_once(1, 30)
        (13, 1)
        """
        return min(saves, self.last + (self.best or 0) + (last // self.every if self.every else 0) + 1)


def best_steps(losses: Mapping[int, float | None]) -> list[int]:
    """Train steps that have an eval loss, the lowest first, the earlier of equals first."""
    found = {step: loss for step, loss in losses.items() if loss is not None}
    return sorted(found, key=lambda step: (found[step], step))
