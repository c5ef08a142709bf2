# ruff: noqa: D103 - each function is the family of that name
"""quickstart-reasoning: short sums written out digit by digit, for a model of 1 M parameters.

Three families; addition is the main one. Every new character depends on a few close before it, and a
carry is always written (even 0), so that all rows of a family have one shape:

    37 + 48 = ?      7+8=15 / 1+3+4=8 / Answer: 85
    52 - 37 = ?      12-7=5 / 5-1-3=1 / Answer: 15
    reverse 472 = ?  2 7 4 / Answer: 274

An eighth of each family's operands is held out: a hash of the operands decides, so the training rows of
no seed can ever contain an item of the eval set, which is drawn from that eighth
(:mod:`engine.data.evalsets.quickstart`). a + b and b + a are on the same side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from engine.canonical import digest_text
from engine.data.builders.problem import Problem, trace_of
from engine.data.dice import Dice
from engine.data.model import Trace

NAME = "quickstart-reasoning"
VERSION = "1.0"
HELD_OUT_IN = 8  # one in eight

Pair = tuple[int, int]


def add(operands: Pair) -> Problem:
    a, b = operands
    ones = a % 10 + b % 10
    carry = ones // 10
    steps = (
        ("compute", f"{a % 10}+{b % 10}={ones}"),
        ("compute", f"{carry}+{a // 10}+{b // 10}={carry + a // 10 + b // 10}"),
    )
    return Problem(f"{a} + {b} = ?", steps, str(a + b))


def subtract(operands: Pair) -> Problem:
    a, b = operands
    borrow = int(a % 10 < b % 10)
    ones = a % 10 + 10 * borrow
    steps = (
        ("compute", f"{ones}-{b % 10}={ones - b % 10}"),
        ("compute", f"{a // 10}-{borrow}-{b // 10}={a // 10 - borrow - b // 10}"),
    )
    return Problem(f"{a} - {b} = ?", steps, str(a - b))


def reverse(operands: Pair) -> Problem:
    """The pair is the number split before its last digit, so that all families take two operands."""
    digits = f"{operands[0]}{operands[1]}"
    backwards = digits[::-1]
    return Problem(f"reverse {digits} = ?", (("compute", " ".join(backwards)),), backwards)


_TWO_DIGITS = range(10, 100)


@dataclass(frozen=True, slots=True)
class QuickFamily:
    """``share`` of the rows; every pair of operands it can ask about; whether their order matters."""

    share: float
    space: tuple[Pair, ...]
    make: Callable[[Pair], Problem]
    commutes: bool
    category: str


FAMILIES: Mapping[str, QuickFamily] = {
    "add": QuickFamily(0.5, tuple(product(_TWO_DIGITS, _TWO_DIGITS)), add, True, "addition"),
    "subtract": QuickFamily(
        0.4, tuple((a, b) for a in _TWO_DIGITS for b in _TWO_DIGITS if b <= a), subtract, False, "subtraction"
    ),
    "reverse": QuickFamily(0.1, tuple(product(_TWO_DIGITS, range(10))), reverse, False, "formatting"),
}


def is_held_out(name: str, operands: Pair) -> bool:
    """Whether these operands belong to the eval side, whatever the seed and the number of rows."""
    a, b = sorted(operands) if FAMILIES[name].commutes else operands
    return int(digest_text(f"{NAME}:{name}:{a}:{b}")[:8], 16) % HELD_OUT_IN == 0


def side(name: str, *, held_out: bool) -> list[Pair]:
    """The operands of one side, in a fixed order."""
    return [pair for pair in FAMILIES[name].space if is_held_out(name, pair) is held_out]


def quotas(num_rows: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Rows per family: its share, at most what it has; the remainder goes to those that have more.

    >>> quotas(1000, {"add": 7000, "subtract": 3500, "reverse": 80})
    {'add': 520, 'subtract': 400, 'reverse': 80}
    """
    counts = {name: min(int(num_rows * family.share), sizes[name]) for name, family in FAMILIES.items()}
    for name in FAMILIES:
        counts[name] += min(num_rows - sum(counts.values()), sizes[name] - counts[name])
    return counts


def make(seed: int, num_rows: int) -> list[Trace]:
    """``num_rows`` different traces, none from the held-out side."""
    dice = Dice(f"{NAME}:{VERSION}:{seed}")
    pools = {name: side(name, held_out=False) for name in FAMILIES}
    counts = quotas(num_rows, {name: len(pool) for name, pool in pools.items()})
    drawn = [(name, pair) for name, pool in pools.items() for pair in dice.sample(pool, counts[name])]
    traces = []
    for index, (name, pair) in enumerate(dice.shuffled(drawn)):
        meta = {
            "dataset": NAME,
            "generator": "engine.data.builders.quickstart",
            "seed": seed,
            "category": "synthetic",
            "task_type": f"quickstart.{name}",
            "index": index,
        }
        traces.append(trace_of(FAMILIES[name].make(pair), id=f"{NAME}-{index:05d}", meta=meta))
    return traces
