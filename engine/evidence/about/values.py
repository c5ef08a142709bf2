"""What the templates of the second stage can name, beside the view: the files, the run-spec, what the run was made from.

In: the record, the files of the first stage, the names of the second. Out: plain values. Nothing is made up: what the record
does not know is left out, never filled.

``files`` [{name, sha256, bytes}], ``about`` (names of the second stage), ``runspec`` (as written), ``dependencies`` and
``model_files`` (in-toto resource descriptors), ``facts`` (id of a step -> what it reported), ``machine``, ``invocation``, ``on_kaggle``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.artifacts.journal import RunRecord
from engine.canonical import JsonObject, digest_bytes
from engine.evidence.about.dependencies import dependencies, model_files
from engine.runspec import written_document


def about_values(record: RunRecord, attested: Mapping[str, bytes], about: Sequence[str]) -> JsonObject:
    """The values, computed once for all templates. Raises InputInvalid where the run-spec cannot be read."""
    files = [
        {"name": name, "sha256": digest_bytes(data), "bytes": len(data)} for name, data in sorted(attested.items())
    ]
    digests = {str(file["name"]): str(file["sha256"]) for file in files}
    return {
        "files": files,
        "about": list(about),
        "runspec": written_document(record.spec_bytes, record.spec_path),
        "dependencies": dependencies(record),
        "model_files": model_files(record),
        "facts": {step.id: dict(step.artifact.facts) for step in record.steps},
        "machine": _machine(record),
        "invocation": _invocation(record, digests["run_record.json"]),
        "on_kaggle": bool(record.environment.get("kaggle")),
    }


def _machine(record: RunRecord) -> JsonObject:
    """Where it ran, as far as the record knows."""
    train = record.step_of("train_sft")
    facts = train.artifact.facts if train else {}
    named = {name: record.environment.get(name) for name in ("platform", "cpu_count")}
    named |= {name: facts.get(name) for name in ("devices", "device_kind")}
    return {name: value for name, value in named.items() if value is not None}


def _invocation(record: RunRecord, record_sha256: str) -> str:
    """A name of this one run: Kaggle's, or its record's digest, which no other run has."""
    kaggle = record.environment.get("kaggle") or {}
    return str(kaggle.get("run_id") or f"{record.run_version}@sha256:{record_sha256}")
