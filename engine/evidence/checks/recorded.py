"""run_record.json and the attachments as the run record that the evidence was rendered from.

In: the evidence. Out: the record, and each file of a step that the evidence has or that follows from it. A file of the
artifacts that nobody attached is a function of what is there: ``summary.json`` and ``generate_report.json`` are the step's
facts, ``predictions_raw.jsonl`` are the predictions without the verdicts. So their digests can be checked too.

    record = recorded_run(evidence)
    published_file(evidence, record.step_of("result_summary"), "summary.json")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from engine.artifacts.journal import RunRecord, StepRecord
from engine.artifacts.store import Artifact
from engine.canonical import JsonObject, digest_bytes, digest_of_results, digest_result_bytes, jsonl_bytes, pretty_json
from engine.evidence.contents import Broken, Evidence
from engine.evidence.folder import ATTACHMENTS, PLATFORM
from engine.evidence.view import RECORD_VERSION
from engine.scoring import result_summary_text

PLATFORM_NAMES = ("notebook_url", "notebook_version", "run_id")
REMARKS = frozenset({"clock"})  # facts that the pipeline adds to those of the step's own report
_NAMES = (
    "run_version", "notes", "spec_path", "spec_digest", "command", "model_id", "model_revision", "model_revision_declared",
    "dataset", "eval_set", "device", "started_at", "finished_at", "overrides", "environment",
)  # fmt: skip
_VERDICTS = ("extracted", "expected", "correct")
_RAW = ("id", "prompt_sha256", "prompt", "text", "prompt_tokens", "new_tokens", "finish_reason", "milliseconds")
_OF_A_PREDICTION = frozenset({*_RAW, *_VERDICTS})


def recorded_run(evidence: Evidence) -> RunRecord:
    """The record; KeyError where a value is missing."""
    values = evidence.record
    return RunRecord(
        **{name: values[name] for name in _NAMES},
        spec_bytes=evidence.data("runspec.yaml"),
        eval_set_bytes=evidence.data("eval_set.jsonl"),
        steps=tuple(map(_step, values["steps"])),
        platform=named_by_platform(evidence),
        sessions=tuple(values["sessions"]) if values["schema_version"] == RECORD_VERSION else None,
    )


def named_by_platform(evidence: Evidence) -> JsonObject | None:
    """The names in platform.json; None where there is no such file, as in evidence of version 1."""
    if PLATFORM not in evidence.bundle.files or "templates" not in evidence.record:
        return None
    return {name: evidence.json(PLATFORM)[name] for name in PLATFORM_NAMES}


def _step(values: JsonObject) -> StepRecord:
    artifact = Artifact(
        type=values["artifact"],
        kind=values["uses"],
        fingerprint=values["fingerprint"],
        digest=values["content_sha256"],
        path=Path(),  # not on this machine
        files=values["files"],
        facts=values["facts"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        ingredients=values["ingredients"],
    )
    return StepRecord(values["id"], values["uses"], values["with"], values["declared"], artifact)


def own_facts(facts: JsonObject) -> JsonObject:
    """The facts that the step itself reported.

    >>> own_facts({"n_items": 1, "clock": "was set back"})
    {'n_items': 1}
    """
    return {name: value for name, value in facts.items() if name not in REMARKS}


def _raw_rows(evidence: Evidence) -> list[JsonObject]:
    """Of predictions_raw.jsonl: the predictions without the verdicts, without the rows of items that have none."""
    rows = [row for row in evidence.rows("predictions.jsonl") if row["text"] is not None]
    unknown = set[str]().union(*rows) - _OF_A_PREDICTION
    if unknown:
        raise Broken(f"predictions.jsonl has a key that no prediction has: {min(unknown)}")
    return [{name: row[name] for name in _RAW if name in row} for row in rows]


# (kind, file) -> what the file must have been
DERIVED: Mapping[tuple[str, str], Callable[[Evidence, JsonObject], bytes]] = {
    ("result_summary", "summary.json"): lambda _, facts: pretty_json(facts).encode(),
    ("result_summary", "summary.txt"): lambda _, facts: result_summary_text(facts).encode(),
    ("generate", "generate_report.json"): lambda _, facts: pretty_json(facts).encode(),
    ("generate", "predictions_raw.jsonl"): lambda evidence, _: jsonl_bytes(_raw_rows(evidence)),
}
_ATTACHED = {source: name for name, source in ATTACHMENTS.items()}


def known_file(evidence: Evidence, step: StepRecord, name: str) -> bytes | None:
    """A file of a step's artifact: attached, or derived; None where the evidence does not have it."""
    if (step.uses, name) in _ATTACHED:
        return evidence.data(_ATTACHED[step.uses, name])
    make = DERIVED.get((step.uses, name))
    return None if make is None else make(evidence, own_facts(dict(step.artifact.facts)))


def digest_of_result(evidence: Evidence, step: StepRecord, name: str, data: bytes) -> str:
    """Of such a file, without its measurements. Rows that were parsed already are not written and parsed again."""
    if (step.uses, name) == ("generate", "predictions_raw.jsonl"):
        return digest_of_results(_raw_rows(evidence))
    if name.endswith(".jsonl") and (step.uses, name) in _ATTACHED:
        return digest_of_results(evidence.rows(_ATTACHED[step.uses, name]))
    return digest_result_bytes(name, data)


def published_file(evidence: Evidence, step: StepRecord, name: str) -> bytes:
    """The same, and only where it has the digest that the record names. Raises Broken."""
    data = known_file(evidence, step, name)
    if data is None or digest_bytes(data) != step.artifact.files.get(name):
        raise Broken(f"{_ATTACHED.get((step.uses, name), name)} is not the file that step {step.id} published")
    return data
