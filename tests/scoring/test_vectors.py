"""answer_correctness@v1 is what its vectors say, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.scoring import METRICS

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parent / "vectors.jsonl").read_text(encoding="utf-8").split("\n")
    if line
]


def test_there_are_enough_different_vectors() -> None:
    """At least 200 vectors, no two of them the same question to the rule."""
    assert len({(vector["text"], vector["expected"]) for vector in VECTORS}) >= 200


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["n"]))
def test_the_rule_gives_what_the_vector_says(vector: dict[str, Any]) -> None:
    """Extracted answer and score are those written down by hand."""
    judged = METRICS["answer_correctness@v1"].judge(vector["text"], vector["expected"])
    assert judged == (vector["extracted"], vector["correct"]), vector["law"]


def test_the_documentation_states_every_law() -> None:
    """docs/reference/scoring.md names each law that a vector stands for."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "scoring.md").read_text(encoding="utf-8")
    assert [law for law in sorted({vector["law"] for vector in VECTORS}) if law not in text] == []
