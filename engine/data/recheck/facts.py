"""Facts as a second set of tables, and the edge cases computed.

:func:`fact` reads a general-knowledge question; :func:`edge_case` one of the fixed edge cases.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from statistics import median

from engine.data.recheck.evaluate import integers, numbers

CAPITALS = {
    "Australia": "Canberra", "Austria": "Vienna", "Canada": "Ottawa", "Egypt": "Cairo", "Finland": "Helsinki",
    "Japan": "Tokyo", "Kenya": "Nairobi", "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Thailand": "Bangkok",
}  # fmt: skip
SYMBOLS = {
    "Ag": "silver", "Au": "gold", "Cu": "copper", "Fe": "iron", "He": "helium", "K": "potassium",
    "Na": "sodium", "Pb": "lead",
}  # fmt: skip
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
POLYGONS = ("triangle", "quadrilateral", "pentagon", "hexagon", "heptagon", "octagon", "nonagon", "decagon")
CONTINENTS = {"Africa": ("Sahara", "Nile"), "South America": ("Amazon", "Andes"), "Asia": ("Gobi", "Ganges")}
CUBE = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
# Facts that cannot be derived are stated again, with the words that identify the question.
OTHER_FACTS = (
    (("gas", "plants", "photosynthesis"), "carbon dioxide"),
    (("metal", "liquid", "room temperature"), "mercury"),
    (("ocean", "Africa", "Australia"), "Indian"),
    (("Celsius", "water boil"), "100"),
    (("Celsius", "water freeze"), "0"),
)
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}

Rule = tuple[str, Callable[[re.Match[str]], str]]


def roman(numeral: str) -> int:
    """A Roman numeral's value: a letter before a larger one is taken away.

    >>> roman("MCMXCIX")
    1999
    """
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-v if any(v < w for w in values[index + 1 : index + 2]) else v for index, v in enumerate(values))


def _symbol(match: re.Match[str]) -> str:
    return next(symbol for symbol, name in SYMBOLS.items() if name == match[1])


def _edges(_: re.Match[str]) -> str:
    near = [(a, b) for a in CUBE for b in CUBE if sum(abs(x - y) for x, y in zip(a, b, strict=True)) == 1]
    return str(len(near) // 2)


def _smallest_prime(_: re.Match[str]) -> str:
    return str(next(n for n in range(1, 9) if sum(n % d == 0 for d in range(1, n + 1)) == 2))


_FACT_RULES: Sequence[Rule] = (
    (r"capital (?:city )?of ([A-Z]\w+)\b", lambda m: CAPITALS[m[1]]),
    (r"chemical symbol (?:of|for) (\w+)", _symbol),
    (r"planet is (\w+) from the Sun", lambda m: PLANETS[ORDINALS.index(m[1])]),
    (r"sides does an? (\w+) have", lambda m: str(3 + POLYGONS.index(m[1]))),
    (r"letters has the English alphabet", lambda _: str(len(ALPHABET))),
    (r"squares has a chessboard", lambda _: str(len([(x, y) for x in "abcdefgh" for y in range(8)]))),
    (r"hours has a week", lambda _: str(int(timedelta(weeks=1) / timedelta(hours=1)))),
    (r"minutes has a day", lambda _: str(int(timedelta(days=1) / timedelta(minutes=1)))),
    (r"edges has a cube", _edges),
    (r"vertices has a cube", lambda _: str(len(CUBE))),
    (r"continent lies the (?:river )?(\w+)", lambda m: next(c for c, p in CONTINENTS.items() if m[1] in p)),
    (r"Roman numeral ([IVXLCDM]+)", lambda m: str(roman(m[1]))),
    (r"smallest prime", _smallest_prime),
)


def _first_match(rules: Sequence[Rule], prompt: str) -> str | None:
    for pattern, answer in rules:
        match = re.search(pattern, prompt)
        if match is not None:
            return answer(match)
    return None


def fact(prompt: str) -> str | None:
    """The answer to a general-knowledge question, or None where no table has it."""
    for words, answer in OTHER_FACTS:
        if all(word in prompt for word in words):
            return answer
    return _first_match(_FACT_RULES, prompt)


def _quotient(match: re.Match[str]) -> str:
    a, b = int(match[1]), int(match[2])
    quotients = [q for q in range(-1000, 1001) if q * b == a]
    return str(quotients[0]) if len(quotients) == 1 else "undefined"


def _later(match: re.Match[str]) -> str:
    start = datetime(2024, 1, 1, int(match[2]), int(match[3]), tzinfo=UTC)
    return (start + timedelta(minutes=int(match[1]))).strftime("%H:%M")


def _posts(match: re.Match[str]) -> str:
    length, gap = int(match[1]), int(match[2])
    return str(len(range(0, length + 1, gap)))


def _median(match: re.Match[str]) -> str:
    middle = Fraction(median(numbers(match[1])))
    return str(middle.numerator) if middle.denominator == 1 else str(float(middle))


def _strictly_between(match: re.Match[str]) -> str:
    low, high = int(match[1]), int(match[2])
    return str(len([number for number in range(high) if low < number]))


def _power(match: re.Match[str]) -> str:
    result = 1
    for _ in range(int(match[2])):
        result *= int(match[1])
    return str(result)


_EDGE_RULES: Sequence[Rule] = (
    (r"What is (-?\d+) divided by (-?\d+)\?", _quotient),
    (r"sum of no numbers", lambda _: str(sum([]))),
    (r"the year (\d+) a leap year", lambda m: "yes" if calendar.isleap(int(m[1])) else "no"),
    (r"Which is smaller, (-?\d+) or (-?\d+)", lambda m: str(sorted([int(m[1]), int(m[2])])[0])),
    (r"What is (-\d+) - \((-\d+)\)", lambda m: str(len(range(int(m[2]), int(m[1]))))),
    (r"letter (\w) occur in the word (\w+)", lambda m: str(m[2].count(m[1]))),
    (r"larger, ([\d.]+) or ([\d.]+)", lambda m: max(m[1], m[2].rstrip("."), key=Fraction)),
    (r"(\d+) to the power of (\d+)", _power),
    (r"All but (\d+) run away", lambda m: m[1]),
    (r"strictly between (\d+) and (\d+)", _strictly_between),
    (r"fence of (\d+) m need, with one post every (\d+) m", _posts),
    (r"median of ([\d, ]+)", _median),
    (r"number (0\d+) without leading zeros", lambda m: m[1].lstrip("0")),
    (r"What time is (\d+) minutes after (\d+):(\d+)", _later),
    (r"remainder when (\d+) is divided by (\d+)", lambda m: str(integers(m[1])[0] % integers(m[2])[0])),
    (r"months have at least (\d+) days",
     lambda m: str(sum(calendar.monthrange(2023, month)[1] >= int(m[1]) for month in range(1, 13)))),
)  # fmt: skip


def edge_case(prompt: str) -> str | None:
    """The answer to one of the fixed edge cases, or None for any other wording."""
    return _first_match(_EDGE_RULES, prompt)
