"""Values that limit each other: no training run and no smoke run gives these, whatever it was run on. A part of V03.

In: the evidence, whose fields are those of the schemas. Out: a sentence for each limit that is broken, which names the file, the
field and the limit. What follows exactly from other files is compared elsewhere (V13, V27); this is what nothing
in the evidence shows, and what still cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.canonical import JsonMapping
from engine.evidence.contents import Evidence

ROUNDING = 1e-4  # of seconds, which have six digits
# Fields of the training report that are null for a reason, and never without one.
MEASURED = ("mfu", "device_peak_bytes", "peak_flops_per_device", "step_seconds")
# file -> (field, the field that it is not above)
NOT_ABOVE = {
    "train_report.json": (
        ("longest_row_tokens", "seq_len"),
        ("exported_train_step", "num_train_steps"),
        ("tokens_trained", "tokens_seen"),
        ("n_skipped_steps", "num_train_steps"),
        ("n_non_finite_evals", "num_train_steps"),
    ),
    "smoke_report.json": (("killed_at", "num_train_steps"), ("resumed_from", "num_train_steps")),
}


def impossible(evidence: Evidence) -> Iterator[str]:
    """What cannot be."""
    for name, limits in NOT_ABOVE.items():
        if name in evidence.bundle.files:
            yield from _limits(name, evidence.json(name), limits)
    if "train_report.json" in evidence.bundle.files:
        yield from _reasons(evidence.json("train_report.json"))
    if "metrics.jsonl" in evidence.bundle.files:
        yield from _rows(evidence.metrics)


def _limits(name: str, values: JsonMapping, limits: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for field, limit in limits:
        value, most = values.get(field), values.get(limit)
        if value is not None and most is not None and value > most:
            yield f"{name}: {field} is {value}, more than {limit}, {most}"


def _reasons(report: JsonMapping) -> Iterator[str]:
    """A reason stands beside null, and beside nothing else."""
    reasons = report["not_applicable"]
    for field in sorted({*MEASURED, *reasons}):
        if report[field] is not None and field in reasons:
            yield f"train_report.json: {field} has a value and a reason for having none"
        elif report[field] is None and field not in reasons:
            yield f"train_report.json: {field} is null, without a reason"
    if (report["peak_flops_per_device"] is None) != (report["peak_flops_source"] is None):
        yield "train_report.json: peak_flops_per_device and its source are both there, or neither is"


def _rows(rows: Sequence[JsonMapping]) -> Iterator[str]:
    """A step waits for its batch within its own seconds or those of the step before."""
    before = 0.0
    for number, row in enumerate(rows, start=1):
        where = f"metrics.jsonl, line {number}"
        if row["input_wait_seconds"] > max(before, row["seconds"]) + ROUNDING:
            yield f"{where}: input_wait_seconds is {row['input_wait_seconds']}, longer than the steps that it is part of"
        if row.get("device_bytes_in_use", 0) > row.get("device_peak_bytes", 0):
            yield f"{where}: device_bytes_in_use is {row['device_bytes_in_use']}, more than device_peak_bytes"
        nulls = {name for name in ("loss", "grad_norm", "eval_loss") if name in row and row[name] is None}
        if nulls != set(row.get("non_finite", {})):
            yield f"{where}: non_finite does not say what its null columns were"
        if row["loss"] is None and not row.get("skipped"):
            yield f"{where}: the loss is not finite, and the step was not skipped"
        before = row["seconds"]
