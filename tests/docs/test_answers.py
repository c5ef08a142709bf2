"""What the reference says of answers and reports is what is in them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.commands.table import COMMANDS
from tests.fixtures import version_1

EVIDENCE = str(version_1.EVIDENCE)
SPEC = "runspecs/quickstart.yaml"
# command, and the argument that changes its answer -> what is typed
TYPED = {
    "init": ["init", "quickstart"],
    "presets": ["presets"],
    "steps": ["steps"],
    "doctor": ["doctor", "--no-devices"],
    "docs": ["docs"],
    "docs TOPIC": ["docs", "T114"],
    "validate": ["validate", SPEC],
    "plan": ["plan", SPEC],
    "plan --shardings": ["plan", SPEC, "--shardings"],
    "status": ["status"],
    "explain": ["explain", SPEC],
    "verify": ["verify", EVIDENCE],
    "report": ["report", EVIDENCE],
    "items": ["items", EVIDENCE],
    "score": ["score", EVIDENCE],
    "score EVAL_SET": ["score", f"{EVIDENCE}/predictions.jsonl", f"{EVIDENCE}/eval_set.jsonl"],
    "dataset build": ["dataset", "build", "quickstart-reasoning", "--num-rows", "20", "--out", "OUT"],
    "dataset check": ["dataset", "check", "OUT/dataset.jsonl"],
    "evalset check": ["evalset", "check", "evalsets/quickstart.jsonl"],
    "kaggle status": ["kaggle", "status"],
    "kaggle notebook": ["kaggle", "notebook", SPEC, "--out", "OUT/run.ipynb"],
}


@pytest.fixture(scope="module")
def answers(repository: Path) -> Any:
    """``ANSWERS`` of the generator."""
    spec = importlib.util.spec_from_file_location("command_pages", repository / "tests" / "docs" / "command_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["command_pages"] = module
    spec.loader.exec_module(module)
    return module.ANSWERS


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Command -> its JSON answer, each in a folder made by `init` and with evidence of version 1."""
    folder = tmp_path_factory.mktemp("project")
    said = {}
    with contextlib.chdir(folder):
        for name, words in TYPED.items():
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = main([word.replace("OUT", str(folder / "built")) for word in words] + ["--json"])
            assert code == 0, out.getvalue()
            said[name] = json.loads(out.getvalue())
    return said


def _outer_keys(shape: str) -> set[str]:
    """The keys of ``{ok, steps: [{id}]}``, without those of what is inside.

    >>> sorted(_outer_keys("{ok, steps: [{id, uses}], memory}"))
    ['memory', 'ok', 'steps']
    """
    inner, before = shape[1:-1], ""
    while inner != before:
        inner, before = re.sub(r"\[[^\[\]]*\]|\{[^{}]*\}", "", inner), inner
    return {word.strip(" :") for word in inner.split(",")}


def test_every_command_has_an_answer(answers: Any) -> None:
    """The reference says of each command what --json prints, and of no other."""
    assert set(answers) == {command.name for command in COMMANDS}


@pytest.mark.parametrize("typed", TYPED)
def test_the_answer_has_the_keys_that_the_reference_names(answers: Any, given: Any, typed: str) -> None:
    """The top-level keys of the JSON answer are those of the page, no more and no fewer."""
    found = {f"{name} {answer.when}".strip(): answer.other or answer.json for name, answer in answers.items()}
    found |= {name: answer.json for name, answer in answers.items()}
    assert _outer_keys(found[typed]) == set(given[typed])


def test_the_page_of_metrics_has_every_field(repository: Path) -> None:
    """docs/reference/metrics.md explains each column and each field of the evidence of the quickstart."""
    text = (repository / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)(?:: true)?`", row.split("|")[1])}
    report = json.loads((repository / EVIDENCE / "train_report.json").read_text(encoding="utf-8"))
    columns = json.loads((repository / EVIDENCE / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert set(report) | set(columns) <= named
    optional = {"eval_loss", "mfu", "device_bytes_in_use", "device_peak_bytes", "profiled", "skipped", "non_finite"}
    optional |= {"n_non_finite_evals", "rendered_by", "sessions"}  # newer than the evidence that is committed
    assert named - set(report) - set(columns) - optional == set()
