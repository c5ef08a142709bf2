# ruff: noqa: D103 - each function answers the task of that name
"""The second derivation of every task type that a builder makes, one small function each.

Each reads the question's text and returns the answer as text, or None for an unknown
wording. Methods differ from the builders' on purpose: counting instead of multiplying, searching instead
of solving, stepping instead of dividing, the standard calendar instead of a table of months.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import count, pairwise

from engine.data.recheck.evaluate import integers, numbers, value
from engine.data.recheck.facts import edge_case, fact

Task = Callable[[str], str | None]

_LEGS = {"ant": 6, "beetle": 6, "cow": 4, "crab": 10, "goat": 4, "hen": 2, "spider": 8}
_POWERS_OF_TEN = {
    ("kilometres", "metres"): 3, ("metres", "centimetres"): 2, ("centimetres", "millimetres"): 1,
    ("kilograms", "grams"): 3, ("tonnes", "kilograms"): 3, ("litres", "millilitres"): 3,
}  # fmt: skip


def text_of(number: Fraction | int) -> str:
    """A number whose decimals end, without trailing zeros.

    >>> text_of(Fraction(5, 2)), text_of(Fraction(-4))
    ('2.5', '-4')
    """
    exact = Fraction(number)
    plain = format((Decimal(exact.numerator) / Decimal(exact.denominator)).normalize(), "f")
    if Fraction(plain) != exact:
        raise ValueError(f"{exact} has no finite decimal form")
    return plain


def expression(prompt: str) -> str | None:
    """ "Work out …", "What is …": evaluate the expression."""
    match = re.match(r"(?:Work out|What is) ([-\d.\s+×÷()]+?)(?: exactly)?[.?] ", prompt)
    return text_of(value(match[1])) if match else None


def repeated_addition(prompt: str) -> str:
    a, b = integers(prompt)
    return str(sum(a for _ in range(b)))


def remainder(prompt: str) -> str:
    number, divisor = integers(prompt)
    while number >= divisor:
        number -= divisor
    return str(number)


def total(prompt: str) -> str:
    return str(sum(integers(prompt)))


def rectangle(prompt: str) -> str:
    w, h = integers(prompt)
    if "perimeter" in prompt:
        return str(sum([w, h, w, h]))
    return str(sum(1 for _ in range(w) for _ in range(h)))


def corner_cut(prompt: str) -> str:
    w, h, a, b = integers(prompt)
    return str(sum(1 for x in range(w) for y in range(h) if not (x < a and y < b)))


def hypotenuse(prompt: str) -> str:
    a, b = integers(prompt)
    return str(next(c for c in count(max(a, b)) if c**2 >= a**2 + b**2 and c**2 - a**2 == b**2))


def third_angle(prompt: str) -> str:
    a, b = integers(prompt)
    return str(next(c for c in range(1, 180) if a + b + c == 180))


def box_volume(prompt: str) -> str:
    a, b, c = integers(prompt)
    return str(sum(a for _ in range(b) for _ in range(c)))


def metric(prompt: str) -> str | None:
    match = re.match(r"How many (\w+) are (\d+) (\w+)\?", prompt)
    if match is None:
        return None
    asked, amount, given = match[1], Fraction(match[2]), match[3]
    if (given, asked) in _POWERS_OF_TEN:
        return text_of(amount * 10 ** _POWERS_OF_TEN[given, asked])
    return text_of(amount / 10 ** _POWERS_OF_TEN[asked, given])


def clock_time(prompt: str) -> str:
    h, m, s = integers(prompt)
    return str(int(timedelta(hours=h, minutes=m, seconds=s).total_seconds()))


def speed(prompt: str) -> str:
    (amount,) = numbers(prompt)
    factor = Fraction(5, 18) if "to metres per second" in prompt else Fraction(18, 5)
    return text_of(amount * factor)


def legs(prompt: str) -> str | None:
    pairs = re.findall(r"(\d+) (\w+?)s\b", prompt)
    return str(sum(_LEGS[animal] for number, animal in pairs for _ in range(int(number)))) if pairs else None


def weekday(prompt: str) -> str | None:
    match = re.match(r"Today is (\w+)\. .* in (\d+) days", prompt)
    if match is None:
        return None
    # 1 January 2024 was a Monday; any Monday would do.
    day = date(2024, 1, 1) + timedelta(days=list(calendar.day_name).index(match[1]))
    return calendar.day_name[(day + timedelta(days=int(match[2]))).weekday()]


def month_days(prompt: str) -> str:
    months = [month for month in range(1, 13) if re.search(rf"\b{calendar.month_name[month]}\b", prompt)]
    return str(sum(calendar.monthrange(2023, month)[1] for month in months))


def shop(prompt: str) -> str:
    n, p, m, q, paid = integers(prompt)
    basket = [p] * n + [q] * m
    for price in basket:
        paid -= price
    return str(paid)


def journey(prompt: str) -> str:
    t, v, u, w = integers(prompt)
    return str(sum([v] * t) + sum([w] * u))


def share(prompt: str) -> str | None:
    amount, kept, friends = integers(prompt)
    return next((str(each) for each in range(amount + 1) if each * friends + kept == amount), None)


def savings(prompt: str) -> str:
    coins, weekly, target = integers(prompt)
    weeks = 0
    while coins < target:
        coins += weekly
        weeks += 1
    return str(weeks)


def ages(prompt: str) -> str | None:
    gap, later, together = integers(prompt)
    return next((str(y) for y in range(150) if (y + later) + (y + gap + later) == together), None)


def linear(prompt: str) -> str | None:
    match = re.match(r"Solve (\d+)x ([-+]) (\d+) = (-?\d+) for x", prompt)
    if match is None:
        return None
    a, b, c = int(match[1]), int(match[2] + match[3]), int(match[4])
    return next((str(x) for x in range(-500, 501) if a * x + b == c), None)


def two_unknowns(prompt: str) -> str | None:
    s, d = integers(prompt)
    return next((str(x) for x in range(-500, 501) if x - (s - x) == d), None)


def consecutive(prompt: str) -> str | None:
    size = {"Three": 3, "Five": 5}[prompt.split(maxsplit=1)[0]]
    (target,) = integers(prompt)
    return next((str(k + size - 1) for k in range(target) if sum(range(k, k + size)) == target), None)


def substitute(prompt: str) -> str:
    x, b, c = (int(digits) for digits in re.findall(r"\d+", prompt))
    return str(x * (x + b) - c)


def nth_term(prompt: str) -> str:
    *terms, position = integers(prompt)
    term = terms[0]
    for _ in range(position - 1):
        term += terms[-1] - terms[-2]
    return str(term)


def differences(prompt: str) -> str:
    """Newton's table: differences until they are constant, then one more term."""
    rows = [integers(prompt)]
    while len(set(rows[-1])) > 1:
        rows.append([b - a for a, b in pairwise(rows[-1])])
    return str(sum(row[-1] for row in rows))


def geometric(prompt: str) -> str:
    terms = numbers(prompt)
    return text_of(terms[-1] ** 2 / terms[-2])


def rounded(prompt: str) -> str:
    number, places = prompt.split(maxsplit=2)[1], integers(prompt)[-1]
    return str(Decimal(number).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def percent(prompt: str) -> str:
    rate, base = numbers(prompt)
    return text_of(sum([base / 100] * int(rate)))


def rounded_quotient(prompt: str) -> str:
    a, b = integers(prompt)
    return str((Decimal(a) / Decimal(b)).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP))


def date_iso(prompt: str) -> str | None:
    match = re.match(r"Write the date (\d+) (\w+) (\d+) in", prompt)
    if match is None:
        return None
    month = list(calendar.month_name).index(match[2])
    return date(int(match[3]), month, int(match[1])).isoformat()


def thousands(prompt: str) -> str:
    digits = str(integers(prompt)[0])
    return re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", digits)


def zero_pad(prompt: str) -> str:
    number, width = integers(prompt)
    return str(number).zfill(width)


def reverse_word(prompt: str) -> str:
    backwards = "".join(reversed(prompt.split()[3]))
    return backwards.upper() if "capital" in prompt else backwards


def sort_list(prompt: str) -> str:
    left, ordered = integers(prompt), []
    choose = max if "largest to smallest" in prompt else min
    while left:
        ordered.append(choose(left))
        left.remove(ordered[-1])
    return ",".join(map(str, ordered))


def reverse_digits(prompt: str) -> str:
    number, backwards = integers(prompt)[0], ""
    while number:
        number, digit = divmod(number, 10)
        backwards += str(digit)
    return backwards


TASKS: Mapping[str, Task] = {
    "arithmetic.order_of_operations": expression,
    "arithmetic.long_multiplication": repeated_addition,
    "arithmetic.division_remainder": remainder,
    "arithmetic.sum_of_list": total,
    "arithmetic.addition": expression,
    "arithmetic.subtraction": expression,
    "arithmetic.multiplication": repeated_addition,
    "geometry.rectangle": rectangle,
    "geometry.corner_cut": corner_cut,
    "geometry.hypotenuse": hypotenuse,
    "geometry.triangle_angle": third_angle,
    "geometry.box_volume": box_volume,
    "unit_conversion.metric": metric,
    "unit_conversion.clock_time": clock_time,
    "unit_conversion.speed": speed,
    "general_knowledge.legs": legs,
    "general_knowledge.weekday": weekday,
    "general_knowledge.month_days": month_days,
    "general_knowledge.fact": fact,
    "multi_step_word_problem.shop": shop,
    "multi_step_word_problem.journey": journey,
    "multi_step_word_problem.share": share,
    "multi_step_word_problem.savings": savings,
    "multi_step_word_problem.ages": ages,
    "algebraic_reasoning.linear": linear,
    "algebraic_reasoning.two_unknowns": two_unknowns,
    "algebraic_reasoning.consecutive": consecutive,
    "algebraic_reasoning.substitute": substitute,
    "sequence_reasoning.nth_term": nth_term,
    "sequence_reasoning.growing_gaps": differences,
    "sequence_reasoning.geometric_next": geometric,
    "formatting.date_iso": date_iso,
    "formatting.thousands": thousands,
    "formatting.zero_pad": zero_pad,
    "formatting.reverse_word": reverse_word,
    "formatting.sort_list": sort_list,
    "numeric_precision.round_decimal": rounded,
    "numeric_precision.percent": percent,
    "numeric_precision.rounded_quotient": rounded_quotient,
    "numeric_precision.decimal_sum": expression,
    "edge_case.table": edge_case,
    "quickstart.add": lambda prompt: str(sum(integers(prompt))),
    "quickstart.subtract": lambda prompt: str(-sum(integers(prompt)[1:]) + integers(prompt)[0]),
    "quickstart.reverse": reverse_digits,
}
