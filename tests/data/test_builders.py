"""The builders: composition, different prompts, answers derived twice, nothing from the eval sets."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from engine.assets import asset
from engine.data import (
    BUILDERS,
    build,
    find_overlaps,
    normalise_prompt,
    read_eval_set,
    render_rows,
    trace_rows,
)
from engine.data.builders import dev_reasoning, quickstart, verify
from engine.data.recheck import recheck_trace
from engine.data.recheck.evaluate import false_statement
from engine.data.recheck.tasks import TASKS
from engine.errors import InputInvalid, RunFailed

SEEDS = [0, 1, 42, 20260101]
EVAL_SETS = ["eval_v2.jsonl", "quickstart.jsonl"]
TOPICS = {
    "arithmetic", "geometry", "unit_conversion", "general_knowledge", "multi_step_word_problem",
    "algebraic_reasoning", "sequence_reasoning", "formatting", "numeric_precision", "edge_case",
}  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_dev_reasoning_v2_has_the_composition_and_550_different_prompts(seed):
    traces = build("dev-reasoning-v2", seed=seed)
    composition = Counter(trace.meta["category"] for trace in traces)
    assert composition == {"reasoning": 385, "synthetic": 110, "golden_style": 35, "edge_case": 20}
    assert len({normalise_prompt(trace.prompt) for trace in traces}) == len(traces) == 550
    assert len({trace.id for trace in traces}) == 550
    assert {trace.meta["task_type"].split(".")[0] for trace in traces} == TOPICS


@pytest.mark.parametrize("name", sorted(BUILDERS))
@pytest.mark.parametrize("eval_set", EVAL_SETS)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_training_row_asks_what_an_eval_set_asks(name, eval_set, seed):
    items = read_eval_set(asset("evalsets", eval_set))
    assert find_overlaps(trace_rows(build(name, seed=seed)), items) == []


def test_the_largest_quickstart_build_has_no_eval_item_either():
    rows = trace_rows(build("quickstart-reasoning", seed=7, num_rows=BUILDERS["quickstart-reasoning"].max_rows))
    assert find_overlaps(rows, read_eval_set(asset("evalsets", "quickstart.jsonl"))) == []


def test_operands_are_held_out_by_construction_and_in_both_orders():
    for name, family in quickstart.FAMILIES.items():
        held = set(quickstart.side(name, held_out=True))
        assert 0.08 < len(held) / len(family.space) < 0.17
        assert held.isdisjoint(quickstart.side(name, held_out=False))
        if family.commutes:
            assert all((b, a) in held for a, b in held)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_seed_decides_and_nothing_else(name):
    assert build(name, seed=42) == build(name, seed=42)
    assert build(name, seed=42) != build(name, seed=43)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_wrong_answer_anywhere_fails_the_build(name):
    """Every trace of the build is corrupted in turn: the second derivation finds each one."""
    for trace in build(name, seed=42)[:550]:
        spoilt = dataclasses.replace(trace, final_answer=trace.final_answer + "1")
        assert recheck_trace(spoilt) is not None, trace.prompt


def test_a_wrong_equation_in_a_step_fails_the_build():
    trace = build("quickstart-reasoning", seed=42, num_rows=1)[0]
    step = dataclasses.replace(trace.steps[0], content="2+2=5")
    spoilt = dataclasses.replace(trace, steps=(step,))
    with pytest.raises(RunFailed) as caught:
        verify("quickstart-reasoning", [spoilt], 1)
    assert caught.value.code == "D310"
    assert "step 1 states 2+2=5" in str(caught.value)


def test_a_builder_that_repeats_itself_is_caught():
    trace = build("quickstart-reasoning", seed=42, num_rows=1)[0]
    with pytest.raises(RunFailed) as caught:
        verify("quickstart-reasoning", [trace, trace], 2)
    assert caught.value.code == "D311"


def test_most_steps_that_compute_are_statements_the_recheck_can_read():
    """The check of equations would prove nothing if it evaluated none."""
    steps = [step for trace in build("dev-reasoning-v2", seed=42) for step in trace.steps]
    stated = [step for step in steps if "=" in step.content]
    broken = [false_statement(step.content.replace("= ", "= 9", 1)) for step in stated]
    assert len(stated) > 900
    assert sum(wrong is not None for wrong in broken) > 0.9 * len(stated)


def test_every_family_has_a_second_derivation_and_every_derivation_a_family():
    families = {
        *dev_reasoning.REASONING,
        *dev_reasoning.SYNTHETIC,
        "general_knowledge.fact",
        "edge_case.table",
    }
    families |= {f"quickstart.{name}" for name in quickstart.FAMILIES}
    assert families == set(TASKS)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_completion_ends_with_its_answer(name):
    rows = trace_rows(build(name, seed=42))
    for row, rendered in zip(rows, render_rows(rows, "trace")[1], strict=True):
        assert rendered.segments[-1].train
        assert rendered.segments[-1].text.endswith(f"\nAnswer: {row.body.final_answer}")


def test_quickstart_rows_are_short():
    _, rendered = render_rows(trace_rows(build("quickstart-reasoning", seed=42)), "trace")
    assert max(len(row.text) for row in rendered) <= 90


@pytest.mark.parametrize("num_rows", [1, 3, 4500, BUILDERS["quickstart-reasoning"].max_rows])
def test_quickstart_makes_as_many_rows_as_asked(num_rows):
    assert len(build("quickstart-reasoning", seed=1, num_rows=num_rows)) == num_rows


@pytest.mark.parametrize(
    ("name", "num_rows", "code", "hint"),
    [
        ("dev-reasoning-v3", None, "D304", 'did you mean "dev-reasoning-v2"?'),
        ("dev-reasoning-v2", 100, "D305", "leave num_rows out"),
        ("quickstart-reasoning", 0, "D306", "change num_rows"),
        ("quickstart-reasoning", 10**6, "D306", "change num_rows"),
    ],
)
def test_what_a_builder_cannot_do_is_said(name, num_rows, code, hint):
    with pytest.raises(InputInvalid) as caught:
        build(name, seed=42, num_rows=num_rows)
    assert (caught.value.code, caught.value.hint) == (code, hint)
