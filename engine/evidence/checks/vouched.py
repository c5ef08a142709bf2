"""Who vouches: V22 the statement, V23 its signatures, V17 to V19 the platform's witness.

In: the evidence, and what the reader brings: the keys that he trusts, and a platform's output that he downloaded. Out: each check's
answer. Without what the reader would bring, the last ones do not apply: nothing inside a package can vouch for it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from engine.canonical import JsonMapping, JsonObject, digest_bytes
from engine.evidence.about import SIGNATURES, SIGSTORE, STATEMENT
from engine.evidence.about.dependencies import dependencies
from engine.evidence.checks.recorded import recorded_run
from engine.evidence.checks.rendered import first_stage, rendered_names, templates_of
from engine.evidence.contents import Answer, Evidence, answer, changes
from engine.evidence.folder import PLATFORM
from engine.evidence.signing.signatures import Signed, both, examine, examine_bundle
from engine.evidence.view import RECORD_VERSION
from engine.protocol.sessions import chain_problems, last_train_step
from engine.runspec import written_document

NO_STATEMENT = "evidence of version 1 has no statement"
NO_WITNESS = (
    "no witness: --witness FOLDER, the notebook version as you fetched it (runspec kaggle fetch OWNER/NAME/VERSION)"
)
NOT_FETCHED = "the output does not say which version it is of: fetch it with runspec kaggle fetch OWNER/NAME/VERSION"
PRIVATE = "the notebook is private: nobody but its owner can look"
STATEMENT_TYPE, PREDICATE_TYPE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:runspec-engine:run:v1"
_CHAINED = (
    "session", "first_train_step", "last_train_step", "checkpoint_sha256", "parent_sha256", "started_at", "platform",
    "device_kind", "devices",
)  # fmt: skip
_HEX64 = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32,128}")
_KAGGLE_URL = re.compile(r"(https://www\.kaggle\.com/code/[\w-]+/[\w-]+)(/versions/\d+|\?scriptVersionId=\d+)?")


def statement_is_of_these_files(evidence: Evidence) -> Answer:
    """V22. V25 has made the statement again; here it is read as any consumer reads one."""
    if templates_of(evidence) is None:
        return "n/a", NO_STATEMENT
    statement = evidence.json(STATEMENT)
    found = {name: statement.get(name) for name in ("_type", "predicateType")}
    problems = changes({"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE}, found)
    problems += _subjects(evidence, statement["subject"])
    problems += _predicate(evidence, statement["predicate"])
    return answer(problems, f"in-toto statement with SLSA provenance over {len(statement['subject'])} files")


def _subjects(evidence: Evidence, subjects: list[JsonObject]) -> list[str]:
    """Exactly the files of the first stage, each once."""
    names = [subject["name"] for subject in subjects]
    wanted = {name: digest_bytes(evidence.data(name)) for name in first_stage(evidence)}
    problems = [f"{name} is a subject twice" for name in sorted({name for name in names if names.count(name) > 1})]
    problems += [f"{name} is not a subject" for name in sorted(wanted.keys() - set(names))]
    problems += [f"{name} is a subject, and no file of the evidence" for name in sorted(set(names) - wanted.keys())]
    return problems + [
        f"{subject['name']} is not the file of its digest"
        for subject in subjects
        if subject["name"] in wanted and subject["digest"] != {"sha256": wanted[subject["name"]]}
    ]


def _predicate(evidence: Evidence, predicate: JsonObject) -> list[str]:
    """What it says of the run, against the record and the run-spec."""
    record, build, details = recorded_run(evidence), predicate["buildDefinition"], predicate["runDetails"]
    inner, metadata = build["internalParameters"], details["metadata"]
    expected = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"runspec": written_document(record.spec_bytes, "runspec.yaml")},
        "resolvedDependencies": dependencies(record),
        "overrides": dict(record.overrides),
        "command": record.command,
        "steps": [{"id": step.id, "uses": step.uses, "with": dict(step.args)} for step in record.steps],
        "engine": record.environment["engine"],
        "startedOn": record.started_at,
        "finishedOn": record.finished_at,
    }
    found = {
        **{name: build[name] for name in ("buildType", "externalParameters", "resolvedDependencies")},
        **{name: inner[name] for name in ("overrides", "command", "steps")},
        "engine": details["builder"]["version"]["runspec-engine"],
        **{name: metadata[name] for name in ("startedOn", "finishedOn")},
    }
    return changes(expected, found)


def signed(evidence: Evidence) -> Signed:
    """Who signed the statement, and which of these keys and identities the reader trusts."""
    files, reader = evidence.bundle.files, evidence.reader
    envelope, bundle = (evidence.json(name) if name in files else None for name in (SIGNATURES, SIGSTORE))
    statement = files.get(STATEMENT, b"")
    now = dt.datetime.now(tz=dt.timezone.utc)  # noqa: UP017 - verify.py runs this on Python 3.9, which has no dt.UTC
    by_key = examine(statement, envelope, reader.trust, now)
    return both(by_key, examine_bundle(statement, files.get(SIGSTORE, b""), bundle, reader.identity))


def signatures_fit(evidence: Evidence) -> Answer:
    """V23."""
    if templates_of(evidence) is None and evidence.reader.trust is None and evidence.reader.identity is None:
        return "n/a", f"unsigned: {NO_STATEMENT}"
    return signed(evidence).answer


def sessions_are_a_chain(evidence: Evidence) -> Answer:
    """V17: each session of a run of several resumed from the checkpoint of the one before it; a witness must tell of the same."""
    witness, record = evidence.reader.witness, evidence.record
    recorded = record["sessions"] if record["schema_version"] == RECORD_VERSION else None
    train = evidence.step("train_sft")["facts"]
    trained = [row for row in recorded or () if row["first_train_step"] is not None]
    witnessed = witness.document.get("sessions") if witness is not None else None
    if not trained and not train.get("sessions"):
        if witnessed is None:
            return "n/a", NO_WITNESS if recorded is None else "the training step reported no sessions"
        trained = witnessed
        problems = chain_problems(trained)
    else:
        problems = [*chain_problems(recorded or ()), *_not_as_reported(record, train)]
        problems += [] if witnessed is None else _not_as_witnessed(trained, witnessed)
    step = last_train_step(trained)
    if step != train["num_train_steps"]:
        problems.append(f"the sessions reach train step {step}, and the run has {train['num_train_steps']}")
    return answer(problems, f"{len(trained)} session{'s' * (len(trained) != 1)}, train steps 1 to {step}")


def _not_as_reported(record: JsonMapping, train: JsonMapping) -> list[str]:
    """The sessions of the record against those that the training step reported, which its checkpoints carried."""
    reported, rows = list(train.get("sessions") or ()), [dict(row) for row in record["sessions"]]
    problems = [
        f"session {n} is numbered {row['number']!r:.20}" for n, row in enumerate(rows, start=1) if row["number"] != n
    ]
    trained = [row for row in rows if row["first_train_step"] is not None]
    found = [{name: row[name] for name in _CHAINED} for row in trained]
    wanted = [{name: row[name] for name in _CHAINED} for row in reported]
    if found != wanted:
        problems.append("the sessions of the record are not those that the training step reported")
    published = [name for row in rows for name in row["published"]]
    known = {step["id"] for step in record["steps"]}
    problems += [f"step {name} is published twice" for name in sorted({n for n in published if published.count(n) > 1})]
    problems += [
        f"step {name!a:.40} is published, and is not a step of the run" for name in sorted(set(published) - known)
    ]
    problems += [
        f"session {row['number']} has {name} {row[name]!r:.30}, which is not a digest"
        for row in trained
        for name in ("checkpoint_sha256", "parent_sha256")
        if not (row[name] is None and name == "parent_sha256") and not _HEX64.fullmatch(str(row[name]))
    ]
    return problems


def _not_as_witnessed(trained: Sequence[JsonMapping], witnessed: Sequence[JsonMapping]) -> list[str]:
    names = ("first_train_step", "last_train_step", "checkpoint_sha256", "parent_sha256")
    found = [[row[name] for name in names] for row in witnessed if row["first_train_step"] is not None]
    if found != [[row[name] for name in names] for row in trained]:
        return ["the output tells of other sessions than run_record.json"]
    return []


def platform_has_the_digests(evidence: Evidence) -> Answer:
    """V18: the output of the notebook version has the nonce that was chosen before the run, and the digests of what nothing renders."""
    witness = evidence.reader.witness
    if witness is None:
        return "n/a", NO_WITNESS
    document, record = witness.document, evidence.record
    nonce = (record["environment"].get("kaggle") or {}).get("nonce")
    problems = []
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        problems.append("run_record.json has no nonce that was chosen before the run")
    elif document.get("nonce") != nonce:
        problems.append("the nonce of the output is another one than that of run_record.json")
    elif not witness.is_logged(nonce):
        problems.append("the nonce is not in the platform's log")
    if document.get("run_version") != record["run_version"]:
        problems.append(f"the output is of the run {document.get('run_version')!a:.60}")
    problems += _digests(evidence, document["digests"])
    if witness.server is not None and not problems:
        return "n/a", _not_kaggle(witness.server)
    return answer(problems, f"nonce {str(nonce)[:12]}… and the digests of {len(document['digests'])} files")


def _not_kaggle(server: str) -> str:
    """Whoever starts a server decides on what it says."""
    return f"witnessed by a server at {server:.60}, not Kaggle"


def _digests(evidence: Evidence, digests: JsonMapping) -> list[str]:
    """Of everything that no template renders; the rest follows from it (V25), and may name what the platform named later."""
    wanted = first_stage(evidence) - {*rendered_names(evidence), PLATFORM}
    problems = [f"the output has no digest of {name}" for name in sorted(wanted) if name not in digests]
    return problems + [
        f"the output has another digest of {name}"
        for name, digest in sorted(digests.items())
        if name not in evidence.bundle.files or digest_bytes(evidence.data(name)) != digest
    ]


def notebook_is_named(evidence: Evidence) -> Answer:
    """V19: the address is one of Kaggle's; with a witness, it and the version are those that the reader fetched, which everybody can."""
    url, witness = evidence.manifest["kaggle_notebook_url"], evidence.reader.witness
    if url is None and witness is None:
        return "n/a", str(evidence.manifest["not_applicable"].get("kaggle_notebook_url", "no notebook"))
    address = _KAGGLE_URL.fullmatch(str(url))
    problems = [] if address else [f"{url} is not the address of a Kaggle notebook"]
    if witness is None or witness.fetched is None:
        return answer(problems, str(url)) if problems or witness is None else ("n/a", NOT_FETCHED)
    fetched, version = witness.fetched, evidence.manifest["kaggle_notebook_version"]
    problems += changes(
        {"notebook_url": address and address[1], "notebook_version": version},
        {"notebook_url": fetched["notebook_url"], "notebook_version": str(fetched["version"])},
    )
    if witness.server is not None and not problems:
        return "n/a", _not_kaggle(witness.server)
    if problems or not fetched["is_private"]:
        return answer(problems, f"{url}, version {version}")
    return "n/a", PRIVATE
