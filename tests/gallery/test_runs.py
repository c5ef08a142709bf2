"""The examples that need no accelerator and no download run on a CPU, from `init` to verified evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Example -> what its own point leaves behind in the project, beside evidence and package.
LEAVES = {
    "own-template": ["submission_runs/own_template_v1/RESULTS.md"],
    "own-step": [".runspec/store/wrong_answers/*/wrong.jsonl"],
    "tiny-smoke": ["submission_runs/tiny_smoke_v1/smoke_report.json"],
    "chat": [],
    "own-data": [],
    "local-folder": ["submission_runs/local_folder_v1/smoke_report.json"],
    "trackers": [".runspec/reports/trackers_v1/train/*/tensorboard/*", ".runspec/reports/trackers_v1/train/*/profile"],
    "two-training-runs": [],
}


@pytest.mark.slow  # each trains for real; `make test` validates them, and runs projects of light steps
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LEAVES)
def test_an_example_runs_to_verified_evidence(
    runspec_process: Any, begin: Callable[[str], str], tmp_path: Path, name: str
) -> None:
    """Every step runs, every check that applies passes, and what the example is about is there."""
    done = runspec_process("run", begin(name), "--json", "--quiet")
    assert done.code == 0, done.out + done.err
    document = done.document
    assert document["ok"] is True
    assert {check["status"] for check in document["checks"]} <= {"pass", "n/a"}
    for pattern in LEAVES[name]:
        assert list(tmp_path.glob(pattern)), pattern
    if name == "two-training-runs":
        _check_two_training_runs(tmp_path)


def _check_two_training_runs(root: Path) -> None:
    """Both are in the record, with different models; the evidence's loss is the second one's."""
    folder = root / "submission_runs" / "two_training_runs_v1"
    steps = {step["id"]: step for step in json.loads((folder / "run_record.json").read_text("utf-8"))["steps"]}
    slow, fast = steps["train_slow"]["facts"], steps["train_fast"]["facts"]
    assert slow["model_sha256"] != fast["model_sha256"]
    summary = json.loads((folder / "eval_summary.json").read_text("utf-8"))
    assert summary["metrics"]["final_loss"] == fast["final_loss"]
