"""The last step: what the platform gave is made the project's evidence, with the notebook's address and version, packed and verified.

In: an attempt whose session says that the run is complete. Out: the attempt ``done`` with evidence, package and trust level, or ``failed`` with
what does not verify. The evidence is what the session rendered: it is checked before it replaces anything, and what it replaces is kept.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from engine.artifacts.journal import Journal, journal_path
from engine.artifacts.store import Store, explain_os_error
from engine.canonical import JsonObject, digest_file
from engine.errors import InputInvalid
from engine.evidence import Verification, check_owner, package, verify
from engine.evidence.completed import Named, complete_evidence
from engine.evidence.contents import NOBODY, Reader
from engine.evidence.witness import OUTPUT, read_witness
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.judge import EVIDENCE, fail
from engine.kaggle.driver.story import Attempt
from engine.pipeline.plan import relative
from engine.pipeline.replaced import keep_replaced_by
from engine.runspec.model import Spec
from engine.temporary import fsync_dir

RECORD = "run_record.json"


def complete(drive: Drive, attempt: Attempt) -> None:
    """Raises what the evidence's own parts raise (E108, E130, R1xx, P1xx, R106); the attempt stays ``completing`` then."""
    fetched = drive.story.fetched(attempt.version)
    source, spec = fetched / OUTPUT / EVIDENCE, drive.spec
    problem = _problem(source, spec, attempt)
    if problem is not None:
        fail(drive, 5, "G263", f"the evidence of {attempt.label} does not verify: {problem}",
             f"nothing of it was used; look at it: runspec verify {relative(source, spec.root)}\n"
             f"or fetch it once more: runspec kaggle fetch {spec.run_version}")  # fmt: skip
        return
    drive.story.append("completing")
    folder = spec.resolve(spec.evidence.dir)
    with Store(spec.root).lock(f"run-{spec.run_version}"):
        check_owner(spec.run_version, folder)
        journal = Journal(journal_path(spec.root / ".runspec", spec.run_version))
        replaced = keep_replaced_by(spec, _record(source), journal)
        try:
            _place(source, folder)
        except OSError as error:
            raise explain_os_error(error, folder) from error
        complete_evidence(
            folder, Named(attempt.facts["url"], str(attempt.version), f"{attempt.name}/{attempt.version}")
        )
        archive = package(folder, spec.resolve(spec.package.dir), spec.package.name)
    verification = verify(archive, _reader(drive, fetched))
    if not verification.ok:
        fail(drive, 5, "G263", f"the evidence of {attempt.label} does not verify: {_failed(verification)}",
             f"look at it: runspec verify {relative(archive, spec.root)} --witness {relative(fetched, spec.root)}")  # fmt: skip
        return
    drive.story.append("done", evidence=relative(folder, spec.root), package=relative(archive, spec.root), sha256=digest_file(archive),
                       trust_level=verification.trust_level, witness=relative(fetched, spec.root),
                       replaced=replaced and replaced.as_json())  # fmt: skip


def _problem(source: Path, spec: Spec, attempt: Attempt) -> str | None:
    """Why the fetched evidence cannot be this run's; None where it verifies and is of the run-spec that was pushed."""
    try:
        verification = verify(source)
    except InputInvalid as error:
        return error.diagnostics[0].message
    if not verification.ok:
        return _failed(verification)
    record = _record(source)
    if record.get("run_version") != spec.run_version or record.get("spec_digest") != attempt.facts["spec_sha256"]:
        return "it is of another run-spec"
    return None


def _failed(verification: Verification) -> str:
    first, *others = verification.failed
    more = f" (and {len(others)} more)" if others else ""
    return f"{first.id} {first.title}: {first.detail}{more}"


def _record(folder: Path) -> JsonObject:
    record: JsonObject = json.loads((folder / RECORD).read_bytes())
    return record


def _reader(drive: Drive, folder: Path) -> Reader:
    """What was fetched as the witness; without witness.json there is none."""
    try:
        return Reader(witness=read_witness(folder))
    except InputInvalid as error:
        drive.note(f"no witness: {error.diagnostics[0].message}")
        return NOBODY


def _place(source: Path, folder: Path) -> None:
    """The whole folder at once: beside it, then two renames; what a kill left of an earlier try goes first."""
    coming, old = (folder.with_name(f".{folder.name}.{end}") for end in ("coming", "old"))
    for left in (coming, old):
        shutil.rmtree(left, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, coming)
    if folder.exists():
        os.rename(folder, old)
    os.rename(coming, folder)
    fsync_dir(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
