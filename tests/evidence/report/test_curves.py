"""Curves keep spikes and gaps, and no number of a stranger can break them."""

from __future__ import annotations

import math
import re

import pytest

from engine.evidence.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Point, draw, points_of


def drawn(points: list[Point], **options: bool) -> Chart:
    chart = draw("loss", points, **options)
    assert chart is not None
    return chart


def corners(chart: Chart) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+?) (-?[\d.e+-]+)", chart.path)]


def test_the_ends_of_the_values_are_the_ends_of_the_drawing() -> None:
    """A linear scale from 0: the first point left, the last one right, the highest at the top."""
    assert corners(drawn([(1, 0.0), (2, 4.0), (3, 2.0)])) == [
        (LEFT, HEIGHT - BOTTOM),
        ((LEFT + WIDTH - RIGHT) / 2, TOP),
        (WIDTH - RIGHT, (HEIGHT - BOTTOM + TOP) / 2),
    ]


def test_a_factor_of_fifty_is_drawn_logarithmically() -> None:
    """Each factor of ten has the same height, and the ticks are powers of ten."""
    chart = drawn([(1, 10.0), (2, 1.0), (3, 0.1)], may_be_log=True)
    heights = [y for _, y in corners(chart)]
    assert chart.is_log
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.1)
    assert [label for _, label in chart.y_ticks] == ["0.1", "1", "10"]
    assert not drawn([(1, 4.0), (2, 1.0)], may_be_log=True).is_log


def test_one_spike_among_many_steps_is_kept() -> None:
    """20,000 train steps become a short path in which the one high value is still the highest."""
    points: list[Point] = [(n, 9.0 if n == 13_337 else 1.0) for n in range(1, 20_001)]
    chart = drawn(points)
    assert min(y for _, y in corners(chart)) == TOP
    assert len(chart.path) < 10_000
    assert "highest 9 (step 13337)" in chart.caption


def test_a_step_without_a_value_is_a_gap() -> None:
    """Null, NaN and integers of 400 digits are not joined over, and are counted in the caption."""
    rows = [{"train_step": n, "loss": loss} for n, loss in enumerate([1.0, None, math.nan, 10**400, True, "x", 2.0])]
    points = points_of(rows, "loss")
    assert [y for _, y in points] == [1.0, None, None, None, None, None, 2.0]
    chart = drawn(points)
    assert chart.path.count("M") == 2
    assert chart.caption.endswith("5 steps without a value")


@pytest.mark.parametrize(
    "values",
    [[5e-324, 1e299], [-1e299, 1e299], [0.0], [3.0, 3.0], [1e-320, 2e-320], [1e9, 1e9 + 4], [-5.0, -4.0]],
)
def test_any_finite_numbers_can_be_drawn(values: list[float]) -> None:
    """Every coordinate is inside the drawing, and there is at least one tick."""
    for may_be_log in (False, True):
        chart = drawn([(n, value) for n, value in enumerate(values)], may_be_log=may_be_log)
        ends = [*corners(chart), *((LEFT, y) for y, _ in chart.y_ticks)]
        assert all(LEFT <= x <= WIDTH and TOP <= y <= HEIGHT - BOTTOM for x, y in ends)
        assert chart.y_ticks


def test_nothing_to_draw_is_no_chart() -> None:
    """Neither an empty column nor one of nulls."""
    assert draw("loss", []) is None
    assert draw("loss", [(1, None)]) is None
