"""README.txt in a package: a stranger without the engine learns the result, what to type, and what it proves."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from engine.artifacts.journal import RunRecord
from engine.evidence import package, verify


def test_every_package_has_a_readme(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """Asked for or not, with the run's own numbers."""
    archive = package(render(record), tmp_path / "submission", "toy")
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
