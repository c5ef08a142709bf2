"""V22: the statement is of these files and of this run. V17 to V19: what a platform's output, downloaded by the reader, shows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.canonical import digest_bytes
from engine.errors import InputInvalid
from engine.evidence import verify
from engine.evidence.about import STATEMENT
from engine.evidence.contents import Reader
from engine.evidence.verify import Verification
from engine.evidence.witness import read_witness, write_witness
from tests.fixtures import version_1

URL, NONCE = "https://www.kaggle.com/code/ann/toy", "0123456789abcdef" * 2
KAGGLE = {"run_type": "Batch", "notebook_url": URL, "notebook_version": "3", "run_id": "77", "nonce": NONCE}
Edit = Callable[[dict[str, Any]], object]


def _detail(verification: Verification, id_: str) -> str:
    [check] = [check for check in verification.checks if check.id == id_]
    return f"{check.status}: {check.detail}"


def test_the_statement_has_the_form_of_in_toto_and_slsa(record: RunRecord, render: Any) -> None:
    """A golden of its shape: the keys, the subjects, what the run was made from."""
    folder = render(record)
    statement = json.loads((folder / STATEMENT).read_bytes())
    assert list(statement) == ["_type", "subject", "predicateType", "predicate"]
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert {row["name"]: row["digest"]["sha256"] for row in statement["subject"]} == {
        name: digest_bytes((folder / name).read_bytes())
        for name in ("dataset_manifest.json", "eval_set.jsonl", "eval_summary.json", "kaggle_output_log.txt", "metrics.jsonl",
                     "predictions.jsonl", "run_manifest.json", "run_record.json", "runspec.yaml", "scorecard.json", "train_report.json")
    }  # fmt: skip
    build, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert list(build) == ["buildType", "externalParameters", "internalParameters", "resolvedDependencies"]
    assert build["externalParameters"]["runspec"] == json.loads(record.spec_bytes)
    assert list(build["internalParameters"]) == ["command", "overrides", "steps", "machine"]
    assert [row["name"] for row in build["resolvedDependencies"]] == [
        "runspecs/toy.yaml",
        "items.jsonl",
        "toy",
        "project",
    ]
    assert build["resolvedDependencies"][3] == {"name": "project", "digest": {"gitCommit": "1" * 40},
                                                "annotations": {"uncommitted_changes": False}}  # fmt: skip
    assert details["builder"]["id"] == "urn:runspec-engine:builder:local:v1"
    assert details["builder"]["version"]["runspec-engine"] == "0.1.0"
    digest = digest_bytes((folder / "run_record.json").read_bytes())
    assert details["metadata"] == {"invocationId": f"toy_v1@sha256:{digest}", "startedOn": record.started_at,
                                   "finishedOn": record.finished_at}  # fmt: skip
    assert [row["name"] for row in details["byproducts"]] == [
        "kaggle_output_log.txt", "metrics.jsonl", "model/config.json", "model/model.safetensors", "model"]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda s: s["subject"].pop(0), "fail: dataset_manifest.json is not a subject"),
        (lambda s: s["subject"].append(s["subject"][0]), "fail: dataset_manifest.json is a subject twice"),
        (lambda s: s["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}}), "fail: x is a subject, and no file of the evidence"),
        (lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), "fail: dataset_manifest.json is not the file of its digest"),
        (lambda s: s["subject"][0]["digest"].update(md5="0"), "fail: dataset_manifest.json is not the file of its digest"),
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "fail: _type: "),
        (lambda s: s.update(predicateType="x"), "fail: predicateType: "),
        (lambda s: s["predicate"]["buildDefinition"]["externalParameters"]["runspec"].update(notes="x"), "fail: externalParameters.runspec.notes: "),
        (lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].pop(), "fail: resolvedDependencies: "),
        (lambda s: s["predicate"]["buildDefinition"]["internalParameters"]["overrides"].update(a=1), "fail: overrides.a is unknown"),
        (lambda s: s["predicate"]["runDetails"]["metadata"].update(startedOn="2020-01-01T00:00:00Z"), "fail: startedOn: "),
        (lambda s: s.pop("predicate"), "fail: a value is missing or of the wrong kind"),
    ],
)  # fmt: skip
def test_a_changed_statement_is_found_by_v22_and_v25(
    record: RunRecord, render: Any, reseal: Any, edit: Any, change: Edit, finding: str
) -> None:
    """Although the list of digests fits."""
    folder = render(record)
    edit(folder / STATEMENT, change)
    reseal(folder)
    found = verify(folder)
    assert _detail(found, "V22").startswith(finding)
    assert _detail(found, "V25").startswith(f"fail: {STATEMENT}, line ")


def test_evidence_of_version_1_has_no_statement_and_must_not_bring_one(tmp_path: Path) -> None:
    """It verifies by its own rules; whoever takes new evidence back to them is refused."""
    committed = version_1.EVIDENCE
    assert _detail(verify(committed), "V22") == "n/a: evidence of version 1 has no statement"
    for path in committed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "README.txt").write_text("trust level L3")
    assert (
        _detail(verify(tmp_path), "V28")
        == "fail: README.txt does not belong to version 1, which run_record.json says it is"
    )


FETCHED = {"schema_version": 1, "platform": "kaggle", "notebook_url": URL, "version": 3, "is_private": False}


@pytest.fixture
def witnessed(record: RunRecord, render: Any, tmp_path: Path) -> Callable[..., Verification]:
    """``witnessed(change)``: a run on Kaggle and its notebook version as a reader fetches it; ``change`` edits witness.json.

    ``fetched``: what fetched.json says; None: another program downloaded the output.
    """

    def call(
        change: Edit = lambda _: None,
        *,
        log: str = f"nonce {NONCE}\n",
        fetched: Any = FETCHED,
        stand_in: str | None = None,
        **kaggle: Any,
    ) -> Verification:
        environment = {**record.environment, "kaggle": {**KAGGLE, **kaggle}}
        folder = render(dataclasses.replace(record, environment=environment))
        sessions = [
            {"first_train_step": 1, "last_train_step": 2, "checkpoint_sha256": "a" * 64, "parent_sha256": None},
            {"first_train_step": 3, "last_train_step": 4, "checkpoint_sha256": "b" * 64, "parent_sha256": "a" * 64},
        ]
        version = tmp_path / "version"
        output = version if fetched is None else version / "output"
        output.mkdir(parents=True)
        document = json.loads(write_witness(folder, output).read_bytes()) | {"sessions": sessions}
        change(document)
        (output / "witness.json").write_text(json.dumps(document))
        (version / "session.log").write_text(log)
        if fetched is not None:
            (version / "fetched.json").write_text(json.dumps(fetched))
        return verify(folder, Reader(witness=read_witness(version, stand_in=stand_in)))

    return call


def test_a_platforms_output_gives_level_2(witnessed: Any) -> None:
    """Nonce, digests, address and sessions; unsigned as it is."""
    found = witnessed()
    assert (found.ok, found.trust_level) == (True, "L2")
    assert _detail(found, "V17") == "pass: 2 sessions, train steps 1 to 4"
    assert _detail(found, "V18") == "pass: nonce 0123456789ab… and the digests of 9 files"
    assert _detail(found, "V19") == f"pass: {URL}, version 3"


@pytest.mark.parametrize(
    ("change", "id_", "finding"),
    [
        (lambda w: w["digests"].update({"metrics.jsonl": "0" * 64}), "V18", "the output has another digest of metrics.jsonl"),
        (lambda w: w["digests"].pop("run_record.json"), "V18", "the output has no digest of run_record.json"),
        (lambda w: w["digests"].update(x="0" * 64), "V18", "the output has another digest of x"),
        (lambda w: w.update(nonce="f" * 32), "V18", "the nonce of the output is another one than that of run_record.json"),
        (lambda w: w.update(run_version="other"), "V18", "the output is of the run 'other'"),
        (lambda w: w.update(digests=[]), "V18", "a value is missing or of the wrong kind"),
        (lambda w: w["sessions"].pop(), "V17", "the sessions reach train step 2, and the run has 4"),
        (lambda w: w["sessions"].pop(0), "V17", "session 1 does not begin after train step 0; session 1 did not begin with the checkpoint"),
        (lambda w: w["sessions"][1].update(parent_sha256="c" * 64), "V17", "session 2 did not begin with the checkpoint that the one before it left"),
        (lambda w: w["sessions"][1].update(first_train_step=2), "V17", "session 2 does not begin after train step 2"),
        (lambda w: w["sessions"][0].update(last_train_step=0), "V17", "session 1 does not begin after train step 0"),
    ],
)  # fmt: skip
def test_an_output_of_another_run_is_found(witnessed: Any, change: Edit, id_: str, finding: str) -> None:
    """Each difference by its check; then there is no level at all, because the reader brought it as a proof."""
    found = witnessed(change)
    assert _detail(found, id_).startswith(f"fail: {finding}")
    assert found.trust_level is None


def test_the_nonce_is_in_the_record_and_in_the_log(witnessed: Any) -> None:
    """Without either it was not chosen before the run."""
    assert _detail(witnessed(log="nothing\n"), "V18") == "fail: the nonce is not in the platform's log"


def test_a_record_without_a_nonce(witnessed: Any) -> None:
    """The run did not take one."""
    assert _detail(witnessed(nonce=None), "V18").startswith(
        "fail: run_record.json has no nonce that was chosen before the run"
    )


@pytest.mark.parametrize(
    ("fetched", "answer"),
    [
        ({**FETCHED, "notebook_url": URL + "2"}, "fail: notebook_url: "),
        ({**FETCHED, "version": 4}, "fail: notebook_version: '3' -> '4'"),
        ({**FETCHED, "is_private": True}, "n/a: the notebook is private: nobody but its owner can look"),
        (None, "n/a: the output does not say which version it is of: fetch it with runspec kaggle fetch OWNER/NAME/VERSION"),
    ],
)  # fmt: skip
def test_the_version_is_the_one_that_the_reader_fetched(witnessed: Any, fetched: Any, answer: str) -> None:
    """And everybody can fetch it. Without either it is no witness; a download that says it is of another version is a finding."""
    found = witnessed(fetched=fetched)
    assert _detail(found, "V19").startswith(answer)
    assert found.trust_level == (None if answer.startswith("fail") else "L0")


LOOPBACK = "http://127.0.0.1:8080/api/v1"


@pytest.mark.parametrize(
    ("api", "stand_in", "server"),
    [
        (LOOPBACK, None, "127.0.0.1"),
        (LOOPBACK, "http://127.0.0.1:8081/api/v1", "127.0.0.1"),
        ("https://api.kaggle.com.example/v1", None, "api.kaggle.com.example"),
        ("http://api.kaggle.com/v1", None, "api.kaggle.com"),
        (7, None, "7"),
        ("http://[", None, "http://["),
        (LOOPBACK, LOOPBACK, None),
        ("https://api.kaggle.com/v1", None, None),
    ],
)
def test_another_server_than_kaggle_is_no_witness(
    witnessed: Any, api: object, stand_in: str | None, server: str | None
) -> None:
    """Whoever starts it decides on what it says. A test may declare one as the stand-in, by its whole address."""
    found = witnessed(fetched={**FETCHED, "api": api}, stand_in=stand_in)
    if server is None:
        assert found.trust_level == "L2"
        return
    said = f"n/a: witnessed by a server at {server}, not Kaggle"
    assert [_detail(found, id_) for id_ in ("V18", "V19")] == [said, said]
    assert (found.ok, found.trust_level) == (True, "L0")


def test_what_another_server_contradicts_is_a_finding(witnessed: Any) -> None:
    """As it is of Kaggle's."""
    found = witnessed(log="nothing\n", fetched={**FETCHED, "version": 4, "api": LOOPBACK})
    assert [check.id for check in found.failed] == ["V18", "V19"]


def test_a_session_cannot_say_where_it_was_fetched_from(witnessed: Any, tmp_path: Path) -> None:
    """A fetched.json among the output files is the author's, not the reader's."""
    witnessed(fetched=None)
    (tmp_path / "version" / "output").mkdir()
    (tmp_path / "version" / "output" / "fetched.json").write_text(json.dumps(FETCHED))
    assert read_witness(tmp_path / "version").fetched is None


def test_an_address_with_its_version_is_the_same_notebook(witnessed: Any) -> None:
    """As a person copies it from the page."""
    assert _detail(witnessed(notebook_url=f"{URL}/versions/3"), "V19") == f"pass: {URL}/versions/3, version 3"


def test_a_notebook_without_a_version_is_no_witness(witnessed: Any) -> None:
    """A notebook's next version is another output."""
    assert _detail(witnessed(notebook_version=None), "V19").startswith("fail: notebook_version: None -> '3'")


def test_a_fetched_version_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    """U155, with the file."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "witness.json").write_text('{"schema_version": 1}')
    (tmp_path / "fetched.json").write_text('{"schema_version": 1, "version": "3"}')
    with pytest.raises(InputInvalid, match=r"fetched\.json cannot be used: it does not say what was fetched"):
        read_witness(tmp_path)


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"{", "cannot be used: it is not JSON"),
        (b"[]", "cannot be used: it is no witness of schema_version 1"),
        (b'{"schema_version": 2}', "cannot be used: it is no witness of schema_version 1"),
        (b'{"schema_version": 1, "n": 1' + b"0" * 400 + b"}", "cannot be used: witness.json: a number of 401 digits"),
        (b'"' + b"x" * (1 << 20) + b'"', "cannot be used: it is larger than 1 MiB"),
    ],
)
def test_a_folder_that_is_no_output(tmp_path: Path, data: bytes | None, finding: str) -> None:
    """U155, whatever it has."""
    if data is not None:
        (tmp_path / "witness.json").write_bytes(data)
    with pytest.raises(InputInvalid) as caught:
        read_witness(tmp_path)
    assert finding in caught.value.diagnostics[0].message
