"""V17: the sessions of the record are a chain, those that the training step reported, and those that a platform tells of."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.errors import EvidenceIncomplete
from engine.evidence import package, verify
from engine.evidence.contents import Reader
from engine.evidence.unfinished import write_unfinished
from engine.evidence.verify import Verification
from engine.evidence.witness import Witness
from tests.evidence.conftest import build

Edit = Callable[[dict[str, Any]], object]
A, B = "a" * 64, "b" * 64
WHERE = {
    "platform": "cpu",
    "device_kind": "cpu",
    "devices": 1,
    "started_at": "2026-01-02T03:04:00Z",
    "finished_at": "2026-01-02T03:04:05Z",
}
CHAIN = [
    {
        "session": "s1",
        "first_train_step": 1,
        "last_train_step": 2,
        "checkpoint_sha256": A,
        "parent_sha256": None,
        **WHERE,
    },
    {"session": "s2", "first_train_step": 3, "last_train_step": 4, "checkpoint_sha256": B, "parent_sha256": A, **WHERE},
]
IDLE = {"session": "s3", "first_train_step": None, "last_train_step": None, "checkpoint_sha256": None, "parent_sha256": None,
        "platform": None, "device_kind": None, "devices": None, "started_at": "2026-01-02T03:04:05Z",
        "finished_at": "2026-01-02T03:04:09Z"}  # fmt: skip
PUBLISHED = (["dataset"], ["train"], ["predict", "score", "summary"])
ROWS = tuple(
    {"number": number, **row, "published": published}
    for number, (row, published) in enumerate(zip((*CHAIN, IDLE), PUBLISHED, strict=True), start=1)
)


@pytest.fixture
def in_sessions(tmp_path: Path) -> RunRecord:
    """A run of three sessions: two trained, the third answered and scored."""
    return dataclasses.replace(build(tmp_path / "sessions", sessions=CHAIN), sessions=ROWS)


def v17(verification: Verification) -> str:
    [check] = [check for check in verification.checks if check.id == "V17"]
    return f"{check.status}: {check.detail}"


def test_a_run_of_several_sessions_verifies(in_sessions: RunRecord, render: Any, tmp_path: Path) -> None:
    """As a folder and as a zip, without a witness; its record is of version 3."""
    folder = render(in_sessions)
    for path in (folder, package(folder, tmp_path / "out", "toy")):
        found = verify(path)
        assert found.failed == []
        assert v17(found) == "pass: 2 sessions, train steps 1 to 4"
    record = json.loads((folder / "run_record.json").read_bytes())
    assert (record["schema_version"], record["sessions"]) == (3, list(ROWS))


def test_records_without_sessions_verify_by_their_own_rules(record: RunRecord, render: Any) -> None:
    """Version 2: the check does not apply without a witness."""
    folder = render(record)
    assert json.loads((folder / "run_record.json").read_bytes())["schema_version"] == 2
    assert verify(folder).ok
    assert v17(verify(folder)).startswith("n/a: no witness")


def test_a_training_step_that_reported_no_sessions(record: RunRecord, render: Any) -> None:
    """As one of a plug-in may."""
    folder = render(record, sessions=({"number": 1, **IDLE, "published": ["train"]},))
    assert verify(folder).ok
    assert v17(verify(folder)) == "n/a: the training step reported no sessions"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda r: r[1].update(parent_sha256="c" * 64), "session 2 did not begin with the checkpoint that the one before it left"),
        (lambda r: r[1].update(first_train_step=4), "session 2 does not begin after train step 2"),
        (lambda r: r[0].update(last_train_step=3), "session 2 does not begin after train step 3"),
        (lambda r: r.pop(0), "session 1 does not begin after train step 0; session 1 did not begin with the checkpoint"),
        (lambda r: r.pop(1), "session 2 is numbered 3; the sessions of the record are not those that the training step reported"),
        (lambda r: r[0].update(devices=8), "the sessions of the record are not those that the training step reported"),
        (lambda r: r[2].update(number=7), "session 3 is numbered 7"),
        (lambda r: r[2]["published"].append("train"), "step train is published twice"),
        (lambda r: r[2]["published"].append("other"), "step 'other' is published, and is not a step of the run"),
        (lambda r: r[2].pop("first_train_step"), "a value is missing or of the wrong kind"),
    ],
)  # fmt: skip
def test_a_chain_with_a_hole_is_found(in_sessions: RunRecord, render: Any, change: Edit, finding: str) -> None:
    """In a record that was rendered anew, so that nothing else is wrong with it."""
    rows = json.loads(json.dumps(ROWS))
    change(rows)
    found = verify(render(in_sessions, sessions=tuple(rows)))
    assert v17(found).startswith(f"fail: {finding}")
    assert {check.id for check in found.failed} - {"V03"} == {"V17"}


def test_a_chain_that_does_not_reach_the_end(tmp_path: Path, render: Any) -> None:
    """Although record and report agree."""
    short = dataclasses.replace(build(tmp_path / "short", sessions=CHAIN[:1]), sessions=(ROWS[0],))
    assert v17(verify(render(short))) == "fail: the sessions reach train step 2, and the run has 4"


def test_a_checkpoint_is_named_by_a_digest(tmp_path: Path, render: Any) -> None:
    """Whatever else agrees."""
    chain = [{**CHAIN[0], "checkpoint_sha256": "mine"}, {**CHAIN[1], "parent_sha256": "mine"}]
    rows = ({**ROWS[0], **chain[0]}, {**ROWS[1], **chain[1]}, ROWS[2])
    named = dataclasses.replace(build(tmp_path / "named", sessions=chain), sessions=rows)
    assert v17(verify(render(named))).startswith("fail: session 1 has checkpoint_sha256 'mine', which is not a digest")


@pytest.mark.parametrize(
    ("sessions", "finding"),
    [
        (CHAIN, "pass: 2 sessions, train steps 1 to 4"),
        ([*CHAIN, IDLE], "pass: 2 sessions, train steps 1 to 4"),
        (CHAIN[:1], "fail: the output tells of other sessions than run_record.json"),
        ([], "fail: the output tells of other sessions than run_record.json"),
        ([CHAIN[0], {**CHAIN[1], "checkpoint_sha256": "c" * 64}], "fail: the output tells of other sessions than run_record.json"),
    ],
)  # fmt: skip
def test_a_witness_tells_of_the_same_sessions(
    in_sessions: RunRecord, render: Any, sessions: list[dict[str, Any]], finding: str
) -> None:
    """Against the platform's output the record must not have another chain."""
    witness = Witness({"schema_version": 1, "sessions": sessions, "digests": {}}, ())
    assert v17(verify(render(in_sessions), Reader(witness=witness))) == finding


def test_version_3_is_not_taken_back_to_version_2(in_sessions: RunRecord, render: Any, reseal: Any, edit: Any) -> None:
    """The sessions of the record cannot be hidden by its number, nor be added to an older one."""
    folder = render(in_sessions)
    edit(folder / "run_record.json", lambda r: r.update(schema_version=2))
    reseal(folder)
    assert not verify(folder).ok


def test_unfinished_evidence_never_verifies(tmp_path: Path, render: Any, record: RunRecord) -> None:
    """E112 with what is left, as a folder; the complete evidence takes its place, and is never replaced by it."""
    folder = tmp_path / "submission_runs" / "toy_v1"
    document = {"left": [{"id": "train", "uses": "train_sft", "state": "at train step 2 of 4"}]}
    assert write_unfinished(folder, "toy_v1", document, {"runspec.yaml": record.spec_bytes})
    with pytest.raises(EvidenceIncomplete) as caught:
        verify(folder)
    assert (caught.value.exit_code, caught.value.code) == (4, "E112")
    assert "left are train (at train step 2 of 4)" in str(caught.value)
    assert render(record) == folder
    assert verify(folder).ok
    assert not write_unfinished(folder, "toy_v1", document, {})
    assert verify(folder).ok


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"left": 7}', b'{"left": [1]}', b"[" * 100_000])
def test_whatever_says_that_it_is_unfinished_is(folder: Path, data: bytes) -> None:
    """A file of this name among complete evidence, whatever is in it, ends with exit code 4: never with a pass."""
    (folder / "incomplete.json").write_bytes(data)
    with contextlib.suppress(EvidenceIncomplete):
        assert not verify(folder).ok
