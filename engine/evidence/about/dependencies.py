"""What a run was made from, as in-toto resource descriptors: run-spec, eval set, model, dataset, code, engine.

In: the record. Out: rows {name, uri, digest, annotations}, each key only where the record has its value. A digest of one file is
``sha256``; that of a folder is ``runspecTree``: the SHA-256 of the canonical JSON of {path: SHA-256 of the file}.
"""

from __future__ import annotations

import re

from engine.artifacts.journal import RunRecord
from engine.canonical import JsonMapping, JsonObject, digest_bytes, digest_json
from engine.protocol.kaggle_models import PARTS

HUB = "https://huggingface.co/"
KAGGLE = "https://www.kaggle.com/models/"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def dependencies(record: RunRecord) -> list[JsonObject]:
    """The rows, in this order: run-spec, eval set, model, dataset, code, engine."""
    rows = [
        _row(record.spec_path, digest={"sha256": record.spec_digest}),
        _row(record.eval_set, digest={"sha256": digest_bytes(record.eval_set_bytes)}),
        _model(record),
        _dataset(record),
        _code(record.environment),
        _engine(record.environment),
    ]
    return [row for row in rows if row is not None]


def model_files(record: RunRecord) -> list[JsonObject]:
    """The files of the exported model, which are not in the evidence."""
    train = record.step_of("train_sft")
    files = train.artifact.files if train else {}
    return [
        _row(name, digest={"sha256": files[name]}) for name in sorted(files) if name.startswith(("model/", "merged/"))
    ]


def exported_folders(record: RunRecord) -> dict[str, dict[str, str]]:
    """``model`` and ``merged``, as far as the run exported them -> file in it -> SHA-256."""
    folders: dict[str, dict[str, str]] = {}
    for row in model_files(record):
        folder, _, file = row["name"].partition("/")
        folders.setdefault(folder, {})[file] = row["digest"]["sha256"]
    return folders


def _row(name: str, uri: str | None = None, digest: JsonMapping | None = None, **annotations: object) -> JsonObject:
    known = {key: value for key, value in annotations.items() if value is not None}
    row = {"name": name, "uri": uri, "digest": dict(digest or {}), "annotations": known}
    return {key: value for key, value in row.items() if value}


def section_of(record: RunRecord, name: str) -> JsonMapping | None:
    """A section of the run-spec, as the first step that read it recorded it."""
    for step in record.steps:
        section = step.artifact.ingredients["spec"].get(name)
        if section is not None:
            return dict(section)
    return None


def _model(record: RunRecord) -> JsonObject | None:
    """The weights that training started from; with ``init: random`` there are none."""
    section = section_of(record, "model")
    if section is None or section["declared"]["init"] == "random":
        return None
    kaggle = section["declared"].get("kaggle")
    if kaggle is not None:
        return _kaggle_model(record, str(kaggle))
    digest = {"runspecTree": section["content"]} if section["content"] else {}
    from_hub = section["declared"]["path"] is None
    revision = record.model_revision
    if from_hub and revision is not None and _COMMIT.fullmatch(revision):
        digest["gitCommit"] = revision
    declared = record.model_revision_declared
    return _row(record.model_id, f"{HUB}{record.model_id}" if from_hub else None, digest, revision_declared=declared)


def _kaggle_model(record: RunRecord, declared: str) -> JsonObject:
    """A version of a model on Kaggle: its parts by name, and the digest of the files that were read of it."""
    train = record.step_of("train_sft")
    facts = dict(train.artifact.facts.get("model_kaggle") or {}) if train else {}
    digest = {"runspecTree": digest_json(facts["files"])} if facts.get("files") else {}
    parts = {name: facts.get(name) for name in PARTS}
    return _row(record.model_id, f"{KAGGLE}{declared}", digest, **parts)


def _dataset(record: RunRecord) -> JsonObject | None:
    """The source of the rows: a file, a dataset of the hub, or a builder of the engine; and the rows' own digest."""
    section, build = section_of(record, "dataset"), record.step_of("build_dataset")
    if section is None or build is None:
        return None
    declared, facts = section["declared"], build.artifact.facts
    hub, commit = declared["hub"], facts.get("dataset_commit")
    digest = {"sha256": section["content"]} if section["content"] else {}
    if hub and isinstance(commit, str) and _COMMIT.fullmatch(commit):
        digest["gitCommit"] = commit
    builder = f"{declared['name']}@{section['builder']}" if section.get("builder") else None
    uri = f"{HUB}datasets/{hub}" if hub else None
    return _row(record.dataset, uri, digest, builder=builder, rows_sha256=facts.get("rows_sha256"))


def _code(environment: JsonMapping) -> JsonObject | None:
    """The commit of the project that the run was started in."""
    commit = environment.get("commit_sha")
    if commit is None:
        return None
    changed = {"uncommitted_changes": environment.get("commit_dirty"), "diff_sha256": environment.get("diff_sha256")}
    return _row("project", None, {"gitCommit": commit}, **changed)


def _engine(environment: JsonMapping) -> JsonObject | None:
    """The engine's own files, and the wheel where it came from one."""
    files = environment.get("engine_files")
    if files is None:  # an engine that did not record them
        return None
    wheel = {"sha256": files["wheel"]} if files["wheel"] is not None else {}
    return _row("runspec-engine", None, {**wheel, "runspecTree": files["tree"]}, version=environment["engine"])
