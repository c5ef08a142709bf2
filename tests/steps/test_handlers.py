"""Every built-in kind, through the same life: described, published, repeatable, noticed, safe when it dies."""

from __future__ import annotations

import json
from typing import Any

import pytest

STEPS = ("dataset", "smoke", "train", "predict", "score", "summary")


@pytest.mark.parametrize("step_id", STEPS)
def test_it_describes_its_arguments(life: Any, step_id: str) -> None:
    """Draft-07, closed, titled; the defaults fill in every key."""
    life(step_id).check_description()


@pytest.mark.parametrize("step_id", STEPS)
def test_it_publishes_what_it_promises(life: Any, step_id: str) -> None:
    """Files, facts and journal are there, and the step is skipped from then on."""
    life(step_id).check_published()


@pytest.mark.parametrize("step_id", STEPS)
def test_it_makes_the_same_content_again(life: Any, step_id: str) -> None:
    """Forced, it publishes the same digest; nothing behind it has to run."""
    life(step_id).check_repeats()


@pytest.mark.parametrize("step_id", STEPS)
def test_its_version_is_part_of_its_fingerprint(life: Any, step_id: str) -> None:
    """A kind that changes its version runs again."""
    life(step_id).check_notices()


@pytest.mark.parametrize("step_id", STEPS)
def test_it_leaves_nothing_when_it_dies(life: Any, step_id: str) -> None:
    """A failure and an interrupt leave the published artifact as it was."""
    life(step_id).check_failure()


def test_the_smoke_run_says_what_it_proved_and_what_not(lived: Any) -> None:
    """It killed the training process for real and resumed from the checkpoint it had written."""
    spec, console = lived
    report = json.loads(next((spec.root / ".runspec/store/smoke_report").rglob("smoke_report.json")).read_text())
    assert report["killed_at"] == report["resumed_from"] == 1
    assert any("SIGKILL" in line for line in report["proved"])
    assert any("loss falls" in line for line in report["not_proved"])
    assert any(note.startswith("proved: ") for note in console.notes)


def test_the_whole_chain_ends_in_a_verified_package(lived: Any) -> None:
    """Evidence folder, zip, and the summary block are there."""
    spec, console = lived
    assert (spec.root / "submission_runs/life_v1/run_manifest.json").is_file()
    assert len(list((spec.root / "submission").glob("life_v1_*.zip"))) == 1
    assert any(note.startswith("package ") for note in console.notes)
