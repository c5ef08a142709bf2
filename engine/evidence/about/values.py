"""What the templates of the second stage can name, beside the view: the files, the run-spec, what the run was made from.

In: the record, the files of the first stage, the names of the second. Out: plain values. Nothing is made up: what the record
does not know is left out, never filled.

``files`` [{name, sha256, bytes, media, is_template}], ``about``, ``about_media`` (names of the second stage, and the type of each), ``runspec`` (as written), ``dependencies`` and
``model_files`` (in-toto resource descriptors), ``facts`` (id of a step -> what it reported), ``machine``, ``invocation``, ``on_kaggle``,
``record_sets`` (columns of eval set and predictions), ``base_model``, ``hub_dataset``, ``model_start``, ``eval_set_name``,
``worded_by_author`` (names of files that a template of the project words).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from engine.artifacts.journal import RunRecord
from engine.canonical import JsonObject, digest_bytes
from engine.evidence.about.dependencies import dependencies, model_files, section_of
from engine.evidence.about.record_sets import record_sets
from engine.evidence.bundle import Bundle
from engine.evidence.contents import Evidence
from engine.runspec import written_document

MEDIA = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}


def about_values(record: RunRecord, attested: Mapping[str, bytes], about: Sequence[str]) -> JsonObject:
    """The values, computed once for all templates. Raises InputInvalid where the run-spec cannot be read."""
    files = [_file(name, data) for name, data in sorted(attested.items())]
    digests = {str(file["name"]): str(file["sha256"]) for file in files}
    return {
        "files": files,
        "about": list(about),
        "about_media": {name: MEDIA.get(PurePosixPath(name).suffix, "application/octet-stream") for name in about},
        "runspec": written_document(record.spec_bytes, record.spec_path),
        "dependencies": dependencies(record),
        "model_files": model_files(record),
        "facts": {step.id: dict(step.artifact.facts) for step in record.steps},
        "machine": _machine(record),
        "invocation": _invocation(record, digests["run_record.json"]),
        "record_sets": record_sets(attested["eval_set.jsonl"], attested["predictions.jsonl"]),
        **_card(record),
        "on_kaggle": record.kaggle is not None,
        "worded_by_author": Evidence(Bundle("folder", attested)).worded_by_author,
    }


def _file(name: str, data: bytes) -> JsonObject:
    ending = PurePosixPath(name).suffix
    return {
        "name": name,
        "sha256": digest_bytes(data),
        "bytes": len(data),
        "media": MEDIA.get(ending),
        "is_template": ending == ".j2",
    }


def _card(record: RunRecord) -> JsonObject:
    """What a model card of the hub names by its identity there; None where it is not there."""
    model, dataset = section_of(record, "model"), section_of(record, "dataset")
    declared = model["declared"] if model is not None else {"init": "random", "path": None}
    start = "from random weights" if declared["init"] == "random" else "from the weights of the hub"
    start = "from the weights in a folder" if declared["path"] is not None else start
    start = f"from the weights of {declared['kaggle']} on Kaggle" if declared.get("kaggle") else start
    return {
        "base_model": record.model_id if start == "from the weights of the hub" else None,
        "model_start": start,
        "hub_dataset": dataset["declared"]["hub"] if dataset is not None else None,
        "eval_set_name": PurePosixPath(record.eval_set).stem,
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
    return str((record.kaggle or {}).get("run_id") or f"{record.run_version}@sha256:{record_sha256}")
