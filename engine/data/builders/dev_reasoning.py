"""dev-reasoning-v2: 550 traces with 550 different prompts, of four kinds.

385 reasoning (several steps, 26 families), 110 synthetic (one operation, 13 families), 35 golden-style
and 20 edge cases (fixed tables). ``meta.category`` names the kind, ``meta.task_type`` the topic and the
family, say ``geometry.rectangle``. The families take turns, so that each has its share with every
seed; the seed shuffles the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.data.builders import family_numbers as numbers
from engine.data.builders import family_shapes as shapes
from engine.data.builders import family_words as words
from engine.data.builders.fixed_tables import EDGE, GOLDEN
from engine.data.builders.problem import Family, Problem, trace_of
from engine.data.dice import Dice
from engine.data.model import Trace
from engine.data.text import normalise_prompt
from engine.errors import RunFailed

NAME = "dev-reasoning-v2"
N_REASONING, N_SYNTHETIC = 385, 110
MAX_DRAWS = 1000

REASONING: Mapping[str, Family] = {
    "arithmetic.order_of_operations": numbers.order_of_operations,
    "arithmetic.long_multiplication": numbers.long_multiplication,
    "arithmetic.division_remainder": numbers.division_remainder,
    "arithmetic.sum_of_list": numbers.sum_of_list,
    "geometry.rectangle": shapes.rectangle,
    "geometry.corner_cut": shapes.corner_cut,
    "geometry.hypotenuse": shapes.hypotenuse,
    "geometry.triangle_angle": shapes.triangle_angle,
    "unit_conversion.clock_time": shapes.clock_time,
    "unit_conversion.speed": shapes.speed,
    "general_knowledge.legs": words.legs,
    "general_knowledge.weekday": words.weekday,
    "general_knowledge.month_days": words.month_days,
    "multi_step_word_problem.shop": words.shop,
    "multi_step_word_problem.journey": words.journey,
    "multi_step_word_problem.share": words.share,
    "multi_step_word_problem.savings": words.savings,
    "multi_step_word_problem.ages": words.ages,
    "algebraic_reasoning.linear": shapes.linear,
    "algebraic_reasoning.two_unknowns": shapes.two_unknowns,
    "algebraic_reasoning.consecutive": shapes.consecutive,
    "algebraic_reasoning.substitute": shapes.substitute,
    "sequence_reasoning.nth_term": numbers.nth_term,
    "sequence_reasoning.growing_gaps": numbers.growing_gaps,
    "numeric_precision.percent": numbers.percent,
    "numeric_precision.rounded_quotient": numbers.rounded_quotient,
}

SYNTHETIC: Mapping[str, Family] = {
    "arithmetic.addition": numbers.addition,
    "arithmetic.subtraction": numbers.subtraction,
    "arithmetic.multiplication": numbers.multiplication,
    "geometry.box_volume": shapes.box_volume,
    "unit_conversion.metric": shapes.metric,
    "sequence_reasoning.geometric_next": numbers.geometric_next,
    "formatting.date_iso": words.date_iso,
    "formatting.thousands": words.thousands,
    "formatting.zero_pad": words.zero_pad,
    "formatting.sort_list": words.sort_list,
    "formatting.reverse_word": words.reverse_word,
    "numeric_precision.round_decimal": numbers.round_decimal,
    "numeric_precision.decimal_sum": numbers.decimal_sum,
}


def make(seed: int, num_rows: int) -> list[Trace]:
    """All 550 traces; the seed chooses the numbers and the order. ``num_rows`` is 550, which :func:`engine.data.build` checks."""
    dice = Dice(f"{NAME}:2.0:{seed}")
    seen: set[str] = set()
    drawn = [
        *_draw("reasoning", REASONING, N_REASONING, dice, seen),
        *_draw("synthetic", SYNTHETIC, N_SYNTHETIC, dice, seen),
        *(("golden_style", "general_knowledge.fact", problem) for problem in GOLDEN),
        *(("edge_case", "edge_case.table", problem) for problem in EDGE),
    ]
    traces = []
    for index, (category, task_type, problem) in enumerate(dice.shuffled(drawn)[:num_rows]):
        meta = {
            "dataset": NAME,
            "generator": "engine.data.builders.dev_reasoning",
            "seed": seed,
            "category": category,
            "task_type": task_type,
            "index": index,
        }
        traces.append(trace_of(problem, id=f"{NAME}-{index:04d}", meta=meta))
    return traces


def _draw(
    category: str, families: Mapping[str, Family], count: int, dice: Dice, seen: set[str]
) -> Iterator[tuple[str, str, Problem]]:
    names = list(families)
    for index in range(count):
        name = names[index % len(names)]
        yield category, name, _draw_new(name, families[name], dice, seen)


def _draw_new(name: str, family: Family, dice: Dice, seen: set[str]) -> Problem:
    for _ in range(MAX_DRAWS):
        problem = family(dice)
        key = normalise_prompt(problem.prompt)
        if key not in seen:
            seen.add(key)
            return problem
    raise RunFailed("D312", f"{NAME}: no new prompt of {name} in {MAX_DRAWS} draws", hint="please report it")
