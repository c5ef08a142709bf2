"""A problem of a family of tasks (question, reasoning, answer), and how it becomes a trace.

>>> trace_of(Problem("2 + 2 = ?", (("compute", "2 + 2 = 4"),), "4"), id="t-1", meta={}).final_answer
'4'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.canonical import JsonMapping
from engine.data.dice import Dice
from engine.data.model import Trace, TraceStep

NUMBER_ONLY = "Give the number only."


@dataclass(frozen=True, slots=True)
class Problem:
    """``steps`` are (type, content) pairs; types: understand, recall, compute, compare, check, conclude."""

    prompt: str
    steps: tuple[tuple[str, str], ...]
    answer: str


Family = Callable[[Dice], Problem]


def trace_of(problem: Problem, *, id: str, meta: JsonMapping) -> Trace:
    """The problem as a trace, its steps numbered from 1."""
    steps = tuple(TraceStep(i, kind, text) for i, (kind, text) in enumerate(problem.steps, start=1))
    return Trace(problem.prompt, steps, problem.answer, meta, id)


def decimal(hundredths: int, places: int = 2) -> str:
    """A whole number of 10^-places as a decimal without trailing zeros.

    >>> decimal(1250), decimal(-5, 1), decimal(300)
    ('12.5', '-0.5', '3')
    """
    sign, digits = ("-", str(-hundredths)) if hundredths < 0 else ("", str(hundredths))
    digits = digits.rjust(places + 1, "0")
    whole, part = digits[:-places], digits[-places:].rstrip("0")
    return sign + (f"{whole}.{part}" if part else whole)
