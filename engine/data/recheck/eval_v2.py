# ruff: noqa: ARG005 - every method takes the numbers and the question
"""The second derivation of eval_v2: every answer from the text of its question, by search or by counting.

One function per question, in the order of the table; each gets the numbers of the question and the
question itself. The first derivation is the answer in :mod:`engine.data.evalsets.eval_v2`.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import count, pairwise, product

from engine.data.recheck.evaluate import numbers, value
from engine.data.recheck.facts import fact
from engine.data.recheck.tasks import differences, text_of

Number = Fraction | int
Method = Callable[[list[Fraction], str], Number | str | None]


def _search(holds: Callable[[int], bool], start: int = -2000, stop: int = 2000) -> int:
    """The only whole number of a range that satisfies the condition."""
    (solution,) = [candidate for candidate in range(start, stop) if holds(candidate)]
    return solution


def _expression(_: list[Fraction], prompt: str) -> Fraction:
    match = re.match(r"(?:Compute|What is) ([-\d.\s+×÷()]+?)(?: exactly)?[.?] ", prompt)
    assert match is not None, prompt
    return value(match[1])


def _fact(_: list[Fraction], prompt: str) -> str | None:
    return fact(prompt)


def _differences(n: list[Fraction], _: str) -> str:
    return differences(", ".join(map(str, n)))


def _rounded(number: Fraction, places: int) -> str:
    exact = Decimal(number.numerator) / Decimal(number.denominator)
    return str(exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def _polygon_angles(_: list[Fraction], prompt: str) -> int:
    sides = {"octagon": 8}[prompt.split()[7]]
    return sum(180 for _ in range(1, sides - 1))  # a fan of triangles from one corner


def _ring(n: list[Fraction], _: str) -> int:
    w, h, d = (int(number) for number in n)
    cells = product(range(-d, w + d), range(-d, h + d))
    return sum(1 for x, y in cells if not (0 <= x < w and 0 <= y < h))


def _trapezium(n: list[Fraction], _: str) -> Fraction:
    """In strips of 1 m, each as long as the trapezium is at its middle."""
    short, long, height = n
    strips = [short + (long - short) * (k + Fraction(1, 2)) / height for k in range(int(height))]
    return sum(strips, Fraction(0))


def _clock(seconds: Fraction) -> str:
    return str(timedelta(seconds=int(seconds)))


def _hours_and_minutes(n: list[Fraction], _: str) -> str:
    minutes = int(n[0])
    hours = len(range(60, minutes + 1, 60))
    return f"{hours} h {minutes - 60 * hours} min"


def _bus(n: list[Fraction], _: str) -> Fraction:
    return n[0] - n[1] + n[2] - n[3] + n[4]


def _meet(n: list[Fraction], _: str) -> int:
    apart, one, two = n
    return next(hours for hours in count() if one * hours >= apart - two * hours)


def _tank(n: list[Fraction], _: str) -> int:
    full, level, gain, loss = n
    minutes = 0
    while level < full:
        level += gain - loss
        minutes += 1
    return minutes


def _snail(n: list[Fraction], _: str) -> int:
    depth, up, down = n
    height = Fraction(0)
    for day in count(1):
        height += up
        if height >= depth:
            return day
        height -= down
    raise AssertionError


def _alternate(n: list[Fraction], _: str) -> Fraction:
    plus, times, *terms = n
    for index, (a, b) in enumerate(pairwise(terms)):
        assert b == (a * times if index % 2 else a + plus)
    return terms[-1] * times if (len(terms) - 1) % 2 else terms[-1] + plus


def _next_prime(n: list[Fraction], _: str) -> int:
    return next(p for p in count(int(n[-1]) + 1) if all(p % d for d in range(2, p)))


def _group(n: list[Fraction], _: str) -> str:
    return f"{int(n[0]):,}".replace(",", " ")


def _digits(number: int, base: int) -> str:
    """By repeated division; the table was written by digit values."""
    out = ""
    while number:
        number, digit = divmod(number, base)
        out = "0123456789ABCDEF"[digit] + out
    return out


def _scientific(_: list[Fraction], prompt: str) -> str:
    mantissa, exponent = f"{float(prompt.split()[1]):e}".split("e")
    return f"{mantissa.rstrip('0')}e{int(exponent)}"


def _later(_: list[Fraction], prompt: str) -> str:
    match = re.search(r"(\d+):(\d+)\. .* (\d+) minutes", prompt)
    assert match is not None, prompt
    start = datetime(2024, 1, 1, int(match[1]), int(match[2]), tzinfo=UTC)
    return (start + timedelta(minutes=int(match[3]))).strftime("%H:%M")


def _sorted_words(_: list[Fraction], prompt: str) -> str:
    words = re.findall(r"\w+", prompt[prompt.index(":") : prompt.index(". ")])
    return ",".join(sorted(words))


METHODS: Mapping[str, tuple[Method, ...]] = {
    "arithmetic": (
        _expression,
        _expression,
        lambda n, _: sum([n[1]] * int(n[0])),
        lambda n, _: len(range(int(n[0]), int(n[1]) + 1, int(n[0]))),
        lambda n, _: sum(range(int(n[0]), int(n[1]) + 1)),
        _expression,
        lambda n, _: math.prod([n[0]] * int(n[1])),
        lambda n, _: max(d for d in range(1, 253) if n[0] % d == 0 and n[1] % d == 0),
        lambda n, _: next(m for m in count(1) if m % n[0] == 0 and m % n[1] == 0),
        _expression,
    ),
    "geometry": (
        lambda n, _: sum([n[0]] * 4),
        lambda n, _: len(list(product(range(int(n[0])), range(int(n[1]))))),
        lambda n, _: value(f"{n[0]} × {n[1]} ÷ 2"),
        lambda n, _: _search(lambda angle: 3 * angle == 180),
        lambda n, _: sum([n[0] ** 2] * 6),
        _polygon_angles,
        _trapezium,
        lambda n, _: _search(lambda w: w * n[1] == n[0]),
        lambda n, _: _search(lambda up: up**2 + n[1] ** 2 == n[0] ** 2, start=0),
        _ring,
    ),
    "unit_conversion": (
        lambda n, _: n[0] * 10**3,
        _hours_and_minutes,
        lambda n, _: n[0] * 10**3,
        lambda n, _: int(timedelta(minutes=int(n[0])).total_seconds()),
        lambda n, _: n[0] * 10**2 * 10**2,
        lambda n, _: n[0] / Fraction(1, 10) ** 3,  # a litre is a cube of 10 cm
        lambda n, _: _search(lambda f: (f - 32) * 5 == n[0] * 9),
        lambda n, _: _clock(n[0]),
        lambda n, _: Fraction(sum([n[0]] * int(3600 / n[1])), 1000),
        lambda n, _: n[1] * n[0] / 10**3,
    ),
    "general_knowledge": (
        _fact,
        lambda n, _: sum(calendar.monthrange(2024, month)[1] for month in range(1, 13)),
        *([_fact] * 8),
    ),
    "multi_step_word_problem": (
        lambda n, _: sum([n[1]] * int(n[0])) - n[2],
        lambda n, _: n[0] - sum([n[1]] * int(n[2])),
        _bus,
        lambda n, _: 2 * _search(lambda part: part + part + 2 * part == n[0]),
        lambda n, _: n[1] * _search(lambda short: short + n[1] * short == n[0]),
        lambda n, _: sum([n[0]] * int(n[1] + n[2])) - n[3],
        lambda n, _: n[0] * (1 + n[1] / 100) * (1 - n[2] / 100),
        _meet,
        lambda n, _: _search(lambda days: days * n[2] == n[0] * n[1]),
        _tank,
    ),
    "algebraic_reasoning": (
        lambda n, _: _search(lambda y: y + n[0] == n[1]),
        lambda n, _: _search(lambda k: 7 * k == n[-1]),
        lambda n, _: 3 * n[0] - 2 * n[1],
        lambda n, _: _search(lambda x: 5 * (x - 3) == 2 * x + 12),
        lambda n, _: _search(lambda x: x + x + n[0] == n[1]),
        lambda n, _: _search(lambda x: x + (x + n[1]) == n[0]),
        lambda n, _: _search(lambda x: x * x == n[0] and x < 0),
        lambda n, _: max(x for x in range(100) if x * x - 11 * x + 24 == 0),
        lambda n, _: _search(lambda y: any(2 * x + 3 * y == 31 and x - y == 3 for x in range(100))),
        lambda n, _: _search(lambda k: k > 0 and k * (k + 1) == n[0]),
    ),
    "sequence_reasoning": (
        _differences,
        lambda n, _: n[-1] ** 2 / n[-2],
        _differences,
        _differences,
        lambda n, _: sum(n[-2:]),
        _differences,
        _alternate,
        lambda n, _: range(int(n[0]), 10**4, int(n[1] - n[0]))[int(n[-1]) - 1],
        _next_prime,
        lambda n, _: len(range(int(n[0]), int(n[-1]) + 1, int(n[1] - n[0]))),
    ),
    "formatting": (
        lambda n, _: date(int(n[0]), int(n[1]), 1).strftime("%Y/%m"),
        lambda _, q: q.split()[3].upper(),
        lambda _, q: "-".join(re.findall(r"red|green|blue", q)),
        lambda n, _: time(int(n[0]), int(n[1]), int(n[2])).isoformat(),
        _group,
        _sorted_words,
        lambda n, q: str(Fraction(q.split()[3])),
        _scientific,
        lambda n, _: _digits(int(n[0]), 2),
        lambda n, _: _digits(int(n[0]), 16),
    ),
    "numeric_precision": (
        lambda n, _: _rounded(n[0], 1),
        _expression,
        _expression,
        lambda n, q: text_of(Fraction(q.split()[1])),
        lambda n, _: min(range(0, 200_000, 1000), key=lambda m: abs(m - n[0])),
        _expression,
        lambda n, _: sum([n[0] / 100] * int(n[1])),
        lambda n, _: _rounded(n[0] / n[1], 4),
        lambda n, _: str(Decimal(math.isqrt(int(n[0]) * 10**8)).scaleb(-4).quantize(Decimal("0.001"))),
        lambda n, _: _rounded(n[0], 2),
    ),
    "edge_case": (
        lambda n, _: sum([n[0]] * int(n[1])),
        lambda n, _: sorted(n)[-1],
        lambda n, _: "yes" if calendar.isleap(int(n[0])) else "no",
        lambda _, q: sum(1 for letter in q.split()[-5].strip("?") if letter == "r"),
        lambda n, _: text_of(max(n)),
        _later,
        _expression,
        lambda n, _: n[4] / (n[3] * n[1] / (n[0] * n[2])),
        lambda n, _: _search(lambda ball: ball + (ball + n[1]) == n[0]),
        _snail,
    ),
}


def derive_item(category: str, index: int, prompt: str) -> str:
    """The answer to question ``index`` (from 0) of a category, as text."""
    answer = METHODS[category][index](numbers(prompt), prompt)
    return answer if isinstance(answer, str) else text_of(answer if answer is not None else Fraction(0))
