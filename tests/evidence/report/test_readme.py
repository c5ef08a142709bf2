"""README.txt in a package: a stranger without the engine learns the result, what to type, and what it proves."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from engine.artifacts.journal import RunRecord
from engine.evidence import package, verify

FILES = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt", "README.txt")


def test_a_package_with_a_readme_verifies(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """A run-spec that lists README.txt gets it, with the run's own numbers, and the package is verified as any other."""
    archive = package(render(record, files=FILES), tmp_path / "submission", "toy")
    assert verify(archive).ok
    with zipfile.ZipFile(archive) as members:
        text = members.read("toy_v1/README.txt").decode()
    assert text.startswith(
        "Evidence of the run toy_v1\n\n"
        "The result: answer_correctness@v1 80.0 % over 5 items, 0 of them without a prediction.\n"
        "The model: toy/model, trained on toy, final loss 0.2500.\n"
    )
    assert "runspec verify PATH" in text
    assert "L0 does not prove that the run happened" in text
    assert max(map(len, text.splitlines())) <= 120
