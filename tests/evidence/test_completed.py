"""What the platform named the run, put into the evidence after it: the record stays, everything that says the names is made again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.errors import EvidenceIncomplete
from engine.evidence import package, verify
from engine.evidence.about import SIGNATURES, STATEMENT
from engine.evidence.completed import Named, complete_evidence
from engine.evidence.contents import Reader
from engine.evidence.standalone import verify_py
from engine.evidence.witness import read_witness, write_witness

URL, NONCE = "https://www.kaggle.com/code/ann/toy", "0123456789abcdef" * 2
NAMED = Named(URL, "3", "ann/toy/3")


@pytest.fixture
def folder(record: RunRecord, render: Any) -> Path:
    """Evidence as a session on Kaggle leaves it: it knows its nonce, and neither address nor version."""
    names = dict.fromkeys(("notebook_url", "notebook_version", "run_id"))
    kaggle = {"run_type": "Batch", "nonce": NONCE, **names}
    return Path(render(dataclasses.replace(record, environment={**record.environment, "kaggle": kaggle})))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _detail(path: Path, id_: str) -> str:
    [check] = [check for check in verify(path).checks if check.id == id_]
    return f"{check.status}: {check.detail}"


def test_the_names_are_in_every_file_that_says_them(folder: Path, tmp_path: Path) -> None:
    """Manifest and statement; what no template renders keeps its bytes, so the session's digests still hold."""
    before = _bytes(folder)
    write_witness(folder, tmp_path)
    complete_evidence(folder, NAMED)
    after, manifest = _bytes(folder), json.loads((folder / "run_manifest.json").read_bytes())
    assert verify(folder).failed == []
    assert manifest["kaggle_notebook_url"] == URL
    assert (manifest["kaggle_notebook_version"], manifest["kaggle_run_id"]) == ("3", "ann/toy/3")
    assert (
        manifest["not_applicable"]
        .keys()
        .isdisjoint({"kaggle_notebook_url", "kaggle_notebook_version", "kaggle_run_id"})
    )
    statement = json.loads(after[STATEMENT])["predicate"]["runDetails"]
    assert statement["metadata"]["invocationId"] == "ann/toy/3"
    digests = json.loads((tmp_path / "witness.json").read_bytes())["digests"]
    assert {name for name in digests if before[name] != after[name]} == set()
    assert set(after) - set(before) == {"platform.json"}


def test_twice_is_once(folder: Path) -> None:
    """The same names change no byte; a later version's names replace them."""
    complete_evidence(folder, NAMED)
    once = _bytes(folder)
    complete_evidence(folder, NAMED)
    assert _bytes(folder) == once
    complete_evidence(folder, dataclasses.replace(NAMED, notebook_version="4"))
    assert _detail(folder, "V25").startswith("pass")
    assert json.loads((folder / "platform.json").read_bytes())["notebook_version"] == "4"


def test_a_signature_over_the_earlier_statement_goes(folder: Path) -> None:
    """It signed other files."""
    (folder / SIGNATURES).write_text("{}")
    with pytest.raises(EvidenceIncomplete, match="V23"):
        complete_evidence(folder, NAMED)
    (folder / SIGNATURES).unlink()
    complete_evidence(folder, NAMED)
    assert not (folder / SIGNATURES).exists()


def test_the_package_and_the_witness_give_level_2(folder: Path, tmp_path: Path) -> None:
    """From the session's files to what a stranger reads, by both verifiers."""
    version = tmp_path / "version"
    (version / "output").mkdir(parents=True)
    document = json.loads(write_witness(folder, version / "output").read_bytes())
    chain = [{"first_train_step": 1, "last_train_step": 4, "checkpoint_sha256": "a" * 64, "parent_sha256": None}]
    (version / "output" / "witness.json").write_text(json.dumps({**document, "sessions": chain}))
    (version / "session.log").write_text(f"runspec nonce: {NONCE}\n")
    fetched = {"schema_version": 1, "platform": "kaggle", "notebook_url": URL, "version": 3, "is_private": False}
    (version / "fetched.json").write_text(json.dumps(fetched))
    complete_evidence(folder, NAMED)
    archive = package(folder, tmp_path / "out", "toy")
    assert verify(archive, Reader(witness=read_witness(version))).trust_level == "L2"
    assert verify(archive).trust_level == "L0"
    (tmp_path / "verify.py").write_bytes(verify_py())
    command = [sys.executable, tmp_path / "verify.py", archive, "--witness", version]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ".zip: L2, unsigned: " in said.stdout, said.stdout + said.stderr
    (version / "fetched.json").write_text(json.dumps({**fetched, "api": "http://127.0.0.1:8080/api/v1"}))
    assert verify(archive, Reader(witness=read_witness(version))).trust_level == "L0"
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ".zip: L0, unsigned: " in said.stdout, said.stdout + said.stderr
    assert "witnessed by a server at 127.0.0.1, not Kaggle" in said.stdout


@pytest.mark.parametrize(
    ("change", "id_", "finding"),
    [
        (lambda names: names.update(notebook_version="4"), "V25", "fail: run_manifest.json, line "),
        (lambda names: names.update(run_id="x"), "V25", "fail: run_manifest.json, line "),
        (lambda names: names.update(note="trust it"), "V03", "fail: platform.json: "),
        (lambda names: names.update(notebook_version=3), "V03", "fail: platform.json: notebook_version: "),
        (lambda names: names.update(notebook_url="https://www.kaggle.example/code/ann/toy"), "V03", "fail: platform.json: notebook_url: "),
        (lambda names: names.pop("run_id"), "V03", "fail: platform.json: "),
    ],
)  # fmt: skip
def test_changed_names_are_found(
    folder: Path, edit: Any, reseal: Any, change: Callable[[dict[str, Any]], object], id_: str, finding: str
) -> None:
    """Although the list of digests fits."""
    complete_evidence(folder, NAMED)
    edit(folder / "platform.json", change)
    reseal(folder)
    assert _detail(folder, id_).startswith(finding)


def test_a_run_elsewhere_has_no_such_file(record: RunRecord, render: Any, reseal: Any) -> None:
    """Nobody fetched it from a platform: E130, and V28 where somebody put the file there."""
    folder = Path(render(record))
    with pytest.raises(EvidenceIncomplete, match=r"E130.*not that of a run on Kaggle"):
        complete_evidence(folder, NAMED)
    assert not (folder / "platform.json").exists()
    (folder / "platform.json").write_text(
        json.dumps({"schema_version": 1, "platform": "kaggle", **dataclasses.asdict(NAMED)})
    )
    reseal(folder)
    assert _detail(folder, "V28") == "fail: 'platform.json' is not named by the record"


def test_evidence_that_does_not_verify_is_not_completed(folder: Path, edit: Any) -> None:
    """Nothing is written: names would make bad evidence look looked at."""
    edit(folder / "scorecard.json", lambda card: card.update(primary_score=1.0))
    before = _bytes(folder)
    with pytest.raises(EvidenceIncomplete, match="E130"):
        complete_evidence(folder, NAMED)
    assert _bytes(folder) == before


def test_there_is_no_witness_of_nothing(tmp_path: Path) -> None:
    """E130, with the file that is not there."""
    with pytest.raises(EvidenceIncomplete, match=r"E130.*there is no evidence to leave a witness of"):
        write_witness(tmp_path, tmp_path)
