"""The quickstart eval set: 100 unseen items, drawn from the operands that no training row may use.

Sections: core (nothing to carry), trace_sensitive (a carry or a borrow: what the reasoning is for),
edge_case (the answer has another length than usual, or begins or ends with 0). Difficulty counts how
many of these come together.
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
    carries, odd = _carries(name, pair), _is_odd(name, problem.answer)
    section = "edge_case" if odd else "trace_sensitive" if carries else "core"
    difficulty = ("easy", "medium", "hard")[carries + odd]
    return EvalItem(f"quick-{at:03d}", problem.prompt, problem.answer, section, family.category, difficulty)


def _carries(name: str, pair: Pair) -> int:
    """1 where the answer cannot be read off digit by digit."""
    a, b = pair
    if name == "add":
        return int(a % 10 + b % 10 > 9)
    return int(name == "subtract" and a % 10 < b % 10)


def _is_odd(name: str, answer: str) -> bool:
    """Whether the answer has an unusual form."""
    return answer[0] == "0" if name == "reverse" else len(answer) != 2 or answer[-1] == "0"
