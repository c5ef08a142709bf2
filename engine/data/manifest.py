"""A dataset on disk: dataset.jsonl, rows.jsonl and the manifest that binds them.

In: prepared rows and their source. Out: three files whose bytes depend on
nothing else (not on the clock, the machine or the hash seed), and the facts of the build.

    write_dataset(out, prepared, source=source)

``build_id`` is a UUIDv5 of the content, so two builds of the same rows have the same one. Fields that a
build cannot know (``created_at``, the ids of a session or a training run) are null, with the reason
under ``not_applicable``; the run record has them.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import JsonMapping, JsonObject, digest_bytes, digest_file, jsonl_bytes, pretty_json, write_atomic
from engine.data.lineage import Prepared
from engine.data.model import DatasetRow, RenderedRow, RowFormat, Trace
from engine.data.render import render_rows
from engine.temporary import remove_leftovers

DATASET_SCHEMA_VERSION = "1.0"
DATASET_FILE, ROWS_FILE, MANIFEST_FILE = "dataset.jsonl", "rows.jsonl", "manifest.json"

# An arbitrary fixed value; it keeps these ids apart from other UUIDv5 of the same text.
_NAMESPACE = uuid.UUID("6f1e6a52-5b0c-5d0e-9a53-0d6b8f7c2b11")

NOT_APPLICABLE = {
    "created_at": "two builds of the same rows are byte-identical; the run record has the time",
    "session_id": "the engine has no sessions; the run record names the run",
    "parent_dataset_id": "not derived from another built dataset",
    "training_run_id": "the run that trains on it names this dataset, not the other way round",
}


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The source of the rows: a builder (``version`` and ``seed`` set) or a person's file."""

    dataset: str
    format: RowFormat
    purpose: str = "supervised fine-tuning"
    version: str | None = None
    seed: int | None = None
    builder: str | None = None
    file_sha256: str | None = None
    fields: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The facts of a build, as the ``dataset`` artifact carries them."""

    facts: JsonMapping
    manifest: JsonMapping


def write_dataset(
    out: Path, prepared: Prepared, *, source: DatasetSource, allow: Callable[[list[Path]], None] | None = None
) -> Written:
    """Render the rows and write the three files into ``out``. Raises OSError (disk full, no permission).

    ``allow`` is called with the files that would be lost, before anything is written: see :func:`of_other_origin`.
    """
    render, rendered = render_rows(prepared.rows, source.format)
    dataset = jsonl_bytes(row.body.as_json() for row in prepared.rows)
    rows = jsonl_bytes(row.as_json() for row in rendered)
    manifest = make_manifest(
        prepared,
        rendered,
        source=source,
        render=render,
        dataset_sha256=digest_bytes(dataset),
        rows_sha256=digest_bytes(rows),
    )
    manifest_bytes = pretty_json(manifest).encode()
    files = {DATASET_FILE: dataset, ROWS_FILE: rows, MANIFEST_FILE: manifest_bytes}
    if allow is not None:
        allow(of_other_origin(out, files))
    remove_leftovers(out, files.__contains__)
    for name, data in files.items():
        write_atomic(out / name, data)
    facts = {
        "dataset": source.dataset,
        "n_rows": len(rendered),
        "rows_sha256": digest_bytes(rows),
        "render": render,
        "n_duplicates": prepared.n_duplicates,
        "n_overlap": prepared.n_overlap,
        "n_dropped": prepared.n_dropped,
        "manifest_sha256": digest_bytes(manifest_bytes),
    }
    return Written(facts, manifest)


def of_other_origin(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """The files in the place of these that no build has written: not of the same bytes, and not those of the manifest there."""
    built = _built(out / MANIFEST_FILE)
    here = [(out / name, data) for name, data in files.items() if (out / name).is_file()]
    return [path for path, data in here if digest_file(path) not in {digest_bytes(data), built.get(path.name)}]


def _built(manifest: Path) -> Mapping[str, str]:
    """Name -> digest of the three files of the build whose manifest this is; empty where it is none, or was edited."""
    try:
        data = manifest.read_bytes() if manifest.is_file() else b""
        value = json.loads(data)
        files = dict(value["files"])
        is_own = value["build_id"] == build_id(value["dataset_key"], files[DATASET_FILE], files[ROWS_FILE])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return {}
    return {**files, manifest.name: digest_bytes(data)} if is_own and pretty_json(value).encode() == data else {}


def make_manifest(
    prepared: Prepared,
    rendered: Sequence[RenderedRow],
    *,
    source: DatasetSource,
    render: str,
    dataset_sha256: str,
    rows_sha256: str,
) -> JsonObject:
    """The manifest (schemas/dataset_manifest.schema.json): a pure function of its arguments."""
    builder = None if source.builder is None else {"name": source.builder, "version": source.version}
    return {
        "dataset_key": source.dataset,
        "build_id": build_id(source.dataset, dataset_sha256, rows_sha256),
        "dataset_name": source.dataset,
        "dataset_version": source.version or "1",
        "dataset_schema_version": DATASET_SCHEMA_VERSION,
        "created_at": None,
        "filters": {"on_duplicate": prepared.on_duplicate, "on_overlap": prepared.on_overlap},
        "selection_strategy": "all",
        "seed": source.seed,
        "trace_count": len(rendered),
        "stats": make_stats(prepared.rows, rendered),
        "lineage": prepared.lineage(),
        "render": render,
        "files": {DATASET_FILE: dataset_sha256, ROWS_FILE: rows_sha256},
        "source_sha256": source.file_sha256,
        "builder": builder,
        "session_id": None,
        "parent_dataset_id": None,
        "training_run_id": None,
        "provenance": {
            "source": f"builder {source.builder}" if source.builder else f"file {source.dataset}",
            "purpose": source.purpose,
            "deterministic": True,
            "schema": source.format,
            "fields": dict(source.fields or {}),
        },
        "not_applicable": reasons_for_null(
            is_built=source.builder is not None, was_compared=prepared.compared_with_eval_set
        ),
        "trace_ids": [row.id for row in prepared.rows],
    }


def reasons_for_null(*, is_built: bool, was_compared: bool) -> dict[str, str]:
    """Why fields of a manifest are null. ``is_built``: by a builder, not read from a file; ``was_compared``: with an eval set."""
    reasons = dict(NOT_APPLICABLE)
    if is_built:
        reasons["source_sha256"] = "made by a builder: there is no source file"
    else:
        reasons["seed"] = "read from a file: nothing was drawn"
        reasons["builder"] = "read from a file"
    if not was_compared:
        reasons["lineage.n_overlap"] = "there was no eval set to compare with"
    return reasons


def build_id(dataset: str, dataset_sha256: str, rows_sha256: str) -> str:
    """A UUIDv5 of the content: the same rows always have the same id."""
    return str(uuid.uuid5(_NAMESPACE, f"{dataset}\n{dataset_sha256}\n{rows_sha256}"))


def make_stats(rows: Sequence[DatasetRow], rendered: Sequence[RenderedRow]) -> JsonObject:
    """Composition and lengths (in characters) of the rows."""
    metas = [row.body.meta if isinstance(row.body, Trace) else {} for row in rows]
    trained = [sum(len(part.text) for part in row.segments if part.train) for row in rendered]
    return {
        "composition": _count(meta.get("category") for meta in metas),
        "task_types": _count(meta.get("task_type") for meta in metas),
        "row_characters": length_stats([len(row.text) for row in rendered]),
        "trained_characters": length_stats(trained),
        "prompt_characters": length_stats([len(row.prompt) for row in rows]),
        "unused_fields": _count(key for row in rows for key in row.unused),
    }


def _count(values: Iterable[object]) -> dict[str, int]:
    return dict(sorted(Counter(str(value) for value in values if value is not None).items()))


def length_stats(lengths: Sequence[int]) -> dict[str, float | int]:
    """Smallest, median, mean (2 decimals), largest and sum.

    >>> length_stats([1, 2, 9])
    {'min': 1, 'median': 2, 'mean': 4.0, 'max': 9, 'sum': 12}
    """
    ordered = sorted(lengths)
    total = sum(ordered)
    return {
        "min": ordered[0],
        "median": ordered[(len(ordered) - 1) // 2],
        "mean": round(total / len(ordered), 2),
        "max": ordered[-1],
        "sum": total,
    }
