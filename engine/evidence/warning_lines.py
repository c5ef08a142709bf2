"""What a reader of the evidence should know and might not ask for: one sentence each, computed.

>>> plural(1, "row"), plural(2, "row")
('1 row', '2 rows')
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.evidence.artifacts import artifact_of, read_jsonl
from engine.record import RunRecord


def warning_lines(record: RunRecord, fields: Mapping[str, Any]) -> list[str]:
    """The warnings of a run, in a fixed order. Never times: they would make equal runs differ."""
    return [*_data(record), *_training(record), *_predictions(record, fields), *_circumstances(record)]


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _data(record: RunRecord) -> Iterator[str]:
    artifact = artifact_of(record, "dataset")
    facts = artifact.facts if artifact else {}
    if count := facts.get("n_duplicates"):
        yield f"{plural(count, 'training row')} repeat the prompt of an earlier one"
    if count := facts.get("n_overlap"):
        yield f"{plural(count, 'training row')} ask what the eval set asks"
    if count := facts.get("n_dropped"):
        yield f"{plural(count, 'row')} of the dataset were dropped"


def _training(record: RunRecord) -> Iterator[str]:
    artifact = artifact_of(record, "checkpoint")
    facts = artifact.facts if artifact else {}
    if count := facts.get("n_dropped"):
        yield f"{plural(count, 'row')} too long for seq_len were dropped in training"
    if count := facts.get("n_truncated"):
        yield f"{plural(count, 'row')} too long for seq_len were truncated in training"


def _predictions(record: RunRecord, fields: Mapping[str, Any]) -> Iterator[str]:
    if count := fields.get("n_skipped"):
        yield f"{plural(count, 'eval item')} have no prediction and count 0"
    artifact = artifact_of(record, "scorecard")
    rows = read_jsonl(artifact, "predictions.jsonl") if artifact else []
    if count := sum(row.get("finish_reason") == "length" for row in rows):
        yield f"{plural(count, 'prediction')} stopped at max_new_tokens before the end of the answer"


def _circumstances(record: RunRecord) -> Iterator[str]:
    for path, value in sorted(record.overrides.items()):
        yield f"{path} was set to {value!r} on the command line"
    if record.environment.get("commit_dirty"):
        yield "the checkout had uncommitted changes (their digest is diff_sha256)"
    smoke = artifact_of(record, "smoke_report")
    for line in smoke.facts.get("not_proved", []) if smoke else []:
        yield f"the smoke run did not prove {line}"
