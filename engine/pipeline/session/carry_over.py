"""Writes what another machine needs to resume: the journal, the artifacts of finished steps, of an unfinished one the newest checkpoint.

In: the run as it stands. Out: ``session.json`` and its payload in the folder of ``--session-out``. Every byte is read and compared with the digest that
it was published under. What the carry-over before it in that folder has already is linked, not copied: a notebook leaves one after each cell, with
the same model of gigabytes in it. Nothing that a later session does not need is written: no older checkpoint, no cache, no log; a finished run
leaves ``session.json`` alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import engine
from engine.artifacts.journal import Journal
from engine.artifacts.manifest import MANIFEST
from engine.artifacts.refusals import changed_on_disk
from engine.artifacts.store import Store, explain_os_error
from engine.canonical import JsonObject, digest_file, pretty_json, sealed, write_atomic
from engine.errors import InputInvalid
from engine.pipeline.plan import PlannedStep, relative
from engine.pipeline.session.carried import (
    FILE,
    JOURNAL,
    PAYLOAD,
    SEAL,
    STORE,
    VERSION,
    WORK,
    SessionFile,
    copy_file,
    read_session,
)
from engine.runspec.model import Spec
from engine.steps import FunctionHandler, Handler
from engine.temporary import fsync_dir
from engine.trainer_process.carried import Carried


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands at the end of a session: the plan as it is now, and of the first unfinished step what is kept of it."""

    steps: tuple[PlannedStep, ...]
    begun: PlannedStep | None
    kept: Carried | None
    is_finished: bool
    number: int  # of the session that ends
    parent: str | None  # the digest of the session.json that it continued from
    sessions: tuple[JsonObject, ...]


def is_resumable(handler: Handler) -> bool:
    """Whether an unfinished step of this kind can be resumed in another session."""
    return isinstance(handler, FunctionHandler) and handler.carries is not None


def kept_of(entry: PlannedStep, store: Store) -> Carried | None:
    """What an unfinished step has saved; None where it starts over."""
    handler = entry.handler
    if entry.fingerprint is None or not isinstance(handler, FunctionHandler) or handler.carries is None:
        return None
    work = store.staging(entry.work_key).work
    return handler.carries(work, entry.step.args) if work.is_dir() else None


def prepare_out(folder: Path) -> None:
    """Before the first step: the folder is there and can be written. Raises RunFailed R102, R103."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{FILE}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise explain_os_error(error, folder) from error


def write_carry_over(
    folder: Path, spec: Spec, store: Store, journal: Journal, standing: Standing, recipe: JsonObject
) -> None:
    """Raises RunFailed: R105 where an artifact is not what was published, R101 to R103 where it cannot be written."""
    payload = f"{PAYLOAD}{os.urandom(4).hex()}"
    try:
        (folder / payload).mkdir(parents=True)
        files: dict[str, JsonObject] = {}
        if not standing.is_finished:
            files |= _payload(folder / payload, spec, store, journal, standing, _earlier(folder))
        values = {
            "schema_version": VERSION,
            "engine": engine.__version__,
            "run_version": spec.run_version,
            "spec_sha256": spec.digest,
            "overrides": {override.path: override.value for override in spec.overrides},
            "state": "finished" if standing.is_finished else "unfinished",
            "number": standing.number,
            "parent_sha256": standing.parent,
            "sessions": list(standing.sessions),
            "steps": [_step(entry) for entry in standing.steps],
            "begun": _begun(standing),
            "next": recipe,
            "payload": payload,
            "files": dict(sorted(files.items())),
        }
        fsync_dir(folder / payload)
        write_atomic(folder / FILE, pretty_json(sealed(values, SEAL)))
        for old in folder.glob(f"{PAYLOAD}*"):
            if old.name != payload or standing.is_finished:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error


def _step(entry: PlannedStep) -> JsonObject:
    state = "published" if entry.artifact is not None and entry.action == "skip" else "left"
    key = entry.work_key if entry.fingerprint is not None else None
    return {"id": entry.step.id, "uses": entry.step.uses, "state": state, "type": entry.handler.makes,
            "fingerprint": entry.fingerprint, "work_key": key}  # fmt: skip


def _begun(standing: Standing) -> JsonObject | None:
    if standing.begun is None or standing.kept is None:
        return None
    return {"id": standing.begun.step.id, "work_key": standing.begun.work_key, "kept": standing.kept.said,
            "ingredients": dict(standing.begun.ingredients)}  # fmt: skip


def _earlier(folder: Path) -> SessionFile | None:
    """The carry-over that is there already."""
    try:
        return read_session(folder)
    except InputInvalid:
        return None


def _payload(
    folder: Path, spec: Spec, store: Store, journal: Journal, standing: Standing, earlier: SessionFile | None
) -> Iterator[tuple[str, JsonObject]]:
    """Copies, or links; yields (path in the payload, its digest and size)."""
    yield JOURNAL, _copied(journal.path, folder / JOURNAL)
    for entry in standing.steps:
        artifact = entry.artifact
        if artifact is None or entry.action == "run":
            continue
        expected: Mapping[str, str] = {**artifact.files, MANIFEST: digest_file(artifact.path / MANIFEST)}
        for name, digest in expected.items():
            path = f"{STORE}/{artifact.type}/{artifact.path.name}/{name}"
            row = _linked(earlier, path, digest, folder / path)
            if row is None:
                is_there = (artifact.path / name).is_file()
                row = _copied(artifact.path / name, folder / path) if is_there else {}
            if row.get("sha256") != digest:
                raise changed_on_disk(artifact.type, entry.step.id, [name], relative(spec.path, spec.root))
            yield path, row
    if standing.begun is not None and standing.kept is not None:
        work = store.staging(standing.begun.work_key).work
        for name in standing.kept.files:
            yield f"{WORK}/{name}", _copied(work / name, folder / WORK / name)


def _linked(earlier: SessionFile | None, name: str, digest: str, target: Path) -> JsonObject | None:
    """The earlier carry-over's file, where it is the wanted one to the byte; None where it has none, or cannot be linked."""
    row = earlier.values["files"].get(name) if earlier is not None else None
    if earlier is None or not isinstance(row, dict) or row.get("sha256") != digest:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(earlier.source(name), target)
        if digest_file(target) == digest:
            return {"sha256": digest, "bytes": target.stat().st_size}
    except OSError:  # a file system without links; a file that is gone
        pass
    target.unlink(missing_ok=True)
    return None


def _copied(source: Path, target: Path) -> JsonObject:
    digest, count = copy_file(source, target)
    return {"sha256": digest, "bytes": count}
