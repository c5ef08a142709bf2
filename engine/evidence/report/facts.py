"""What was run and where, as rows of a name and a value, from the evidence's own files.

In: the evidence. Out: rows for the page; a value that is not there has its reason from ``not_applicable``, or "not recorded".

    environment_facts(evidence)   # [("machine", "Linux x86_64, 2 CPUs"), ("devices", "cpu:0"), …]
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.canonical import JsonMapping
from engine.evidence.contents import Evidence
from engine.evidence.report.curves import is_finite

Fact = tuple[str, str]
NOT_RECORDED = "not recorded"


def about(evidence: Evidence) -> list[Fact]:
    """What the score is the score of: the model, what it was trained on, what it was asked."""
    manifest, rows = evidence.manifest, evidence.metrics
    last = rows[-1].get("loss") if rows else None
    loss = f", last loss {last:.4f}" if is_finite(last) else ""
    return [
        ("model", _value(manifest, "model_id")),
        ("trained on", f"{_value(manifest, 'dataset')}, {len(rows)} train steps{loss}"),
        ("asked", _value(manifest, "eval_set")),
    ]


def run_facts(evidence: Evidence) -> list[Fact]:
    """The run: what was declared, and when it ran."""
    manifest, record = evidence.manifest, evidence.record
    overrides = record.get("overrides") or {}
    return [
        ("notes", _value(manifest, "notes")),
        ("model", _value(manifest, "model_id")),
        ("model revision", _value(manifest, "model_revision")),
        ("model bytes, SHA-256", _value(manifest, "model_sha256")),
        ("dataset", _value(manifest, "dataset")),
        ("eval set", _value(record, "eval_set")),
        ("command", _value(manifest, "command")),
        ("overrides", ", ".join(f"{key}={value}" for key, value in overrides.items()) or "none"),
        ("started", _value(record, "started_at")),
        ("finished", _value(record, "finished_at")),
        ("notebook", _value(manifest, "kaggle_notebook_url")),
    ]


def environment_facts(evidence: Evidence) -> list[Fact]:
    """The machine, the software and the commit."""
    environment, manifest = evidence.record["environment"], evidence.manifest
    trained = evidence.step("train_sft")["facts"]
    libraries = {**_mapping(environment.get("libraries")), **_mapping(trained.get("libraries"))}
    return [
        ("machine", f"{_value(environment, 'platform')}, {_value(environment, 'cpu_count')} CPUs"),
        ("devices", ", ".join(map(str, trained.get("devices") or [])) or NOT_RECORDED),
        ("kind of device", _value(trained, "device_kind")),
        ("engine", _value(environment, "engine")),
        ("python", f"{_value(environment, 'python')} ({_value(environment, 'implementation')})"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in sorted(libraries.items())) or NOT_RECORDED),
        ("commit", _value(manifest, "commit_sha")),
        ("uncommitted changes", _changes(manifest)),
    ]


def step_rows(evidence: Evidence) -> list[tuple[str, str, str, str, str]]:
    """Each step: id, kind, start, end, fingerprint."""
    names = ("id", "uses", "started_at", "finished_at", "fingerprint")
    rows = [tuple(_value(step, name) for name in names) for step in evidence.record["steps"]]
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def _changes(manifest: JsonMapping) -> str:
    dirty = manifest.get("commit_dirty")
    if dirty is None:
        return _value(manifest, "commit_dirty")
    return f"yes, SHA-256 {_value(manifest, 'diff_sha256')}" if dirty else "none"


def _value(values: JsonMapping, name: str) -> str:
    """The value as text, or why there is none."""
    value = values.get(name)
    if value is None or value == "":
        return str(_mapping(values.get("not_applicable")).get(name, NOT_RECORDED))
    return str(value)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
