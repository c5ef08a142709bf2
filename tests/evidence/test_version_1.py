"""Evidence of version 1 says what nobody looks at in it, and evidence of version 2 that was taken back to it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.evidence.bundle import Bundle
from engine.evidence.verify import verify_bundle
from tests.evidence.forger import files_of, parsed, sealed, written
from tests.fixtures import version_1

COMMITTED = version_1.EVIDENCE
LOG = "kaggle_output_log.txt"


@pytest.fixture
def committed() -> dict[str, bytes]:
    """The evidence of version 1 that the project keeps."""
    return files_of(COMMITTED)


def _checks(files: dict[str, bytes]) -> dict[str, str]:
    return {check.id: f"{check.status}: {check.detail}" for check in verify_bundle(Bundle("folder", files)).checks}


def test_v25_says_what_it_did_not_look_at(committed: dict[str, bytes]) -> None:
    """A line put into the log passes, and the answer says that any line may have been."""
    said = "pass: version 1 names no templates, so no bytes are compared: the values of run_manifest.json and eval_summary.json follow"
    doubt = f"; of {LOG} RESULT SUMMARY, losses, devices and versions alone were compared, and any other line may have been changed"
    assert _checks(committed)["V25"] == said  # the log has, moreover, the bytes that this engine gives
    added = sealed({**committed, LOG: b"this run was witnessed\n" + committed[LOG]})
    assert _checks(added)["V25"] == said + doubt
    other = sealed({**committed, "claims.txt": b"all went well\n"})
    assert _checks(other)["V25"] == f"{said}; nothing in claims.txt was looked at"


def _engine(record: Any) -> None:
    record["environment"]["engine"] = "0.2.0"


def _processor(record: Any) -> None:
    record["environment"]["processor"] = "a processor (avx2)"


def _generate(record: Any) -> None:
    for step in record["steps"]:
        if step["uses"] == "generate":
            step["ingredients"]["version"] = 4


def _dataset(record: Any) -> None:
    record["steps"][0]["ingredients"]["version"] = 4


TRACES: list[tuple[Callable[[Any], None], str]] = [
    (_engine, "the record says version 1, and has engine '0.2.0', which writes version 2"),
    (_processor, "the record says version 1, and has environment.processor, which came with version 2"),
    (_generate, "step predict: generate version 4 does not go with evidence version 1"),
    (_dataset, "step dataset: build_dataset version 4 does not go with evidence version 1"),
]


@pytest.mark.parametrize(("change", "finding"), TRACES)
def test_what_only_version_2_has_is_found(committed: dict[str, bytes], change: Any, finding: str) -> None:
    """V06, whatever else says so."""
    record = parsed(committed, "run_record.json")
    change(record)
    assert finding in _checks(sealed({**committed, "run_record.json": written("run_record.json", record)}))["V06"]


def test_rows_with_their_prompts_are_of_version_2(committed: dict[str, bytes]) -> None:
    """V10: version 1 had digests alone."""
    rows = [{**row, "prompt": "x"} for row in parsed(committed, "predictions.jsonl")]
    files = sealed({**committed, "predictions.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()})
    assert "it has its prompt, as evidence of version 2 has, and the record says version 1" in _checks(files)["V10"]
