"""Scores of items -> the interval in which the true mean lies with 95 % confidence, and the name of the method.

In: one score from 0 to 1 an item. Out: low, high, and how they were computed. Wilson's interval for scores that are right or
wrong (Wilson 1927): unlike mean ± 1.96 standard errors it stays inside 0 to 1 and has a width where all items agree.

    >>> some = interval([1.0] * 71 + [0.0] * 29)
    >>> f"{some.low:.3f} to {some.high:.3f}, {some.method}"
    '0.615 to 0.790, Wilson'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959963984540054  # of the standard normal distribution: 95 % lie between -Z and Z
WILSON, NORMAL = "Wilson", "normal approximation"


@dataclass(frozen=True, slots=True)
class Interval:
    """``method`` is Wilson, or the normal approximation where a metric gives part of a point."""

    low: float
    high: float
    method: str


def interval(scores: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of at least one score."""
    if all(score in (0.0, 1.0) for score in scores):
        low, high = wilson(sum(score == 1.0 for score in scores), len(scores))
        return Interval(low, high, WILSON)
    n, mean = len(scores), math.fsum(scores) / len(scores)
    variance = math.fsum((score - mean) ** 2 for score in scores) / max(n - 1, 1)
    half = Z * math.sqrt(variance / n)
    return Interval(max(0.0, mean - half), min(1.0, mean + half), NORMAL)


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Wilson's score interval.

    >>> [round(end, 4) for end in wilson(10, 10)]
    [0.7225, 1.0]
    """
    share, square = n_right / n, Z * Z
    centre = share + square / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low, high = (centre - half) / (1 + square / n), (centre + half) / (1 + square / n)
    # the ends are exact where all items agree; rounding would leave 1e-17
    return (0.0 if n_right == 0 else low), (1.0 if n_right == n else high)
