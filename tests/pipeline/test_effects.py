"""Arguments that only affect tracking do not enter a step's fingerprint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from engine.artifacts.store import Store
from engine.pipeline.plan import arguments_ahead, step_ingredients, without_tracking
from engine.runspec import load_spec
from engine.steps.registry import handlers

REPOSITORY = Path(__file__).parent.parent.parent


def ingredients(root: Path, *overrides: str) -> dict[str, Any]:
    """Of every step of the quickstart."""
    for folder in ("runspecs", "evalsets", ".runspec"):
        (root / folder).mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "runspecs" / "quickstart.yaml", root / "runspecs")
    shutil.copy(REPOSITORY / "evalsets" / "quickstart.jsonl", root / "evalsets")
    spec = load_spec(root / "runspecs" / "quickstart.yaml", list(overrides), kinds=handlers())
    kinds, store = handlers(), Store(root)
    return {
        step.id: step_ingredients(spec, step, kinds[step.uses], {}, arguments_ahead(spec, step, kinds), store)
        for step in spec.steps
    }


def test_reports_and_profiles_change_no_fingerprint(tmp_path: Path) -> None:
    """Neither that of the training step nor that of the smoke run, which proves its arguments; a learning rate changes both."""
    plain = ingredients(tmp_path)
    tracked = ingredients(tmp_path, "train.report_to=[tensorboard]", "train.profile={start: 3, steps: 2}")
    other = ingredients(tmp_path, "train.learning_rate=1e-4")
    assert tracked == plain
    assert {name for name in plain if other[name] != plain[name]} == {"smoke", "train"}


def test_only_what_the_schema_says_is_left_out() -> None:
    """An argument without x-affects stays, and so does one that the schema does not know."""
    schema = {"properties": {"rate": {}, "report_to": {"x-affects": ["tracking"]}}}
    assert without_tracking({"rate": 1, "report_to": ["x"], "more": 2}, schema) == {"rate": 1, "more": 2}
