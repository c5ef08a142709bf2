"""``dataset check``, ``dataset build``, ``evalset check``: data by itself, people's own files included."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands import Reply, pick
from engine.commands.loading import load
from engine.errors import Diagnostic, InputInvalid, RunFailed, RunspecError

if TYPE_CHECKING:
    from engine.data import DatasetReport, Row


def dataset_check(arguments: Namespace) -> Reply:
    """Check a file, or the dataset of a run-spec; 2 where anything is wrong."""
    if Path(arguments.file).suffix in (".yaml", ".yml"):
        report, rows, eval_set = _of_spec(arguments)
    else:
        report, rows = _of_file(Path(arguments.file), arguments.format or "trace", _fields(arguments.field))
        eval_set = Path(arguments.eval_set) if arguments.eval_set else None
    overlaps, problems = _overlaps(rows, eval_set) if report.ok else ([], [])
    every = [*report.diagnostics, *problems]
    document = {
        **report.as_json(),
        "ok": not every,
        "n_overlap": len(overlaps) if eval_set is not None else None,
        "diagnostics": [diagnostic.as_json() for diagnostic in every],
    }
    text = report.text()
    if eval_set is not None and report.ok:
        text += f"\n\nrows whose prompt is in {eval_set}: {len(overlaps)}"
    return Reply(document, text, 2 if every else 0, tuple(every))


def _fields(words: Sequence[str] | None) -> dict[str, str]:
    """``prompt=question`` words as a mapping."""
    fields: dict[str, str] = {}
    for word in words or ():
        ours, equals, theirs = word.partition("=")
        if not (ours and equals and theirs):
            raise InputInvalid("U117", f'--field wants OURS=YOURS, not "{word}"', hint="say --field prompt=question")
        fields[ours] = theirs
    return fields


def _of_file(path: Path, format_: str, fields: Mapping[str, str]) -> tuple[DatasetReport, list[Row]]:
    from engine.data import check_dataset, read_rows

    report = check_dataset(path, format_, fields)
    return report, list(read_rows(path, report.format, fields)) if report.ok else []


def _of_spec(arguments: Namespace) -> tuple[DatasetReport, list[Row], Path | None]:
    """The dataset that a run-spec names, as its build_dataset step would make it."""
    if arguments.format or arguments.field or arguments.eval_set:
        raise InputInvalid("U118", "--format, --field and --eval-set belong to a JSONL file; the run-spec says its own")
    spec, _ = load(arguments.file)
    eval_set = spec.resolve(spec.eval_set)
    if spec.dataset.path is not None:
        return *_of_file(spec.resolve(spec.dataset.path), spec.dataset.format, spec.dataset.fields), eval_set
    if spec.dataset.name is None:
        raise InputInvalid("U119", f"{spec.dataset.label} lies on the hub and cannot be checked here",
                           hint="download it and name the file")  # fmt: skip
    from engine.data import build, check_dataset, render_rows, trace_rows

    args = next((step.args for step in spec.steps if step.uses == "build_dataset"), {})
    rows = trace_rows(build(spec.dataset.name, seed=int(args.get("seed", 42)), num_rows=args.get("num_rows")))
    return check_dataset(render_rows(rows, "trace")[1]), rows, eval_set


def _overlaps(rows: Sequence[Row], eval_set: Path | None) -> tuple[list[Any], list[Diagnostic]]:
    """Rows that ask what the eval set asks, and the findings that a run would stop with."""
    if eval_set is None:
        return [], []
    from engine.data import find_overlaps, prepare, read_eval_set

    items = read_eval_set(eval_set)
    overlaps = find_overlaps(rows, items)
    if not overlaps:
        return [], []
    try:
        prepare(rows, items, on_overlap="fail")
    except RunspecError as error:
        return overlaps, list(error.diagnostics)
    return overlaps, []


def dataset_build(arguments: Namespace) -> Reply:
    """Build a named dataset into a folder."""
    from engine.data import BUILDERS, build, builder_source, prepare, trace_rows, write_dataset

    name = pick("dataset builder", arguments.name, BUILDERS)
    seed = 42 if arguments.seed is None else arguments.seed
    out = Path(arguments.out or Path("datasets") / name)
    traces = build(name, seed=seed, num_rows=arguments.num_rows)
    prepared = prepare(trace_rows(traces), None)
    try:
        written = write_dataset(out, prepared, source=builder_source(name, seed=seed))
    except OSError as error:
        raise RunFailed("U115", f"cannot write {error.filename or out}: {error.strerror or error}",
                        hint="choose a folder where this user may write: --out DIR") from error  # fmt: skip
    facts = dict(written.facts)
    text = f"{out}/: {facts['n_rows']} rows, rows.jsonl has SHA-256 {facts['rows_sha256']}"
    return Reply({"ok": True, "out": str(out), "facts": facts}, text)


def evalset_check(arguments: Namespace) -> Reply:
    """Check an eval set and show its composition."""
    from engine.data import check_eval_set

    report = check_eval_set(Path(arguments.file))
    return Reply(report.as_json(), report.text(), 0 if report.ok else 2, report.diagnostics)
