"""The manifest of the data set against arguments, section and files of its step, and against itself; a part of V27.

In: the evidence and its record. Out: what differs, a sentence each. The rows are not in the evidence: their number, ids and sums
must agree with each other, and with what the step and the run-spec say.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.artifacts.journal import RunRecord
from engine.canonical import JsonMapping, JsonObject
from engine.data.lineage import SAMPLES
from engine.data.manifest import DATASET_SCHEMA_VERSION, NOT_APPLICABLE, build_id, reasons_for_null
from engine.evidence.contents import Broken, Evidence, changes


def manifest_problems(evidence: Evidence, record: RunRecord) -> Iterator[str]:
    """What is not as it must be."""
    manifest = evidence.json("dataset_manifest.json")
    expected = _expected(record)
    yield from changes(expected, {name: manifest[name] for name in expected})
    for name, value in _provenance(record).items():
        yield from changes(value, manifest["provenance"][name], f"provenance.{name}")
    reasons = reasons_for_null(
        is_built=manifest["builder"] is not None, was_compared=manifest["lineage"]["n_overlap"] is not None
    )
    yield from changes(reasons, manifest["not_applicable"], "not_applicable")
    yield from _rows(manifest)
    yield from _lengths(manifest)


def _expected(record: RunRecord) -> JsonObject:
    step = record.step_of("build_dataset")
    if step is None:
        raise Broken("run_record.json has no build_dataset step")
    section, args, files = step.artifact.ingredients["spec"]["dataset"], step.args, step.artifact.files
    declared, builder = section["declared"], section["builder"]
    digests = {name: files[name] for name in ("dataset.jsonl", "rows.jsonl")}
    expected = {
        "dataset_key": record.dataset,
        "dataset_name": record.dataset,
        "build_id": build_id(record.dataset, digests["dataset.jsonl"], digests["rows.jsonl"]),
        "dataset_version": builder or "1",
        "dataset_schema_version": DATASET_SCHEMA_VERSION,
        "selection_strategy": "all",
        "filters": {"on_duplicate": args["on_duplicate"], "on_overlap": args["on_overlap"]},
        "seed": args["seed"] if builder else None,
        "files": digests,
        "builder": {"name": declared["name"], "version": builder} if builder else None,
        **dict.fromkeys(NOT_APPLICABLE),
    }
    if declared["hub"] is None:
        expected["source_sha256"] = section["content"]
    return expected


def _provenance(record: RunRecord) -> JsonObject:
    step = record.step_of("build_dataset")
    section = {} if step is None else step.artifact.ingredients["spec"]["dataset"]
    declared, builder = section["declared"], section["builder"]
    return {
        "source": f"builder {declared['name']}" if builder else f"file {record.dataset}",
        "deterministic": True,
        "schema": declared["format"],
        "fields": declared["fields"],
    }


def _rows(manifest: JsonMapping) -> Iterator[str]:
    """Rows that were read, dropped, repeated and kept."""
    ids, lineage, count = manifest["trace_ids"], manifest["lineage"], manifest["trace_count"]
    if len(ids) != count:
        yield f"trace_count is {count}, and there are {len(ids)} trace_ids"
    if lineage["n_read"] != count + lineage["n_dropped"]:
        yield "lineage.n_read is not the rows that are there and those that were dropped"
    dropped = 0
    for policy, n, kind in (("on_duplicate", "n_duplicates", "duplicate"), ("on_overlap", "n_overlap", "overlap")):
        found, samples = lineage[n] or 0, lineage[f"{kind}_samples"]
        declared = manifest["filters"][policy]
        dropped += found if declared == "drop" else 0
        if found and declared == "fail":
            yield f"lineage.{n} is {found}, and {policy}: fail was declared"
        if len(samples) != min(found, SAMPLES):
            yield f"lineage.{kind}_samples has {len(samples)} of {found}"
        if declared == "keep" and any(sample["id"] not in ids for sample in samples):
            yield f"lineage.{kind}_samples names a row that is not among trace_ids"
    if lineage["n_dropped"] != dropped:
        yield f"lineage.n_dropped is {lineage['n_dropped']}, and the declared filters drop {dropped} of these rows"
    for name in ("composition", "task_types"):
        if sum(manifest["stats"][name].values()) > count:
            yield f"stats.{name} counts more than {count} rows"


def _lengths(manifest: JsonMapping) -> Iterator[str]:
    """Lengths are in order, their mean is that of their sum, and what is trained of a row is not longer than the row."""
    stats, count = manifest["stats"], manifest["trace_count"]
    for name in ("row_characters", "trained_characters", "prompt_characters"):
        of = stats[name]
        if not 0 <= of["min"] <= of["median"] <= of["max"]:
            yield f"stats.{name} are not in order"
        if of["mean"] != round(of["sum"] / count, 2):
            yield f"stats.{name}.mean is not the sum over the rows"
        # The median is the last of the lower half, and one row is the longest.
        low, high = (count + 1) // 2, count // 2
        least = (low - 1) * of["min"] + of["median"] + (high - 1) * of["median"] + of["max"] if high else of["max"]
        most = of["min"] + (low - 1) * of["median"] + high * of["max"]
        if not least <= of["sum"] <= most:
            yield f"stats.{name}.sum is not possible with this least, median and most"
    row, trained = stats["row_characters"], stats["trained_characters"]
    if any(trained[name] > row[name] for name in ("min", "median", "max", "sum")):
        yield "stats.trained_characters are larger than those of the rows"
