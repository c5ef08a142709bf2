"""``dataset check``, ``dataset build``, ``evalset check``: data by itself, people's own files included."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from engine.commands import Reply, pick
from engine.commands.loading import load, refuse_evidence
from engine.data import (
    BUILDERS,
    DatasetReport,
    DatasetRow,
    Match,
    Policy,
    build,
    builder_source,
    check_dataset,
    check_eval_set,
    find_overlaps,
    prepare,
    read_eval_set,
    read_rows,
    render_row,
    render_rows,
    trace_rows,
    write_dataset,
)
from engine.errors import Diagnostic, InputInvalid, RunFailed, RunspecError
from engine.extras import missing_modules
from engine.os_errors import hint_for
from engine.protocol.kaggle_models import found_model, parse_kaggle_model
from engine.runspec.model import Spec

POLICIES: Mapping[str, Policy] = {"fail": "fail", "keep": "keep", "drop": "drop"}


def dataset_check(arguments: Namespace) -> Reply:
    """Check a file, or the dataset of a run-spec; exit code 2 where there is a finding."""
    policy: Policy = "fail"
    if Path(arguments.file).suffix in (".yaml", ".yml"):
        spec, _ = load(arguments.file)
        report, rows, eval_set, reader = _of_spec(arguments, spec)
        policy = spec.on_duplicate_item
    else:
        report, rows = _of_file(Path(arguments.file), arguments.format or "trace", _fields(arguments.field))
        eval_set = Path(arguments.eval_set) if arguments.eval_set else None
        reader = _Reader(bool(arguments.model), Path(arguments.model or "."), arguments.model or "")
    n_merges = None
    if report.ok and reader.is_available:
        report, n_merges = _as_tokens(report, rows, reader.model)
    overlaps, problems = _overlaps(rows, eval_set, policy) if report.ok else ([], [])
    findings = [*report.diagnostics, *problems]
    document = {
        **report.as_json(),
        "ok": not findings,
        "n_overlap": len(overlaps) if eval_set is not None else None,
        "tokenizer": reader.name if n_merges is not None else None,
        "n_boundary_merges": n_merges,
        "diagnostics": [diagnostic.as_json() for diagnostic in findings],
    }
    text = report.text() + (f"\n\n{_unit_line(reader, n_merges)}" if report.n_rows else "")
    if eval_set is not None and report.ok:
        text += f"\n\nrows whose prompt is in {_near(eval_set)}: {len(overlaps)}"
    return Reply(document, text, 2 if findings else 0, tuple(findings))


def _near(path: Path) -> Path:
    """The path as seen from the current folder, where it is below it (and still exists)."""
    with contextlib.suppress(OSError, ValueError):
        return path.relative_to(Path.cwd())
    return path


class _Reader(NamedTuple):
    """The tokenizer for the rows: of a model folder, or of the tiny model where ``model`` is None.

    Without ``is_available`` characters count instead of tokens, and ``name`` is the reason.
    """

    is_available: bool
    model: Path | None
    name: str


def _reader_of(spec: Spec, model: str | None) -> _Reader:
    """Of ``--model``, or of the run-spec's own model where its tokenizer is on this machine."""
    if model:
        return _Reader(True, Path(model), model)
    if missing_modules("train"):
        return _Reader(False, None, "the trainer is not installed here")
    if spec.model.init == "random":
        return _Reader(True, None, f"{spec.model.id} (characters)")
    if spec.model.path:
        return _Reader(True, spec.root / spec.model.path, spec.model.path)
    if spec.model.kaggle:
        found = found_model(parse_kaggle_model(spec.model.kaggle), os.environ)
        if found is None:
            return _Reader(False, None, f"the tokenizer of {spec.model.id} is on Kaggle")
        return _Reader(True, found.folder, spec.model.id)
    return _Reader(False, None, f"the tokenizer of {spec.model.id} is on the hub")


def _unit_line(reader: _Reader, n_merges: int | None) -> str:
    """The last line of the report: tokens or characters, and why."""
    if n_merges is None:
        why = f" ({reader.name})" if reader.name else ""
        return f"lengths count characters{why}; --model FOLDER counts tokens, with a model's own tokenizer"
    merged = f"segment boundaries that tokenising the full text would merge: {n_merges}"
    return f"tokenised by the tokenizer of {reader.name}; {merged}"


def _as_tokens(report: DatasetReport, rows: Sequence[DatasetRow], folder: Path | None) -> tuple[DatasetReport, int]:
    """The check repeated with the trainer's tokens, and the number of boundaries that would merge."""
    from engine.commands.tokens import tokens_of

    rendered = [render_row(row) for row in rows]
    with tokens_of(rendered, folder) as (tokenize, facts):
        lines = {row.id: row.line for row in rows}
        by_tokens = check_dataset(rendered, tokenize=tokenize, name=report.path, lines=lines)
    of_rows = ("format", "render", "n_duplicates", "unused_fields")
    as_read = {name: getattr(report, name) for name in of_rows}
    return replace(by_tokens, **as_read, rendered_by=facts["rendered_by"] or report.render), int(
        facts["n_boundary_merges"]
    )


def _fields(words: Sequence[str] | None) -> dict[str, str]:
    """``prompt=question`` words as a mapping."""
    fields: dict[str, str] = {}
    for word in words or ():
        field, equals, key = word.partition("=")
        if not (field and equals and key):
            raise InputInvalid(
                "U117", f'--field takes FIELD=KEY, not "{word}"', hint="for example --field prompt=question"
            )
        fields[field] = key
    return fields


def _of_file(path: Path, format_: str, fields: Mapping[str, str]) -> tuple[DatasetReport, list[DatasetRow]]:
    report = check_dataset(path, format_, fields)
    return report, list(read_rows(path, report.format, fields)) if report.ok else []


def _of_spec(arguments: Namespace, spec: Spec) -> tuple[DatasetReport, list[DatasetRow], Path | None, _Reader]:
    """The dataset that a run-spec names, as its build_dataset step would make it."""
    if arguments.format or arguments.field or arguments.eval_set:
        raise InputInvalid("U118", "--format, --field and --eval-set are for a JSONL file; a run-spec has its own")
    eval_set, reader = spec.resolve(spec.eval_set), _reader_of(spec, arguments.model)
    if spec.dataset.path is not None:
        return *_of_file(spec.resolve(spec.dataset.path), spec.dataset.format, spec.dataset.fields), eval_set, reader
    if spec.dataset.name is None:
        raise InputInvalid("U119", f"{spec.dataset.label} is on the hub and cannot be checked here",
                           hint="download it and name the file")  # fmt: skip
    args = next((step.args for step in spec.steps if step.uses == "build_dataset"), {})
    rows = trace_rows(build(spec.dataset.name, seed=int(args.get("seed", 42)), num_rows=args.get("num_rows")))
    return check_dataset(render_rows(rows, "trace")[1]), rows, eval_set, reader


def _overlaps(
    rows: Sequence[DatasetRow], eval_set: Path | None, on_duplicate: Policy
) -> tuple[list[Match], list[Diagnostic]]:
    """Rows that overlap with the eval set, and the findings that would stop a run."""
    if eval_set is None:
        return [], []
    items = read_eval_set(eval_set, on_duplicate=on_duplicate)
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
    name = pick("dataset builder", arguments.name, BUILDERS)
    seed = 42 if arguments.seed is None else arguments.seed
    out = Path(arguments.out or Path("datasets") / name)
    refuse_evidence(out, "dataset build … --out DIR")
    traces = build(name, seed=seed, num_rows=arguments.num_rows)
    prepared = prepare(trace_rows(traces), None)
    try:
        written = write_dataset(out, prepared, source=builder_source(name, seed=seed), allow=_refuse_other_files)
    except OSError as error:
        raise RunFailed("U115", f"cannot write {error.filename or out}: {error.strerror or error}",
                        hint=hint_for(error.errno) or "choose a folder where this user may write: --out DIR") from error  # fmt: skip
    facts = dict(written.facts)
    text = f"{out}/: {facts['n_rows']} rows, rows.jsonl has SHA-256 {facts['rows_sha256']}"
    return Reply({"ok": True, "out": str(out), "facts": facts}, text)


def _refuse_other_files(files: list[Path]) -> None:
    """A build replaces an earlier one and nothing else."""
    if files:
        raise InputInvalid.of([Diagnostic("U111", f"{path} is there already, and no build has written it",
                                          hint="name another folder: --out DIR") for path in files])  # fmt: skip


def evalset_check(arguments: Namespace) -> Reply:
    """Check an eval set and show its composition."""
    policy = POLICIES[pick("policy", arguments.on_duplicate or "fail", POLICIES)]
    report = check_eval_set(Path(arguments.file), on_duplicate=policy)
    return Reply(report.as_json(), report.text(), 0 if report.ok else 2, report.diagnostics)
