# ruff: noqa: D103 - each function is the family of that name
"""Families of dev-reasoning-v2 over quantities: geometry, units, algebra."""

from __future__ import annotations

from engine.data.builders.problem import NUMBER_ONLY, Problem
from engine.data.dice import Dice

TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (9, 40, 41))
METRIC = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
    ("centimetres", "millimetres", 10),
    ("tonnes", "kilograms", 1000),
)


def rectangle(dice: Dice) -> Problem:
    w, h = dice.between(4, 40), dice.between(4, 40)
    head = f"A rectangle is {w} cm wide and {h} cm high."
    if dice.below(2):
        steps = (("recall", "area = width times height"), ("compute", f"{w} × {h} = {w * h}"))
        return Problem(f"{head} What is its area in square centimetres? {NUMBER_ONLY}", steps, str(w * h))
    steps_around = (
        ("recall", "the perimeter is twice the sum of width and height"),
        ("compute", f"{w} + {h} = {w + h}"),
        ("compute", f"2 × {w + h} = {2 * (w + h)}"),
    )
    return Problem(f"{head} What is its perimeter in centimetres? {NUMBER_ONLY}", steps_around, str(2 * (w + h)))


def corner_cut(dice: Dice) -> Problem:
    w, h = dice.between(10, 30), dice.between(10, 30)
    a, b = dice.between(2, 8), dice.between(2, 8)
    steps = (
        ("understand", "area of the whole sheet minus area of the corner"),
        ("compute", f"{w} × {h} = {w * h}"),
        ("compute", f"{a} × {b} = {a * b}"),
        ("compute", f"{w * h} - {a * b} = {w * h - a * b}"),
    )
    prompt = (
        f"From a sheet of {w} cm by {h} cm a rectangle of {a} cm by {b} cm is cut off at a corner. "
        f"What area is left, in square centimetres? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(w * h - a * b))


def hypotenuse(dice: Dice) -> Problem:
    (a, b, c), scale = dice.pick(TRIPLES), dice.between(1, 9)
    a, b, c = a * scale, b * scale, c * scale
    if dice.below(2):
        a, b = b, a
    steps = (
        ("recall", "the square of the hypotenuse is the sum of the squares of the legs"),
        ("compute", f"{a} × {a} + {b} × {b} = {a * a + b * b}"),
        ("check", f"{c} × {c} = {c * c}"),
        ("conclude", f"the hypotenuse is {c}"),
    )
    prompt = (
        f"The legs of a right triangle are {a} m and {b} m long. How many metres long is the hypotenuse? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(c))


def triangle_angle(dice: Dice) -> Problem:
    a, b = dice.between(20, 85), dice.between(20, 85)
    steps = (
        ("recall", "the angles of a triangle add up to 180 degrees"),
        ("compute", f"{a} + {b} = {a + b}"),
        ("compute", f"180 - {a + b} = {180 - a - b}"),
    )
    prompt = f"Two angles of a triangle measure {a} and {b} degrees. How many degrees has the third? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(180 - a - b))


def box_volume(dice: Dice) -> Problem:
    a, b, c = (dice.between(2, 20) for _ in range(3))
    steps = (("compute", f"{a} × {b} = {a * b}"), ("compute", f"{a * b} × {c} = {a * b * c}"))
    prompt = f"A box measures {a} cm by {b} cm by {c} cm. What is its volume in cubic centimetres? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(a * b * c))


def metric(dice: Dice) -> Problem:
    big, small, factor = dice.pick(METRIC)
    count = dice.between(2, 99)
    if dice.below(2):
        steps = (
            ("recall", f"one of the {big} makes {factor} {small}"),
            ("compute", f"{count} × {factor} = {count * factor}"),
        )
        return Problem(f"How many {small} are {count} {big}? {NUMBER_ONLY}", steps, str(count * factor))
    steps = (
        ("recall", f"{factor} {small} make one of the {big}"),
        ("compute", f"{count * factor} ÷ {factor} = {count}"),
    )
    return Problem(f"How many {big} are {count * factor} {small}? {NUMBER_ONLY}", steps, str(count))


def clock_time(dice: Dice) -> Problem:
    h, m, s = dice.between(1, 9), dice.between(1, 59), dice.between(1, 59)
    steps = (
        ("compute", f"{h} × 60 = {h * 60}"),
        ("compute", f"{h * 60} + {m} = {h * 60 + m}"),
        ("compute", f"{h * 60 + m} × 60 = {(h * 60 + m) * 60}"),
        ("compute", f"{(h * 60 + m) * 60} + {s} = {(h * 60 + m) * 60 + s}"),
    )
    prompt = f"How many seconds are {h} h {m} min {s} s? {NUMBER_ONLY}"
    return Problem(prompt, steps, str((h * 60 + m) * 60 + s))


def speed(dice: Dice) -> Problem:
    metres = dice.between(2, 60)
    kmh = metres * 18 // 5 if metres % 5 == 0 else None
    if kmh is not None and dice.below(2):
        steps = (
            ("compute", f"{kmh} × 1000 = {kmh * 1000}"),
            ("recall", "an hour has 3600 seconds"),
            ("compute", f"{kmh * 1000} ÷ 3600 = {metres}"),
        )
        return Problem(f"Convert {kmh} kilometres per hour to metres per second. {NUMBER_ONLY}", steps, str(metres))
    steps = (
        ("recall", "an hour has 3600 seconds"),
        ("compute", f"{metres * 5} × 3600 = {metres * 5 * 3600}"),
        ("compute", f"{metres * 5 * 3600} ÷ 1000 = {metres * 18}"),
    )
    prompt = f"Convert {metres * 5} metres per second to kilometres per hour. {NUMBER_ONLY}"
    return Problem(prompt, steps, str(metres * 18))


def linear(dice: Dice) -> Problem:
    a, x, b = dice.between(2, 12), dice.between(-15, 25), dice.between(1, 60)
    if dice.below(2):
        c = a * x + b
        moved = f"{c} - {b} = {c - b}"
        equation = f"{a}x + {b} = {c}"
    else:
        c = a * x - b
        moved = f"{c} + {b} = {c + b}"
        equation = f"{a}x - {b} = {c}"
    steps = (
        ("understand", f"bring {b} to the other side"),
        ("compute", moved),
        ("compute", f"{a * x} ÷ {a} = {x}"),
        ("check", f"{a} × ({x}) = {a * x}"),
    )
    return Problem(f"Solve {equation} for x. Give the value of x only.", steps, str(x))


def two_unknowns(dice: Dice) -> Problem:
    x, y = dice.between(10, 60), dice.between(1, 40)
    steps = (
        ("understand", "adding both equations leaves two times x"),
        ("compute", f"{x + y} + ({x - y}) = {2 * x}"),
        ("compute", f"{2 * x} ÷ 2 = {x}"),
        ("check", f"{x + y} - {x} = {y}"),
    )
    prompt = f"x + y = {x + y} and x - y = {x - y}. What is x? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(x))


def consecutive(dice: Dice) -> Problem:
    count, first = dice.pick([3, 5]), dice.between(5, 90)
    numbers = [first + k for k in range(count)]
    total, middle = sum(numbers), numbers[count // 2]
    steps = (
        ("understand", f"the middle one is the sum divided by {count}"),
        ("compute", f"{total} ÷ {count} = {middle}"),
        ("compute", f"{middle} + {count // 2} = {numbers[-1]}"),
    )
    word = {3: "Three", 5: "Five"}[count]
    prompt = f"{word} consecutive whole numbers add up to {total}. Which is the largest of them? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(numbers[-1]))


def substitute(dice: Dice) -> Problem:
    x, b, c = dice.between(2, 15), dice.between(2, 9), dice.between(1, 40)
    value = x * x + b * x - c
    steps = (
        ("compute", f"{x} × {x} = {x * x}"),
        ("compute", f"{b} × {x} = {b * x}"),
        ("compute", f"{x * x} + {b * x} = {x * x + b * x}"),
        ("compute", f"{x * x + b * x} - {c} = {value}"),
    )
    prompt = f"Let x = {x}. What is the value of x² + {b}x - {c}? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(value))
