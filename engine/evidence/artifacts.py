"""Look-ups in a run record: which step made an artifact of a type, and what its small files say.

A step is found by the type of what it made, not by its kind: an installed package may bring another kind of
training, and the evidence of its run is the same.

    >>> parse_jsonl('{"a": 1}\\n{"a": 2}\\n')
    [{'a': 1}, {'a': 2}]
"""

from __future__ import annotations

import json
from typing import Any

from engine.canonical import digest_bytes
from engine.errors import EvidenceIncomplete
from engine.record import RunRecord, StepRecord
from engine.store import Artifact


def step_making(record: RunRecord, type_: str) -> StepRecord | None:
    """The last step whose artifact is of this type."""
    found = [step for step in record.steps if step.artifact.type == type_]
    return found[-1] if found else None


def artifact_of(record: RunRecord, type_: str) -> Artifact | None:
    """The last artifact of this type."""
    step = step_making(record, type_)
    return step.artifact if step else None


def read_published(artifact: Artifact, name: str) -> bytes:
    """A file of an artifact as it was published. Raises E103 where it is gone, E104 where it has changed."""
    where = f"{artifact.type} artifact {artifact.fingerprint[:12]}"
    hint = f"runspec run again with --force for the step of kind {artifact.kind}"
    if name not in artifact.files:
        raise EvidenceIncomplete("E103", f"the {where} has no file {name}", hint=hint)
    try:
        data = artifact.file(name).read_bytes()
    except OSError as error:
        raise EvidenceIncomplete(
            "E103", f"{name} of the {where} cannot be read: {error.strerror}", hint=hint
        ) from error
    if digest_bytes(data) != artifact.files[name]:
        raise EvidenceIncomplete(
            "E104", f"{name} of the {where} is not what was published: its digest has changed", hint=hint
        )
    return data


def read_json(artifact: Artifact, name: str) -> Any:
    """A JSON file of an artifact."""
    return _parsed(artifact, name, json.loads)


def read_jsonl(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file of an artifact."""
    rows: list[dict[str, Any]] = _parsed(artifact, name, parse_jsonl)
    return rows


def parse_jsonl(text: str) -> list[dict[str, Any]]:
    """The rows of JSONL text."""
    return [json.loads(line) for line in text.split("\n") if line]


def _parsed(artifact: Artifact, name: str, parse: Any) -> Any:
    try:
        return parse(read_published(artifact, name).decode("utf-8"))
    except ValueError as error:
        raise EvidenceIncomplete(
            "E103", f"{name} of the {artifact.type} artifact is not what it should be: {error}"
        ) from error
