"""Rows of metrics.jsonl -> a curve as the numbers of an SVG drawing; the template draws it.

In: (x, y) points, y None where there is a gap. Out: a :class:`Chart`: the path, the ticks, the dots, in pixels of the drawing.
Long curves keep the lowest and the highest point of each column, so that no spike is lost. Positive values that span a factor
of 50 are drawn on a logarithmic scale.

    >>> chart = draw("loss", [(1, 4.0), (2, None), (3, 2.0)])
    >>> chart.path.count("M"), [label for _, label in chart.y_ticks]
    (2, ['0', '1', '2', '3', '4'])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from engine.canonical import JsonMapping

Point = tuple[float, float | None]
Tick = tuple[float, str]  # pixel, label

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
MOST_COLUMNS = 280  # each with two points: more than the eye can tell apart at this width
LOG_FACTOR = 50.0
BEYOND = 1e300  # no scale is computed of larger numbers
LEAST_SPAN = 1e-250  # nor of smaller differences


@dataclass(frozen=True, slots=True)
class Chart:
    """``dots`` are pixels too; ``caption`` says the curve in words."""

    title: str
    caption: str
    path: str
    dots: Sequence[tuple[float, float]]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    is_log: bool


def points_of(rows: Iterable[JsonMapping], name: str) -> list[Point]:
    """(train step, value) of each row that has the column; None for a value that is not a finite number."""
    return [
        (float(row["train_step"]), float(value) if is_finite(value) else None)
        for row in rows
        if name in row and is_finite(row.get("train_step"))
        for value in (row[name],)
    ]


def is_finite(value: object) -> bool:
    """Whether it is a number that can be drawn: a stranger's integer may have hundreds of digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -BEYOND < value < BEYOND


def draw(title: str, points: Sequence[Point], dots: Sequence[Point] = (), *, may_be_log: bool = False) -> Chart | None:
    """The chart of a curve; None where there is no value to draw. ``dots``: single values on the same scale."""
    values = [y for _, y in (*points, *dots) if y is not None]
    if not values:
        return None
    steps = [x for x, _ in (*points, *dots)]
    is_log = may_be_log and min(values) > 0 and max(values) >= LOG_FACTOR * min(values)
    low, high = (min(values), max(values)) if is_log else (min(0.0, *values), max(0.0, *values))
    first, last = min(steps), max(steps)
    x_of = _scale(first, last, LEFT, WIDTH - RIGHT)
    y_of = _scale(*_ends(low, high, is_log), HEIGHT - BOTTOM, TOP, is_log=is_log)
    return Chart(
        title,
        _caption(points),
        _path(_thinned(points), x_of, y_of),
        [(x_of(x), y_of(y)) for x, y in dots if y is not None],
        [(x_of(x), label) for x, label in _ticks(first, last)],
        [(y_of(y), label) for y, label in (_decades(low, high) if is_log else _ticks(low, high))],
        is_log,
    )


def _ends(low: float, high: float, is_log: bool) -> tuple[float, float]:
    return (low, high) if is_log or high > low else (low, low + 1.0)


def _scale(low: float, high: float, start: float, end: float, *, is_log: bool = False) -> Callable[[float], float]:
    """From values to pixels, with one decimal: the same text on every machine."""
    of = math.log10 if is_log else float
    span = of(high) - of(low)

    def pixel(value: float) -> float:
        share = (of(value) - of(low)) / span if span else 0.0
        return round(start + share * (end - start), 1)

    return pixel


def _path(points: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float]) -> str:
    parts, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x_of(x):g} {y_of(y):g}")
        pen = "L"
    # a lone point would be a path without length, which is not drawn
    return "".join(parts) + ("h0.1" if len(parts) == 1 else "")


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most two points a column: its lowest and its highest, in the order in which they came."""
    if len(points) <= 2 * MOST_COLUMNS:
        return list(points)
    kept: list[Point] = []
    for column in range(MOST_COLUMNS):
        part = points[column * len(points) // MOST_COLUMNS : (column + 1) * len(points) // MOST_COLUMNS]
        known = [(y, index) for index, (_, y) in enumerate(part) if y is not None]
        ends = sorted({min(known)[1], max(known)[1]}) if known else [0]
        kept += [part[index] for index in ends]
    return kept


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers from low to high, about five.

    >>> _ticks(0, 0.004)
    [(0.0, '0'), (0.001, '0.001'), (0.002, '0.002'), (0.003, '0.003'), (0.004, '0.004')]
    """
    if high - low < LEAST_SPAN:
        return [(low, f"{low:.6g}")]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(float(f"{n * step:.15g}"), f"{n * step:.6g}") for n in range(first, last + 1)]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten from low to high, at most seven."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, (last - first) // 6)
    return [(10.0**power, f"{10.0**power:.4g}") for power in range(first, last + 1, every)]


def _caption(points: Sequence[Point]) -> str:
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return ""
    lowest, highest = min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])
    words = [("first", known[0]), ("lowest", lowest), ("highest", highest), ("last", known[-1])]
    gaps = len(points) - len(known)
    text = ", ".join(f"{word} {y:.4g} (step {x:.0f})" for word, (x, y) in words)
    return text + (f"; {gaps} steps without a value" if gaps else "")
