"""Laws of the plan: what changes a fingerprint, what does not, and that the reason names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.artifacts.store import Store
from engine.errors import InputInvalid
from engine.pipeline.plan import Selection, differences, explain, make_plan, sources
from engine.pipeline.runner import execute
from engine.runspec.model import Spec

GROW, PRESS = ("grow", "grow", {"n": 1}), ("press", "press", {"hard": True})


def run_steps(spec: Spec, kinds: Any, console: Any, **choice: Any) -> list[str]:
    """Run all steps but not the evidence (``stop`` makes the run a partial one)."""
    selection = Selection(stop=spec.steps[-1].id, **choice)
    return list(execute(spec, kinds, console=console, command="runspec run toy.yaml", selection=selection).ran)


def actions(spec: Spec, kinds: Any) -> dict[str, str]:
    return {entry.step.id: entry.action for entry in make_plan(spec, kinds, Store(spec.root)).steps}


def test_everything_runs_once_and_then_nothing_does(make_spec: Callable[..., Spec], kinds: Any, console: Any) -> None:
    spec = make_spec(GROW, PRESS)
    assert actions(spec, kinds) == {"grow": "run", "press": "run"}
    assert run_steps(spec, kinds, console) == ["grow", "press"]
    assert actions(spec, kinds) == {"grow": "skip", "press": "skip"}
    assert run_steps(spec, kinds, console) == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"notes": "other"}, []),
        ({"data": b"# a comment", "digest": "0" * 64}, []),
        ({"package": None}, []),
        ({"steps": (("grow", "grow", {"n": 2}), PRESS)}, ["grow", "press"]),
        ({"steps": (GROW, ("press", "press", {"hard": False}))}, ["press"]),
    ],
)
def test_only_what_can_change_the_result_runs_again(
    make_spec: Callable[..., Spec], kinds: Any, console: Any, change: dict[str, Any], again: list[str]
) -> None:
    run_steps(make_spec(GROW, PRESS), kinds, console)
    steps = change.pop("steps", (GROW, PRESS))
    assert run_steps(make_spec(*steps, **change), kinds, console) == again


def test_a_new_version_of_a_kind_and_a_new_library_run_again(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    spec = make_spec(GROW, PRESS)
    run_steps(spec, kinds, console)
    newer = {**kinds, "press": replace(kinds["press"], version=2)}
    assert actions(spec, newer) == {"grow": "skip", "press": "run"}
    bound = {**kinds, "press": replace(kinds["press"], libraries=("pytest",))}
    assert actions(spec, bound) == {"grow": "skip", "press": "run"}


def test_an_edited_eval_set_runs_again_and_a_touched_one_does_not(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    kinds["press"] = replace(kinds["press"], reads=("eval_set",))
    spec = make_spec(GROW, PRESS)
    run_steps(spec, kinds, console)
    path = spec.resolve(spec.eval_set)
    path.touch()
    assert actions(spec, kinds) == {"grow": "skip", "press": "skip"}
    path.write_text('{"id": "b"}\n')
    assert actions(spec, kinds) == {"grow": "skip", "press": "run"}


def test_explain_names_the_ingredient_that_changed(make_spec: Callable[..., Spec], kinds: Any, console: Any) -> None:
    run_steps(make_spec(GROW, PRESS), kinds, console)
    changed = make_spec(("grow", "grow", {"n": 2}), PRESS)
    entry = make_plan(changed, kinds, Store(changed.root)).steps[0]
    before = {"kind": "grow", "version": 1, "with": {"n": 1}, "inputs": {}, "spec": {}, "ahead": {}, "environment": {}}
    assert explain(entry, before)[1:] == ["  changed: with.n: 1 -> 2"]


def test_a_step_takes_from_the_nearest_earlier_maker_unless_needs_says_otherwise(
    make_spec: Callable[..., Spec], kinds: Any
) -> None:
    spec = make_spec(("a", "grow", {}), ("b", "grow", {}), ("p", "press", {}), ("q", "press", {}, ("a",)))
    assert sources(spec, spec.step("p"), kinds)["apple"].id == "b"
    assert sources(spec, spec.step("q"), kinds)["apple"].id == "a"


def test_force_runs_again_and_only_runs_one(make_spec: Callable[..., Spec], kinds: Any, console: Any) -> None:
    spec = make_spec(GROW, PRESS)
    run_steps(spec, kinds, console)
    assert run_steps(spec, kinds, console, force=frozenset({"press"})) == ["press"]
    done = execute(spec, kinds, console=console, command="c", selection=Selection(only="grow"))
    assert done.ran == ()


def test_unknown_step_names_are_all_reported(make_spec: Callable[..., Spec], kinds: Any) -> None:
    spec = make_spec(GROW, PRESS)
    with pytest.raises(InputInvalid) as caught:
        make_plan(spec, kinds, Store(spec.root), Selection(start="gorw", only="zzz"))
    assert 'did you mean "grow"?' in str(caught.value)
    assert "this spec has: grow, press" in str(caught.value)


def test_differences_are_dotted_paths_with_both_values() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 3}}) == [
        "a.c: removed, was 2",
        "a.d: added, 3",
    ]
