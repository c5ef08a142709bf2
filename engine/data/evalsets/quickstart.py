"""The quickstart eval set: 100 unseen items, drawn from the operands that no training row may use.

Sections: core (nothing to carry), trace_sensitive (a carry, a borrow, a tie, a step of a sequence: what
the reasoning is for), edge_case (the answer has another length than usual). Difficulty counts how many
of these come together.
"""

from __future__ import annotations

from engine.data.builders.quickstart import FAMILIES, Pair, quotas, side
from engine.data.dice import Dice
from engine.data.model import EvalItem

N_ITEMS = 100


def items() -> list[EvalItem]:
    """The 100 items in the order of the file."""
    dice = Dice("quickstart-evalset:1")
    pools = {name: side(name, held_out=True) for name in FAMILIES}
    counts = quotas(N_ITEMS, {name: len(pool) for name, pool in pools.items()})
    drawn = [(name, pair) for name, pool in pools.items() for pair in dice.sample(pool, counts[name])]
    return [_item(at, name, pair) for at, (name, pair) in enumerate(dice.shuffled(drawn), start=1)]


def _item(at: int, name: str, pair: Pair) -> EvalItem:
    family = FAMILIES[name]
    problem = family.make(pair)
    carries, odd_length = _carries(name, pair), len(problem.answer) != 2
    section = "edge_case" if odd_length else "trace_sensitive" if carries else "core"
    difficulty = ("easy", "medium", "hard")[carries + odd_length]
    return EvalItem(f"quick-{at:03d}", problem.prompt, problem.answer, section, family.category, difficulty)


def _carries(name: str, pair: Pair) -> int:
    """1 where the answer cannot be read off digit by digit."""
    a, b = pair
    if name == "add":
        return int(a % 10 + b % 10 > 9)
    if name == "subtract":
        return int(a % 10 < b % 10)
    return int(a // 10 == b // 10) if name == "larger" else 1
