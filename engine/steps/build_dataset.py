"""``build_dataset``: a named builder, a person's own file, or a file from the hub, as one dataset artifact.

In: the spec's dataset and eval set. Out: a dataset artifact (``dataset.jsonl``, ``rows.jsonl`` and
``manifest.json``). Duplicates, overlap with the eval set and dropped rows are counted, reported and recorded;
overlap fails the step unless the spec declares what to do about it.
"""

from __future__ import annotations

from pathlib import Path

from engine.canonical import digest_file
from engine.data import (
    DatasetRow,
    DatasetSource,
    Prepared,
    build,
    builder_source,
    prepare,
    read_eval_set,
    read_rows,
    trace_rows,
    write_dataset,
)
from engine.runspec.model import DatasetSpec
from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.hub_dataset import fetch_dataset_file
from engine.steps.schemas import step_schema


def run(ctx: StepContext) -> StepResult:
    """Build or read, count duplicates and overlap, render, write."""
    rows, source, facts = _rows(ctx)
    items = read_eval_set(ctx.spec.resolve(ctx.spec.eval_set), on_duplicate=ctx.spec.on_duplicate_item)
    prepared = prepare(
        rows,
        items,
        on_duplicate=ctx.args["on_duplicate"],
        on_overlap=ctx.args["on_overlap"],
        file=ctx.spec.dataset.path or ctx.spec.dataset.label,
    )
    for line in _counts(prepared):
        ctx.note(line)
    written = write_dataset(ctx.out, prepared, source=source)
    return StepResult({**written.facts, **facts})


def _rows(ctx: StepContext) -> tuple[list[DatasetRow], DatasetSource, dict[str, str]]:
    """The rows, where they come from, and facts that only a hub dataset has."""
    dataset = ctx.spec.dataset
    if dataset.name is not None:
        seed = ctx.args["seed"]
        traces = build(dataset.name, seed=seed, num_rows=ctx.args["num_rows"])
        return list(trace_rows(traces)), builder_source(dataset.name, seed=seed), {}
    if dataset.hub is None:
        rows, source = _from_file(dataset, ctx.spec.resolve(dataset.path or ""))
        return rows, source, {}
    path, commit = fetch_dataset_file(ctx)
    rows, source = _from_file(dataset, path)
    return rows, source, {"dataset_commit": commit}


def _from_file(dataset: DatasetSpec, path: Path) -> tuple[list[DatasetRow], DatasetSource]:
    rows = read_rows(path, dataset.format, dataset.fields)
    source = DatasetSource(
        dataset=dataset.label, format=dataset.format, file_sha256=digest_file(path), fields=dict(dataset.fields)
    )
    return rows, source


def _counts(prepared: Prepared) -> list[str]:
    lines = [f"{len(prepared.rows)} rows"]
    if prepared.n_duplicates:
        verb = "dropped" if prepared.on_duplicate == "drop" else "kept"
        lines.append(f"{prepared.n_duplicates} rows repeat the prompt of an earlier row ({verb})")
    if prepared.n_overlap:
        verb = "dropped" if prepared.on_overlap == "drop" else "KEPT: the score will say so"
        lines.append(f"{prepared.n_overlap} rows ask what the eval set asks ({verb})")
    if prepared.n_dropped:
        lines.append(f"{prepared.n_dropped} of {prepared.n_read} rows dropped")
    return lines


HANDLER = FunctionHandler(
    kind="build_dataset",
    version=3,
    title="build the dataset",
    makes="dataset",
    files=("dataset.jsonl", "rows.jsonl", "manifest.json"),
    reads=("dataset", "eval_set"),
    schema=step_schema("build_dataset"),
    function=run,
)
