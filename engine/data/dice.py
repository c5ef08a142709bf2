"""Random choices that are the same in every Python version and on every machine.

Python guarantees the sequence of ``random.Random.random()`` for future releases, but not that of ``shuffle``,
``sample`` and ``choice``. So the choices here use only the former, and the seed is text (hashed
with SHA-512 by Python, never with the salted ``hash``).

    >>> Dice("demo").below(10) == Dice("demo").below(10)
    True
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A seeded source of choices."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, stop: int) -> int:
        """An integer in 0 … stop-1."""
        return int(self._random.random() * stop)

    def between(self, low: int, high: int) -> int:
        """An integer in low … high, both included."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order (Fisher-Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` different items."""
        return self.shuffled(items)[:count]
