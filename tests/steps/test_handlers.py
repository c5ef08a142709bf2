"""The same laws for every built-in kind: described, published, repeatable, fingerprinted, safe when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.artifacts.store import Store
from engine.errors import InputInvalid
from engine.pipeline.plan import Selection, make_plan
from engine.pipeline.runner import execute
from engine.protocol.events.training import TrainStarted, TrainStep
from engine.runspec import load_spec
from engine.steps.registry import handlers

STEPS = ("dataset", "smoke", "train", "predict", "score", "summary")


@pytest.mark.parametrize("step_id", STEPS)
def test_it_describes_its_arguments(life: Any, step_id: str) -> None:
    """Draft-07, closed, titled; the defaults fill in every key."""
    life(step_id).check_description()


@pytest.mark.parametrize("step_id", STEPS)
def test_it_publishes_the_files_that_it_declares(life: Any, step_id: str) -> None:
    """Files, facts and journal entry exist, and the step is skipped from then on."""
    life(step_id).check_published()


@pytest.mark.parametrize("step_id", STEPS)
def test_it_makes_the_same_content_again(life: Any, step_id: str) -> None:
    """Forced, it publishes the same digest; no later step has to run."""
    life(step_id).check_repeats()


@pytest.mark.parametrize("step_id", STEPS)
def test_its_version_is_part_of_its_fingerprint(life: Any, step_id: str) -> None:
    """A kind that changes its version runs again."""
    life(step_id).check_notices()


@pytest.mark.parametrize("step_id", STEPS)
def test_it_publishes_nothing_when_it_fails(life: Any, step_id: str) -> None:
    """A failure and an interrupt leave the published artifact as it was."""
    life(step_id).check_failure()


def test_the_smoke_run_lists_what_it_proved_and_what_not(lived: Any) -> None:
    """It killed the training process for real and resumed from the checkpoint it had written."""
    spec, console = lived
    report = json.loads(next((spec.root / ".runspec/store/smoke_report").rglob("smoke_report.json")).read_text())
    assert report["killed_at"] == report["resumed_from"] == 1
    assert any("SIGKILL" in line for line in report["proved"])
    assert any("loss falls" in line for line in report["not_proved"])
    assert any(note.startswith("proved: ") for note in console.notes)


def test_the_run_ends_in_a_verified_package(lived: Any) -> None:
    """Evidence folder and zip exist, and a note names the zip."""
    spec, console = lived
    assert (spec.root / "submission_runs/life_v1/run_manifest.json").is_file()
    assert len(list((spec.root / "submission").glob("life_v1_*.zip"))) == 1
    assert any(note.startswith("package ") for note in console.notes)


def test_a_reduced_smoke_run_says_what_it_no_longer_proves(lived: Any) -> None:
    """The runbook's reductions, declared: bfloat16, batch 1, a short length, Adafactor, on the CPU."""
    spec, console = lived
    reduce = "{dtype: bfloat16, per_device_batch_size: 1, seq_len: 32, optimizer: adafactor, device: cpu}"
    reduced = load_spec(
        spec.path, [f"smoke.reduce={reduce}", "smoke.kill=false", "smoke.num_items=1"], kinds=handlers()
    )
    execute(reduced, handlers(), console=console, command="reduced", selection=Selection(only="smoke"))
    newest = max(
        (spec.root / ".runspec/store/smoke_report").rglob("smoke_report.json"), key=lambda path: path.stat().st_mtime_ns
    )
    not_proved = " · ".join(json.loads(newest.read_text())["not_proved"])
    for text in ("seq_len 128", "optimizer adamw", "dtype float32", "a batch of 2", "killed training"):
        assert text in not_proved


@pytest.mark.parametrize("step_id", ["smoke", "train"])
def test_a_question_that_will_not_fit_is_refused_before_the_first_train_step(lived: Any, step_id: str) -> None:
    """M501 names the item. The questions are not in the training step's fingerprint: with another limit it is still skipped."""
    spec, console = lived
    longer = load_spec(spec.path, ["predict.max_new_tokens=250"], kinds=handlers())
    entries = {entry.step.id: entry for entry in make_plan(longer, handlers(), Store(spec.root)).steps}
    assert (entries["train"].action, entries["predict"].action) == ("skip", "run")
    console.events.clear()
    selection = Selection(only=step_id, force=frozenset({step_id}))
    with pytest.raises(InputInvalid, match=r"M501.*max_new_tokens 250 it does not fit the model's context of 256"):
        execute(longer, handlers(), console=console, command="again", selection=selection)
    assert not [event for event in console.events if isinstance(event, TrainStarted | TrainStep)], "nothing was trained"
