"""Intervals are Wilson's by its definition, and the normal approximation where a metric gives part of a point."""

from __future__ import annotations

import math

import pytest

from engine.evidence.report.intervals import Z, interval, wilson


@pytest.mark.parametrize(("n_right", "n"), [(1, 3), (7, 10), (71, 100), (19_000, 20_000)])
def test_both_ends_solve_wilsons_equation(n_right: int, n: int) -> None:
    """The observed share lies exactly Z standard errors, of the end itself, away from each end."""
    for end in wilson(n_right, n):
        assert abs(n_right / n - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), rel=1e-9)


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (7, 10, 0.3968, 0.8922), (1, 1, 0.2065, 1.0), (0, 1, 0.0, 0.7935)],
)
def test_known_values(n_right: int, n: int, low: float, high: float) -> None:
    """Values from tables; the ends are exact where all items agree."""
    assert wilson(n_right, n) == pytest.approx((low, high), abs=5e-5)


def test_the_method_is_named() -> None:
    """Wilson for right and wrong; for parts of a point mean ± Z standard errors, inside 0 to 1."""
    assert interval([1.0, 0.0]).method == "Wilson"
    parts = interval([0.5, 0.25, 0.75, 0.5])
    half = Z * math.sqrt((2 * 0.25**2 / 3) / 4)
    assert (parts.low, parts.high, parts.method) == pytest.approx((0.5 - half, 0.5 + half, "normal approximation"))
    assert interval([0.9, 1.0, 1.0]).high == 1.0
    assert interval([0.5]).low == 0.5
