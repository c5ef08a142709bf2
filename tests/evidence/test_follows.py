"""Numbers of the evidence that follow from others: each law holds for what the engine writes, and fails for one number changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.artifacts.journal import RunRecord
from engine.data.manifest import length_stats
from engine.evidence import verify
from engine.evidence.checks.dataset import _lengths
from engine.evidence.checks.training import FLOAT32, _percentiles, rate


@given(
    st.sampled_from(["constant", "linear", "cosine"]), st.integers(1, 400), st.integers(0, 400), st.floats(1e-6, 1.0)
)
def test_the_rate_is_that_of_the_optimizers_schedule(schedule: str, steps: int, warmup: int, peak: float) -> None:
    """Within what float32 sums and cosines are off, at every train step."""
    from engine.trainer.optim.schedule import make_schedule

    warmup = min(warmup, steps)
    args = {"learning_rate": peak, "lr_schedule": schedule, "num_train_steps": steps, "warmup_steps": warmup}
    real = make_schedule(schedule, peak, num_train_steps=steps, warmup_steps=warmup)
    for train_step in {1, 2, warmup, warmup + 1, (warmup + steps) // 2, steps} - {0}:
        if train_step <= steps:
            found = float(np.float32(real(train_step - 1)))
            assert abs(found - rate(args, train_step)) <= FLOAT32 * peak


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50))
def test_percentiles_are_those_of_the_report(seconds: list[float]) -> None:
    """The trainer's own function over the same rows, with a first row of warm-up and one under the profiler."""
    from engine.trainer.tracking.throughput import step_seconds

    rows: list[dict[str, Any]] = [{"seconds": 9.0, "warm_up": True}, *({"seconds": value} for value in seconds)]
    rows.append({"seconds": 7.0, "profiled": True})
    found, real = _percentiles(rows), step_seconds(rows)
    assert found is not None
    assert real is not None
    assert found.pop("warm_up") == real.pop("warm_up")
    assert found == pytest.approx(real, abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=9))
def test_lengths_of_any_rows_are_possible(rows: list[tuple[int, int, int]]) -> None:
    """Rows of (trained, the rest, prompt) characters."""
    stats = {
        "row_characters": length_stats([trained + rest for trained, rest, _ in rows]),
        "trained_characters": length_stats([trained for trained, _, _ in rows]),
        "prompt_characters": length_stats([prompt for _, _, prompt in rows]),
    }
    manifest = {"stats": stats, "trace_count": len(rows)}
    assert list(_lengths(manifest)) == []
    stats["row_characters"]["sum"] = stats["row_characters"]["max"] * len(rows) + 1
    assert list(_lengths(manifest))


ONE_NUMBER = [
    ("metrics.jsonl", "1.learning_rate", 2e-3, "V13", "train step 2 has the learning rate 0.002, and 0.001 was declared"),
    ("metrics.jsonl", "1.tokens_per_second", 94.9, "V13", "tokens_per_second times seconds is 9.4900, no number of tokens"),
    ("metrics.jsonl", "1.tokens", 17, "V13", "train step 2: 17 trained of 9 tokens do not fit a batch of 16"),
    ("train_report.json", "tokens_seen", 37, "V13", "tokens_seen is 37, and the rows have 36"),
    ("train_report.json", "step_seconds.p90", 0.2, "V13", "step_seconds.p90: 0.1 -> 0.2"),
    ("train_report.json", "n_rows", 10, "V13", "n_rows: 9 -> 10"),
    ("train_report.json", "params", 3, "V13", "params: 2552 -> 3"),
    ("train_report.json", "sequences_per_train_step", 4, "V13", "sequences_per_train_step: 2 -> 4"),
    ("train_report.json", "topology.devices", 8, "V13", "topology.devices: 1 -> 8"),
    ("train_report.json", "mfu", 0.4, "V13", "mfu: None -> 0.4"),
    ("predictions.jsonl", "0.new_tokens", 999, "V09", "q0: 999 tokens, ended by 'eos', of 256 at most"),
    ("predictions.jsonl", "0.finish_reason", "length", "V09", "q0: 4 tokens, ended by 'length', of 256 at most"),
    ("dataset_manifest.json", "lineage.n_duplicates", 2, "V27", "lineage.duplicate_samples has 1 of 2"),
    ("dataset_manifest.json", "stats.row_characters.sum", 1, "V27", "stats.row_characters.mean is not the sum over the rows"),
    ("dataset_manifest.json", "provenance.deterministic", False, "V27", "provenance.deterministic: True -> False"),
    ("dataset_manifest.json", "not_applicable.created_at", "because", "V27", "not_applicable.created_at"),
    ("run_record.json", "command", "ssh gpu runspec run runspecs/toy.yaml", "V06", "the command begins with 'ssh'"),
    ("run_record.json", "command", "runspec run runspecs/toy.yaml 'a\n\nTrust level: L3'", "V06", "is neither an option, an override nor the run-spec"),
    ("run_record.json", "command", "runspec run runspecs/toy.yaml --on 8xH100", "V06", "no evidence is of a run with --on"),
    ("run_record.json", "command", "runspec run runspecs/toy.yaml on 8xH100", "V06", "on is neither an option, an override nor the run-spec"),
    ("run_record.json", "command", "runspec run runspecs/toy.yaml --from H100", "V06", "--from names 'H100', which is not a step of the run-spec"),
    ("run_record.json", "command", "runspec launch runspecs/toy.yaml", "V06", "the command is 'launch', and evidence is of runspec run"),
    ("run_record.json", "command", "runspec run runspecs/toy.yaml --quiet=8xH100", "V06", "--quiet has no value"),
    ("run_record.json", "command", "runspec run runspecs/toy.yaml -- toy.yaml", "V06", "the command names 2 run-specs"),
    ("run_record.json", "started_at", "2025-02-31T03:04:00 ", "V08", "'2025-02-31T03:04:00 ' is no time of the form"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "path", "value", "id_", "finding"), ONE_NUMBER, ids=lambda value: str(value)[:40])
def test_one_number_is_found_by_the_check_that_computes_it(
    record: RunRecord, render: Any, reseal: Any, file: str, path: str, value: Any, id_: str, finding: str
) -> None:
    """Whatever other checks say: this one names it."""
    folder: Path = render(record)
    text = (folder / file).read_text()
    document = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    target = document
    *parents, last = path.split(".")
    for part in parents:
        target = target[int(part) if part.isdigit() else part]
    target[last] = value
    (folder / file).write_text(
        json.dumps(document) if file.endswith(".json") else "".join(json.dumps(row) + "\n" for row in document)
    )
    reseal(folder)
    [check] = [check for check in verify(folder).checks if check.id == id_]
    assert check.status == "fail"
    assert finding in check.detail
