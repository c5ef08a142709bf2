"""Every JSON file has the fields that its schema knows and no other, and no value that cannot be, whatever is computed again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.evidence.bundle import Bundle
from engine.evidence.checks.fields import ROWS, WHERE_PRESENT, field_problems
from engine.evidence.checks.versions import BEGAN, BEGAN_WITH_2
from engine.evidence.folder import MANIFEST
from engine.evidence.verify import Check, verify_bundle
from engine.steps.registry import HANDLERS
from tests.evidence.forger import files_of, leaves, parsed, put, redone, with_all_that_follows

SMOKE = {
    "proved": ["2 train steps ran"], "not_proved": [], "num_train_steps": 2, "killed_at": 1, "resumed_from": 1,
    "longest_row_tokens": 8, "score_n_items": 4, "reduce": {}, "platform": "cpu",
}  # fmt: skip
NOTE = "this run was witnessed by a platform"
# (file, path of a key that nobody knows)
UNKNOWN = [
    ("train_report.json", "witness"), ("train_report.json", "topology.witness"), ("train_report.json", "step_seconds.witness"),
    ("train_report.json", "not_applicable.witness"), ("dataset_manifest.json", "witness"), ("dataset_manifest.json", "stats.witness"),
    ("dataset_manifest.json", "lineage.witness"), ("dataset_manifest.json", "provenance.witness"),
    ("metrics.jsonl", "0.witness"), ("metrics.jsonl", "3.non_finite"),
    ("run_record.json", "environment.witness"), ("run_record.json", "environment.libraries.seen by a platform"),
    ("run_record.json", "steps.1.witness"), ("run_record.json", "steps.1.ingredients.witness"),
    ("run_record.json", "steps.1.ingredients.spec.model.witness"), ("run_record.json", "steps.0.ingredients.spec.dataset.witness"),
    ("run_record.json", "steps.0.ingredients.spec.witness"), ("run_record.json", "steps.1.ingredients.environment.witness"),
    ("run_record.json", "steps.1.ingredients.ahead.witness"), ("run_record.json", "steps.1.ingredients.inputs.dataset.witness"),
    ("run_record.json", "steps.1.ingredients.with.witness"), ("run_record.json", "steps.1.files.seen by a platform"),
    ("run_record.json", "steps.3.facts.witness"), ("run_record.json", "steps.3.facts.on_duplicate_item"),
    ("run_record.json", "steps.0.facts.dataset_commit"),
]  # fmt: skip
# (file, path, a value that cannot be, the field in the finding)
IMPOSSIBLE = [
    ("metrics.jsonl", "1.loss", -3.0, "loss"), ("metrics.jsonl", "1.grad_norm", -1.0, "grad_norm"),
    ("metrics.jsonl", "1.seconds", -0.1, "seconds"), ("metrics.jsonl", "1.input_wait_seconds", -0.0, "input_wait_seconds"),
    ("metrics.jsonl", "1.input_wait_seconds", 7.5, "input_wait_seconds"), ("metrics.jsonl", "1.tokens", 9.0, "tokens"),
    ("metrics.jsonl", "1.warm_up", 1, "warm_up"), ("metrics.jsonl", "1.device_peak_bytes", -1, "device_peak_bytes"),
    ("metrics.jsonl", "1.mfu", 1.5, "mfu"), ("metrics.jsonl", "1.device_bytes_in_use", 5, "device_bytes_in_use"),
    ("metrics.jsonl", "1.loss", None, "loss"),
    ("train_report.json", "longest_row_tokens", 9, "longest_row_tokens"), ("train_report.json", "longest_row_tokens", 0, "longest_row_tokens"),
    ("train_report.json", "input_wait_share", 1e-9, "input_wait_share"), ("train_report.json", "real_token_share", 7.5, "real_token_share"), ("train_report.json", "input_wait_share", -0.5, "input_wait_share"),
    ("train_report.json", "n_boundary_merges", -1, "n_boundary_merges"), ("train_report.json", "n_dropped_pieces", 1.5, "n_dropped_pieces"),
    ("train_report.json", "process_peak_bytes", 0, "process_peak_bytes"), ("train_report.json", "model_flops_per_token", 1e6, "model_flops_per_token"),
    ("train_report.json", "platform", "seen by a platform", "platform"),
    ("train_report.json", "topology.processes", 0, "topology.processes"), ("train_report.json", "peak_flops_source", "a data sheet", "peak_flops"),
    ("train_report.json", "not_applicable.final_eval_loss", 3, "final_eval_loss"), ("train_report.json", "model_commit", "main", "model_commit"),
    ("dataset_manifest.json", "lineage.n_read", -9, "n_read"), ("dataset_manifest.json", "stats.row_characters.min", -0.0, "min"),
    ("dataset_manifest.json", "trace_ids", ["a"] * 9, "trace_ids"),
    ("run_record.json", "environment.cpu_count", 0, "cpu_count"), ("run_record.json", "environment.cpu_count", 2.0, "cpu_count"),
    ("run_record.json", "environment.engine", "0.1.0, witnessed", "engine"),
    ("scorecard.json", "stddev", -0.0, "stddev"), ("scorecard.json", "n_skipped", 0.0, "n_skipped"), ("scorecard.json", "n_items", 5.0, "n_items"),
    ("predictions.jsonl", "0.milliseconds", -0.0, "q0"), ("predictions.jsonl", "0.prompt_tokens", 10**9, "q0"),
]  # fmt: skip


def some(cases: Sequence[Any], every: int) -> list[Any]:
    """The cases, of which only so manyth ones are quick: each is rendered, chained and checked as a whole."""
    return [pytest.param(*case, marks=() if n % every == 0 else pytest.mark.slow) for n, case in enumerate(cases)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Evidence as a run leaves it."""
    from engine.assets import asset
    from engine.evidence import render_evidence
    from tests.evidence.conftest import FILES, build

    root = tmp_path_factory.mktemp("fields")
    record: RunRecord = build(root)
    render_evidence(record, FILES, root / "evidence", template_dirs=[asset("templates")])
    return files_of(root / "evidence")


def failed(files: dict[str, bytes]) -> list[Check]:
    return verify_bundle(Bundle("folder", files)).failed


@pytest.mark.parametrize(("file", "path"), some(UNKNOWN, 5), ids=lambda value: str(value)[-60:])
def test_a_key_that_nobody_knows_is_a_finding(good: dict[str, bytes], file: str, path: str) -> None:
    """In every file and at every depth, with all digests and renderings made again; the finding names the key."""
    found = failed(put(good, file, path, NOTE))
    key = path.rpartition(".")[2]
    assert any(key in check.detail for check in found), found


@pytest.mark.parametrize(("file", "path", "value", "field"), some(IMPOSSIBLE, 6), ids=lambda value: str(value)[-60:])
def test_a_value_that_cannot_be_is_a_finding(
    good: dict[str, bytes], file: str, path: str, value: Any, field: str
) -> None:
    """Although nothing in the evidence shows the right one; the finding names the field."""
    found = failed(put(good, file, path, value))
    assert any(field in check.detail for check in found), found


@pytest.mark.parametrize(
    "name", [name for name in (*WHERE_PRESENT, ROWS) if name not in ("smoke_report.json", "platform.json")]
)
def test_every_object_of_every_schema_is_closed(good: dict[str, bytes], name: str) -> None:
    """A key put into any object of a file is unknown to its schema, but for those that a check compares whole."""
    compared = ("with", "declared", "facts", "overrides", "ahead", "inputs", "templates", "libraries", "environment", "mesh", "files",
                "section_scores", "category_scores", "difficulty_scores", "composition", "task_types", "unused_fields", "fields",
                "not_applicable")  # fmt: skip
    value = parsed(good, name)
    document = value if name.endswith(".json") else value[0]
    assert list(field_problems(name, document)) == []
    parents = {path[:end] for path in leaves(document) for end in range(len(path))}
    opened = [path for path in parents if not {*map(str, path)} & {*compared}]
    assert opened
    for path in opened:
        changed = json.loads(json.dumps(document))
        target = changed
        for part in path:
            target = target[part]
        if isinstance(target, dict):
            target["witness"] = NOTE
            assert list(field_problems(name, changed)), path


def spelled_otherwise(data: bytes) -> dict[str, bytes]:
    """The same values in other bytes."""
    text = data.decode()
    return {
        "a line more": data + b"\n",
        "a space more": data.replace(b'": ', b'":  ', 1),
        "a digit more": re.sub(r": (-?\d+\.\d+)", r": \g<1>0", text, count=1).encode(),
        "an escape": re.sub(r'": "(\w)', lambda match: f'": "\\u{ord(match[1]):04x}', text, count=1).encode(),
    }


@pytest.mark.parametrize(
    ("name", "check"),
    some([*((name, "V03") for name in ("scorecard.json", "metrics.jsonl", "train_report.json", "dataset_manifest.json")),
          ("predictions.jsonl", "V11")], 4),
)  # fmt: skip
def test_a_file_has_the_bytes_that_a_step_writes(good: dict[str, bytes], name: str, check: str) -> None:
    """The same values spelled otherwise, with every digest redone: no byte is anybody's to choose."""
    for what, data in spelled_otherwise(good[name]).items():
        if data != good[name]:
            found = failed(redone({**good, name: data}, parsed(good, "run_record.json")))
            assert check in {one.id for one in found}, (what, found)


def test_the_list_of_digests_has_the_bytes_that_the_engine_writes(good: dict[str, bytes]) -> None:
    """A line more or less, or another order, although each line is right."""
    lines = good[MANIFEST].splitlines(keepends=True)
    for text in (good[MANIFEST] + b"\n", good[MANIFEST].removesuffix(b"\n"), b"".join(reversed(lines))):
        assert [check.id for check in failed({**good, MANIFEST: text})] == ["V02"]


def test_a_smoke_report_is_held_to_its_limits() -> None:
    """Fields, counts and the steps at which it was killed and resumed."""
    assert list(field_problems("smoke_report.json", SMOKE)) == []
    for name, value in (
        ("note", NOTE),
        ("killed_at", 0),
        ("killed_at", -1),
        ("score_n_items", 4.0),
        ("proved", NOTE),
        ("platform", NOTE),
    ):
        assert list(field_problems("smoke_report.json", {**SMOKE, name: value})), name


@pytest.mark.parametrize(
    ("step", "name"), some([(1, "lora_rank"), (1, "on_long_row"), (2, "top_p"), (0, "on_overlap")], 4)
)
def test_an_older_version_of_a_step_hides_no_argument(good: dict[str, bytes], step: int, name: str) -> None:
    """With any version that is claimed: a default that today's kind has is there, and evidence of version 2 has no older kinds."""
    for version in (1, 3, 4):
        record = parsed(good, "run_record.json")
        values = record["steps"][step]
        values["ingredients"]["version"] = version
        for arguments in (values["with"], values["ingredients"]["with"]):
            del arguments[name]
        assert failed(with_all_that_follows(good, "run_record.json", record)), version


@pytest.mark.slow
def test_a_fact_cannot_be_left_out(good: dict[str, bytes]) -> None:
    """Also one that is 0 or null, of the report and its file alike."""
    record = parsed(good, "run_record.json")
    for number, step in enumerate(record["steps"]):
        for name in step["facts"]:
            changed = json.loads(json.dumps(record))
            del changed["steps"][number]["facts"][name]
            assert list(_unfit(good, changed)), (step["id"], name)


def _unfit(good: dict[str, bytes], record: Any) -> list[Check]:
    """The checks that fail, or that this cannot even be rendered."""
    from engine.errors import RunspecError

    try:
        return failed(with_all_that_follows(good, "run_record.json", record))
    except (RunspecError, KeyError):
        return [Check("E", "", "fail", "not even rendered")]


def test_versions_of_kinds_are_those_that_there_are() -> None:
    """The table of where evidence version 2 began names kinds of this engine, none of a version to come."""
    for kind, version in BEGAN.items():
        assert 1 <= version <= HANDLERS[kind].version
    assert set(BEGAN_WITH_2) <= set(BEGAN)
