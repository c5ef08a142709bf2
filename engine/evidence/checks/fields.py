"""V03: every JSON file of the evidence has the fields that its schema knows and no other, with possible values.

In: the evidence. Out: the check's answer; a finding names the file, the path in it and the value. The schemas
(``schemas/evidence``, ``schemas/dataset_manifest.schema.json``) say fields, kinds and ranges; beyond them a count is written as a
whole number, zero without a sign, values that limit each other do (:mod:`engine.evidence.checks.possible`), and the bytes are those
that the engine writes. The rows of predictions.jsonl are compared whole by V11; eval_set.jsonl is its author's own.

    >>> list(field_problems("smoke_report.json", {"proved": ["x"], "note": "witnessed"}))[0]
    "the document: Additional properties are not allowed ('note' was unexpected)"
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from engine.canonical import jsonl_bytes, pretty_json
from engine.evidence.checks.json_schema import inexact_numbers
from engine.evidence.checks.possible import impossible
from engine.evidence.contents import OTHER_FORM, Answer, Evidence, answer
from engine.evidence.folder import PLATFORM
from engine.evidence.render import MOST_ERRORS, error_text, schema_of, schema_problems

ALWAYS = ("run_manifest.json", "eval_summary.json")
WHERE_PRESENT = (
    "scorecard.json",
    "run_record.json",
    "train_report.json",
    "smoke_report.json",
    "dataset_manifest.json",
    PLATFORM,
)
ROWS = "metrics.jsonl"


def schemas_hold(evidence: Evidence) -> Answer:
    """V03."""
    names = [*ALWAYS, *(name for name in WHERE_PRESENT if name in evidence.bundle.files)]
    problems = [f"{name}: {problem}" for name in names for problem in field_problems(name, evidence.json(name))]
    if ROWS in evidence.bundle.files:
        problems += islice(_row_problems(evidence), MOST_ERRORS)
        names.append(ROWS)
    if not problems:
        problems = list(islice(impossible(evidence), MOST_ERRORS))
    if not problems:
        problems = [f"{name} {OTHER_FORM}" for name in names if evidence.text(name) != _written(evidence, name)]
    return answer(problems, ", ".join(names))


def _written(evidence: Evidence, name: str) -> str:
    """The file as every step writes its values: one form, so that no bytes are anybody's to choose."""
    return jsonl_bytes(evidence.rows(name)).decode() if name == ROWS else pretty_json(evidence.json(name))


def field_problems(name: str, value: object) -> Iterator[str]:
    """Where a value is not what the schema of the file says."""
    yield from schema_problems(name, value)
    schema = schema_of(name)
    if schema is not None:
        yield from (error_text(error) for error in islice(inexact_numbers(value, schema), MOST_ERRORS))


def _row_problems(evidence: Evidence) -> Iterator[str]:
    for number, row in enumerate(evidence.rows(ROWS), start=1):
        yield from (f"{ROWS}, line {number}: {problem}" for problem in field_problems(ROWS, row))
