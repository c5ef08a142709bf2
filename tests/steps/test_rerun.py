"""``verify --rerun`` with the real trainer: what it did is done again to the last bit, and one invented answer is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.evidence.bundle import Bundle
from engine.evidence.contents import Evidence
from engine.evidence.rescore import judge
from tests.evidence.forger import files_of, parsed, redone, written

# What the command says and judges is tested with light steps in tests/cli/test_rerun.py.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Verify = Callable[..., tuple[int, Any]]


@pytest.fixture
def folder(lived: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the evidence of a real run, whose project is the current folder."""
    spec, _ = lived
    monkeypatch.chdir(spec.root)
    return shutil.copytree(spec.root / "submission_runs" / "life_v1", tmp_path / "life_v1")


@pytest.fixture
def verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> Verify:
    """``verify("--rerun", "3")`` -> exit code and document."""

    def call(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main(["verify", str(folder), "--json", "--quiet", *words])
        return code, json.loads(capsys.readouterr().out)

    return call


def test_real_answers_come_out_again(verify: Verify) -> None:
    """Three of a hundred, asked without the others: the same texts, tokens and ends."""
    code, document = verify("--rerun", "3")
    assert (code, document["trust_level"]) == (0, "L3"), document
    assert (document["rerun"]["items"]["n_equal"], document["rerun"]["items"]["elsewhere"]) == (3, [])


def test_real_train_steps_come_out_again(verify: Verify) -> None:
    """Two of three, each loss to its last digit, although the recorded run did not end there."""
    code, document = verify("--rerun-steps", "2")
    assert (code, document["trust_level"]) == (0, "L0"), document
    assert (document["rerun"]["train_steps"]["n_equal"], document["rerun"]["train_steps"]["elsewhere"]) == (2, [])


def test_an_invented_answer_does_not_come_out(verify: Verify, folder: Path) -> None:
    """Its verdict, the digests and the rendered files were made to fit: nothing but the model tells."""
    files = files_of(folder)
    rows = parsed(files, "predictions.jsonl")
    rows[41]["text"] = "I said something else."
    files["predictions.jsonl"] = written("predictions.jsonl", rows)
    judged = judge(Evidence(Bundle("folder", files)))
    files["predictions.jsonl"] = written("predictions.jsonl", [row.as_json() for row in judged.rows])
    files["scorecard.json"] = written("scorecard.json", judged.card.as_json())
    for name, data in redone(files, parsed(files, "run_record.json")).items():
        (folder / name).write_bytes(data)
    assert verify()[0] == 0
    code, document = verify("--rerun", "100")
    assert code == 5
    assert [(found["of"], found["field"]) for found in document["rerun"]["items"]["differences"]] == [
        (rows[41]["id"], "text")
    ]
    assert [check["id"] for check in document["checks"] if check["status"] == "fail"] == ["V29", "V24"]
