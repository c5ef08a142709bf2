# ruff: noqa: D103 - each function is the family of that name
"""Families of dev-reasoning-v2 over numbers: arithmetic, sequences, numeric precision.

Each function draws one problem. Steps are equations of plain numbers wherever they compute, because the
recheck evaluates every equation it finds in them.
"""

from __future__ import annotations

from itertools import pairwise

from engine.data.builders.problem import NUMBER_ONLY, Problem, decimal
from engine.data.dice import Dice


def addition(dice: Dice) -> Problem:
    a, b = dice.between(100, 999), dice.between(100, 999)
    return Problem(f"What is {a} + {b}? {NUMBER_ONLY}", (("compute", f"{a} + {b} = {a + b}"),), str(a + b))


def subtraction(dice: Dice) -> Problem:
    a, b = dice.between(100, 999), dice.between(100, 999)
    return Problem(f"What is {a} - {b}? {NUMBER_ONLY}", (("compute", f"{a} - {b} = {a - b}"),), str(a - b))


def multiplication(dice: Dice) -> Problem:
    a, b = dice.between(12, 99), dice.between(3, 9)
    tens, ones = a // 10 * 10, a % 10
    steps = (
        ("compute", f"{tens} × {b} = {tens * b}"),
        ("compute", f"{ones} × {b} = {ones * b}"),
        ("compute", f"{tens * b} + {ones * b} = {a * b}"),
    )
    return Problem(f"What is {a} × {b}? {NUMBER_ONLY}", steps, str(a * b))


def order_of_operations(dice: Dice) -> Problem:
    a, b, c, d = (dice.between(2, low) for low in (60, 30, 12, 50))
    if dice.below(2):
        steps = (
            ("understand", "multiplication comes before addition and subtraction"),
            ("compute", f"{b} × {c} = {b * c}"),
            ("compute", f"{a} + {b * c} = {a + b * c}"),
            ("compute", f"{a + b * c} - {d} = {a + b * c - d}"),
        )
        return Problem(f"Work out {a} + {b} × {c} - {d}. {NUMBER_ONLY}", steps, str(a + b * c - d))
    result = (a + b) * c - d
    steps = (
        ("understand", "the bracket comes first, then the multiplication"),
        ("compute", f"{a} + {b} = {a + b}"),
        ("compute", f"{a + b} × {c} = {(a + b) * c}"),
        ("compute", f"{(a + b) * c} - {d} = {result}"),
    )
    return Problem(f"Work out ({a} + {b}) × {c} - {d}. {NUMBER_ONLY}", steps, str(result))


def long_multiplication(dice: Dice) -> Problem:
    a, tens, ones = dice.between(12, 98), dice.between(1, 4) * 10, dice.between(1, 9)
    b = tens + ones
    steps = (
        ("understand", f"split {b} into tens and ones: {tens} + {ones} = {b}"),
        ("compute", f"{a} × {tens} = {a * tens}"),
        ("compute", f"{a} × {ones} = {a * ones}"),
        ("compute", f"{a * tens} + {a * ones} = {a * b}"),
    )
    return Problem(f"Multiply {a} by {b}. {NUMBER_ONLY}", steps, str(a * b))


def division_remainder(dice: Dice) -> Problem:
    divisor = dice.between(6, 19)
    number = divisor * dice.between(11, 40) + dice.below(divisor)
    times, left = divmod(number, divisor)
    steps = (
        ("understand", f"find the largest multiple of {divisor} that is not above {number}"),
        ("compute", f"{divisor} × {times} = {divisor * times}"),
        ("compute", f"{number} - {divisor * times} = {left}"),
        ("compare", f"{left} < {divisor}"),
    )
    prompt = f"What is the remainder when {number} is divided by {divisor}? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(left))


def sum_of_list(dice: Dice) -> Problem:
    numbers = [dice.between(11, 99) for _ in range(dice.between(4, 5))]
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(("compute", f"{total} + {number} = {total + number}"))
        total += number
    listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    return Problem(f"Add the numbers {listed}. {NUMBER_ONLY}", tuple(steps), str(total))


def nth_term(dice: Dice) -> Problem:
    first, gap, n = dice.between(2, 40), dice.between(3, 15), dice.between(12, 40)
    shown = ", ".join(str(first + gap * k) for k in range(4))
    steps = (
        ("compute", f"{first + gap} - {first} = {gap}"),
        ("understand", f"term {n} is the first one plus {n - 1} gaps of {gap}"),
        ("compute", f"{n - 1} × {gap} = {(n - 1) * gap}"),
        ("compute", f"{first} + {(n - 1) * gap} = {first + (n - 1) * gap}"),
    )
    prompt = f"A sequence goes up by the same amount each time: {shown}, … What is term number {n}? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(first + (n - 1) * gap))


def growing_gaps(dice: Dice) -> Problem:
    first, gap, growth = dice.between(1, 30), dice.between(2, 9), dice.between(1, 6)
    terms = [first]
    for k in range(5):
        terms.append(terms[-1] + gap + k * growth)
    gaps = [later - earlier for earlier, later in pairwise(terms)]
    steps = (
        ("compute", f"{terms[1]} - {terms[0]} = {gaps[0]}, {terms[2]} - {terms[1]} = {gaps[1]}"),
        ("compute", f"the gaps grow by {gaps[1]} - {gaps[0]} = {growth}"),
        ("compute", f"the next gap is {gaps[3]} + {growth} = {gaps[4]}"),
        ("compute", f"{terms[4]} + {gaps[4]} = {terms[5]}"),
    )
    shown = ", ".join(map(str, terms[:5]))
    prompt = f"The gaps between these numbers grow steadily: {shown}, … Which number comes next? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(terms[5]))


def geometric_next(dice: Dice) -> Problem:
    first, ratio = dice.between(2, 12), dice.between(2, 5)
    terms = [first * ratio**k for k in range(5)]
    steps = (
        ("compute", f"{terms[1]} ÷ {terms[0]} = {ratio}"),
        ("compute", f"{terms[3]} × {ratio} = {terms[4]}"),
    )
    shown = ", ".join(map(str, terms[:4]))
    prompt = f"Each number is the one before times a fixed factor: {shown}, … Which comes next? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(terms[4]))


def round_decimal(dice: Dice) -> Problem:
    places = dice.between(1, 3)
    # The digit after the cut is never 5 followed by nothing: no tie, so every rounding rule agrees.
    kept, cut = dice.between(100, 99999), dice.pick([1, 2, 3, 4, 6, 7, 8, 9])
    number = f"{kept // 10**places}.{kept % 10**places:0{places}d}{cut}"
    rounded = kept + (cut > 5)
    answer = f"{rounded // 10**places}.{rounded % 10**places:0{places}d}"
    word = "up" if cut > 5 else "down"
    steps = (
        ("understand", f"the first digit that is cut off is {cut}"),
        ("compare", f"{cut} > 5" if cut > 5 else f"{cut} < 5"),
        ("conclude", f"round {word} to {answer}"),
    )
    if places == 1:
        prompt = f"Round {number} to 1 decimal place. Give the number with 1 decimal place."
    else:
        prompt = f"Round {number} to {places} decimal places. Give all {places} decimal places."
    return Problem(prompt, steps, answer)


def percent(dice: Dice) -> Problem:
    rate, base = dice.between(1, 19) * 5, dice.between(3, 60) * 20
    shown = decimal(rate * base)
    steps = (
        ("understand", f"{rate} % means {rate} of every 100"),
        ("compute", f"{rate} × {base} = {rate * base}"),
        ("compute", f"{rate * base} ÷ 100 = {shown}"),
    )
    prompt = f"How much is {rate} % of {base}? Give the exact number only, without trailing zeros."
    return Problem(prompt, steps, shown)


def rounded_quotient(dice: Dice) -> Problem:
    divisor = dice.pick([3, 6, 7, 9, 11, 13])
    number = divisor * dice.between(2, 30) + dice.between(1, divisor - 1)
    # A tie would need 2 × rest = divisor: all divisors are odd but 6, whose rest is then 0, 2 or 4.
    hundredths, rest = divmod(number * 100, divisor)
    rounded = hundredths + (2 * rest > divisor)
    answer = f"{rounded // 100}.{rounded % 100:02d}"
    long_form = f"{number * 10000 // divisor / 10000:.4f}"
    steps = (
        ("compute", f"{number} divided by {divisor} begins with {long_form}"),
        ("understand", "two decimal places are asked for"),
        ("conclude", f"rounded to hundredths this is {answer}"),
    )
    prompt = f"Divide {number} by {divisor} and round to two decimal places. Give both decimal places."
    return Problem(prompt, steps, answer)


def decimal_sum(dice: Dice) -> Problem:
    a, b, c = dice.between(11, 999), dice.between(101, 2999), dice.between(11, 999)
    x, y, z = decimal(a * 10), decimal(b), decimal(c)
    part, total = a * 10 + b, a * 10 + b - c
    steps = (
        ("compute", f"{x} + {y} = {decimal(part)}"),
        ("compute", f"{decimal(part)} - {z} = {decimal(total)}"),
    )
    prompt = f"Work out {x} + {y} - {z} exactly. Give the number only, without trailing zeros."
    return Problem(prompt, steps, decimal(total))
