"""Targets: every machine that a compiler knows; facts with source and date; nobody is sent to a machine that is gone."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from engine.errors import InputInvalid
from engine.preflight.targets import TARGETS, target_named
from engine.protocol.machines import MACHINES, memory_of_kind
from engine.trainer.cost.machines import DESCRIPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "plan-a-run.md"


def test_every_machine_of_the_compilers_is_a_target():
    """`--target h100` works wherever `benchmarks/memory.py --machine h100` does."""
    assert set(MACHINES) <= set(TARGETS)
    assert {"h100", "a100", "l4", "v5e-1", "v6e-1"} <= set(TARGETS)
    assert all(TARGETS[name].machine is machine for name, machine in MACHINES.items())


def test_every_machine_has_what_its_compiler_must_be_told():
    """The CPU's compiler looks for itself."""
    assert set(DESCRIPTIONS) == set(MACHINES) - {"cpu"}


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_every_fact_of_the_outside_world_has_its_source_and_date(target):
    """Figures change: who said so, and when."""
    facts = (*target.machine.facts, *target.facts, *([target.retired.fact] if target.retired else []))
    assert facts or target.is_here
    for fact in facts:
        assert fact.says
        assert fact.source
        assert dt.date.fromisoformat(fact.read) >= dt.date(2026, 11, 1)
    if not target.is_here:
        assert any(f"{target.machine.device_bytes:,} bytes" in fact.says for fact in facts)


def test_what_nobody_gets_names_what_one_gets_instead():
    """Kaggle's P100 and its single T4 are gone; what replaced them is there."""
    retired = {name: target.retired.instead for name, target in TARGETS.items() if target.retired}
    assert retired == {"kaggle-t4": "kaggle-t4x2", "kaggle-p100": "kaggle-t4x2"}
    assert all(TARGETS[name].retired is None for name in retired.values())


def test_an_unknown_target_is_told_those_that_one_can_get():
    """A name that resembles nothing: the list, without what is retired."""
    with pytest.raises(InputInvalid) as caught:
        target_named("quantum")
    listed = set((caught.value.hint or "").removeprefix("there are: ").split(", "))
    assert listed == {name for name, target in TARGETS.items() if target.retired is None}


def test_the_page_lists_every_target():
    """One row each: name, devices, memory of one; retired ones say so."""
    rows = re.findall(
        r"^\| `([\w-]+)` \| (.+?) \| (.+?) GiB \| (.*?) ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    expected = [
        (name, target.about, f"{(target.machine.device_bytes or 0) / (1 << 30):.2f}",
         f"retired: `{target.retired.instead}` instead" if target.retired else "")
        for name, target in TARGETS.items() if not target.is_here
    ]  # fmt: skip
    assert rows == expected


def test_a_device_is_known_by_the_name_that_jax_gives_it():
    """Where no allocator knows a limit, the trainer looks the memory up."""
    assert memory_of_kind("Tesla T4") == 15_655_829_504
    assert memory_of_kind("NVIDIA A100-SXM4-80GB") == 85_100_068_864
    assert memory_of_kind("NVIDIA L40S") is None
    assert memory_of_kind("GeForce 256") is None
