# ruff: noqa: D103 - each function is the family of that name
"""Families of dev-reasoning-v2 in words: word problems, general knowledge with arithmetic, formatting."""

from __future__ import annotations

from engine.data.builders.problem import NUMBER_ONLY, Problem
from engine.data.dice import Dice

PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Edda", "Finn", "Gia", "Hugo", "Iris", "Jon", "Kim", "Lena")
GOODS = ("pencils", "apples", "stamps", "cards", "rolls", "candles", "notebooks", "lemons")
LEGS = (("spiders", 8), ("ants", 6), ("cows", 4), ("hens", 2), ("beetles", 6), ("goats", 4), ("crabs", 10))
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
)
WORDS = (
    "lantern",
    "harbour",
    "violet",
    "copper",
    "meadow",
    "thunder",
    "basket",
    "orchard",
    "pepper",
    "saddle",
    "window",
    "garden",
    "marble",
    "ribbon",
    "feather",
    "candle",
    "turnip",
    "walnut",
    "pigeon",
    "anchor",
)


def shop(dice: Dice) -> Problem:
    n, m = dice.between(2, 9), dice.between(2, 9)
    p, q = dice.between(2, 9), dice.between(2, 9)
    one, two = dice.sample(GOODS, 2)
    cost = n * p + m * q
    note = -(-cost // 50) * 50
    steps = (
        ("compute", f"{n} × {p} = {n * p}"),
        ("compute", f"{m} × {q} = {m * q}"),
        ("compute", f"{n * p} + {m * q} = {cost}"),
        ("compute", f"{note} - {cost} = {note - cost}"),
    )
    prompt = (
        f"{dice.pick(PEOPLE)} buys {n} {one} at {p} coins each and {m} {two} at {q} coins each, and pays "
        f"with {note} coins. How many coins come back? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(note - cost))


def journey(dice: Dice) -> Problem:
    v, t, w, u = dice.between(40, 120), dice.between(2, 5), dice.between(12, 30), dice.between(2, 4)
    steps = (
        ("recall", "distance = speed times time"),
        ("compute", f"{v} × {t} = {v * t}"),
        ("compute", f"{w} × {u} = {w * u}"),
        ("compute", f"{v * t} + {w * u} = {v * t + w * u}"),
    )
    prompt = (
        f"{dice.pick(PEOPLE)} travels {t} hours by train at {v} km/h and then {u} hours by bicycle at {w} "
        f"km/h. How many kilometres is that in all? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(v * t + w * u))


def share(dice: Dice) -> Problem:
    friends, each, kept = dice.between(3, 9), dice.between(4, 15), dice.between(2, 20)
    total = friends * each + kept
    thing = dice.pick(GOODS)
    steps = (
        ("compute", f"{total} - {kept} = {total - kept}"),
        ("compute", f"{total - kept} ÷ {friends} = {each}"),
    )
    prompt = (
        f"{dice.pick(PEOPLE)} has {total} {thing}, keeps {kept} of them and shares the rest equally among "
        f"{friends} friends. How many {thing} does each friend get? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(each))


def savings(dice: Dice) -> Problem:
    start, weekly = dice.between(5, 60), dice.between(6, 25)
    target = start + weekly * dice.between(4, 20) - dice.below(5)
    missing = target - start
    weeks = -(-missing // weekly)
    steps = (
        ("compute", f"{target} - {start} = {missing}"),
        ("compute", f"{weeks - 1} × {weekly} = {(weeks - 1) * weekly}"),
        ("compare", f"{(weeks - 1) * weekly} < {missing}"),
        ("compute", f"{weeks} × {weekly} = {weeks * weekly}"),
        ("conclude", f"that is enough after {weeks} weeks"),
    )
    prompt = (
        f"{dice.pick(PEOPLE)} has {start} coins and saves {weekly} more each week. After how many weeks are "
        f"there at least {target} coins? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(weeks))


def ages(dice: Dice) -> Problem:
    younger, gap, later = dice.between(5, 30), dice.between(2, 15), dice.between(2, 20)
    total = 2 * younger + gap + 2 * later
    one, two = dice.sample(PEOPLE, 2)
    steps = (
        ("compute", f"together they are now {total} - 2 × {later} = {total - 2 * later}"),
        ("compute", f"without the gap: {total - 2 * later} - {gap} = {2 * younger}"),
        ("compute", f"{2 * younger} ÷ 2 = {younger}"),
    )
    prompt = (
        f"{one} is {gap} years older than {two}. In {later} years their ages will add up to {total}. "
        f"How old is {two} now? {NUMBER_ONLY}"
    )
    return Problem(prompt, steps, str(younger))


def legs(dice: Dice) -> Problem:
    (one, a), (two, b) = dice.sample(LEGS, 2)
    n, m = dice.between(2, 15), dice.between(2, 15)
    steps = (
        ("recall", f"each of the {one} has {a} legs, each of the {two} has {b}"),
        ("compute", f"{n} × {a} = {n * a}"),
        ("compute", f"{m} × {b} = {m * b}"),
        ("compute", f"{n * a} + {m * b} = {n * a + m * b}"),
    )
    prompt = f"How many legs do {n} {one} and {m} {two} have together? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(n * a + m * b))


def weekday(dice: Dice) -> Problem:
    today, days = dice.below(7), dice.between(8, 99)
    weeks, rest = divmod(days, 7)
    steps = (
        ("compute", f"{weeks} × 7 = {weeks * 7}"),
        ("compute", f"{days} - {weeks * 7} = {rest}"),
        ("conclude", f"{rest} days after {WEEKDAYS[today]} comes {WEEKDAYS[(today + rest) % 7]}"),
    )
    prompt = (
        f"Today is {WEEKDAYS[today]}. Which day of the week will it be in {days} days? Give the name of the day only."
    )
    return Problem(prompt, steps, WEEKDAYS[(today + days) % 7])


def month_days(dice: Dice) -> Problem:
    chosen = dice.sample(MONTHS, 3)
    (a, x), (b, y), (c, z) = chosen
    steps = (
        ("recall", f"{a} has {x} days, {b} has {y}, {c} has {z}"),
        ("compute", f"{x} + {y} = {x + y}"),
        ("compute", f"{x + y} + {z} = {x + y + z}"),
    )
    prompt = f"How many days do {a}, {b} and {c} have together in a year that is no leap year? {NUMBER_ONLY}"
    return Problem(prompt, steps, str(x + y + z))


def date_iso(dice: Dice) -> Problem:
    (name, days), month_at = dice.pick([(month, at) for at, month in enumerate(MONTHS, start=1)])
    day, year = dice.between(1, days), dice.between(1950, 2049)
    answer = f"{year}-{month_at:02d}-{day:02d}"
    steps = (
        ("recall", f"{name} is month {month_at}"),
        ("conclude", f"year {year}, month {month_at:02d}, day {day:02d}: {answer}"),
    )
    return Problem(f"Write the date {day} {name} {year} in the form YYYY-MM-DD.", steps, answer)


def thousands(dice: Dice) -> Problem:
    number = dice.between(10_000, 9_999_999)
    answer = f"{number:,}"
    groups = answer.split(",")
    steps = (
        ("understand", f"groups of three digits from the right: {' | '.join(groups)}"),
        ("conclude", f"joined by commas: {answer}"),
    )
    return Problem(f"Write {number} with a comma between each group of three digits.", steps, answer)


def zero_pad(dice: Dice) -> Problem:
    number, width = dice.between(1, 9999), dice.between(5, 8)
    zeros = width - len(str(number))
    steps = (
        ("understand", f"{number} has {len(str(number))} digits"),
        ("compute", f"{width} - {len(str(number))} = {zeros}"),
        ("conclude", f"{zeros} zeros in front: {'0' * zeros}{number}"),
    )
    return Problem(f"Write {number} with leading zeros so that it has {width} digits.", steps, f"{'0' * zeros}{number}")


def reverse_word(dice: Dice) -> Problem:
    word = dice.pick(WORDS)
    upper = dice.below(2)
    reverse = word[::-1].upper() if upper else word[::-1]
    steps = (
        ("understand", f"the letters are {' '.join(word)}"),
        ("compute", f"from the last to the first: {' '.join(word[::-1])}"),
        ("conclude", f"written as asked: {reverse}"),
    )
    form = "in capital letters" if upper else "in small letters"
    return Problem(f"Spell the word {word} backwards, {form}, without spaces.", steps, reverse)


def sort_list(dice: Dice) -> Problem:
    numbers = dice.sample(range(2, 99), dice.between(4, 6))
    falling = bool(dice.below(2))
    ordered = sorted(numbers, reverse=falling)
    answer = ",".join(map(str, ordered))
    word = "largest" if falling else "smallest"
    steps = tuple(("compare", f"the {word} of what is left is {number}") for number in ordered)
    order = "largest to smallest" if falling else "smallest to largest"
    listed = ", ".join(map(str, numbers))
    return Problem(f"Sort from {order}: {listed}. Separate the numbers by commas, without spaces.", steps, answer)
