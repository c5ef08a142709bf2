"""People's JSONL → rows: traces, prompt/completion pairs, conversations.

In: a path, a format, and a mapping from our fields to the person's keys. Out: rows, or
one InputInvalid that names every invalid line and field (up to a limit, then "and N more").

    read_rows(Path("mine.jsonl"), "prompt_completion", {"prompt": "question", "completion": "reply"})

Keys that nothing is read from, at any depth, are kept by their path in :attr:`DatasetRow.unused` and counted by
``dataset check`` and the manifest. One that says that its text is not to be trained is an error. Ids: a trace can have an ``id``, which must be unique;
every other row is named after its line, ``line-12``. Conversations: :mod:`engine.data.chat_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from engine.data.chat_rows import read_chat
from engine.data.jsonl import JsonlFindings, json_kind, read_objects
from engine.data.model import (
    ROW_FORMATS,
    TRACE_VERSION,
    DatasetRow,
    PromptCompletion,
    RowFormat,
    Trace,
    TraceStep,
)
from engine.data.row_reader import MISSING, WRONG_TYPE, RowReader
from engine.data.text import excerpt
from engine.errors import InputInvalid, did_you_mean

FIELDS: Mapping[RowFormat, tuple[str, ...]] = {
    "trace": ("prompt", "steps", "final_answer"),
    "prompt_completion": ("prompt", "completion"),
    "chat": ("messages", "role", "content"),
}
TRACE_EXTRAS = ("id", "trace_version", "meta")
STEP_KEYS = ("i", "type", "content")
WRONG_VERSION, BAD_STEP_NUMBER, NO_STEPS, ANSWER_SHAPE, SAME_ID = 24, 25, 26, 27, 31


def read_rows(
    path: Path, format: str, fields: Mapping[str, str] | None = None, *, limit_errors: int = 50
) -> list[DatasetRow]:
    """All rows of the file. Raises InputInvalid with every finding."""
    findings = JsonlFindings(str(path), "D1", limit_errors)
    rows = collect_rows(path, format, fields or {}, findings)
    findings.raise_if_any()
    return rows


def collect_rows(path: Path, format: str, fields: Mapping[str, str], findings: JsonlFindings) -> list[DatasetRow]:
    """The valid rows; errors of the others go to ``findings``. Raises InputInvalid for a wrong format or mapping."""
    kind = check_mapping(format, fields)
    names = {name: fields.get(name, name) for name in FIELDS[kind]}
    rows: list[DatasetRow] = []
    first_line: dict[str, int] = {}
    for line in read_objects(path, findings):
        row = _ROW_READERS[kind](RowReader(line, names, findings))
        if row is None:
            continue
        if row.id in first_line:
            message = f'line {first_line[row.id]} has the id "{row.id}" already'
            column, width = line.span("id")
            findings.add(
                SAME_ID,
                message,
                line=line.number,
                text=line.text,
                column=column,
                width=width,
                path="id",
                hint="give each trace an id of its own, or none",
            )
            continue
        first_line[row.id] = line.number
        rows.append(row)
    return rows


def check_mapping(format: str, fields: Mapping[str, str]) -> RowFormat:
    """The format, where it exists and has the mapped fields. Raises InputInvalid."""
    if format not in get_args(RowFormat):
        near = did_you_mean(format, ROW_FORMATS)
        hint = f'did you mean "{near}"?' if near else f"one of {', '.join(ROW_FORMATS)}"
        raise InputInvalid("D117", f'unknown format "{format}"', hint=hint)
    kind: RowFormat = next(name for name in ROW_FORMATS if name == format)
    for name in fields:
        if name not in FIELDS[kind]:
            near = did_you_mean(name, FIELDS[kind])
            hint = f'did you mean "{near}"?' if near else f"{kind} rows have {', '.join(FIELDS[kind])}"
            raise InputInvalid("D118", f'format {kind} has no field "{name}" to map', hint=hint)
    used = [fields.get(name, name) for name in FIELDS[kind]]
    repeated = sorted({key for key in used if used.count(key) > 1})
    if repeated:
        hint = "each field is read from a key of its own"
        raise InputInvalid("D119", f'two fields are mapped to the key "{repeated[0]}"', hint=hint)
    return kind


def _read_pair(reader: RowReader) -> DatasetRow | None:
    body = PromptCompletion(reader.text("prompt"), reader.text("completion"))
    if not reader.is_good:
        return None
    return DatasetRow(reader.default_id, body, reader.line.number, reader.unused(reader.names.values()))


def _read_trace(reader: RowReader) -> DatasetRow | None:
    prompt, steps, answer = reader.text("prompt"), _read_steps(reader), reader.text("final_answer")
    if answer:
        _check_answer(reader, answer)
    value = reader.line.value
    version = value.get("trace_version", TRACE_VERSION)
    if version != TRACE_VERSION:
        message = f"unknown trace_version {excerpt(repr(version), 20)}"
        reader.report(WRONG_VERSION, message, "trace_version", f'this engine reads "{TRACE_VERSION}"')
    meta = value.get("meta", {})
    if not isinstance(meta, dict):
        reader.report(WRONG_TYPE, f'"meta" is {json_kind(meta)}, not an object', "meta", "leave it out, or write {…}")
        meta = {}
    row_id = reader.check_text(value["id"], "id", "id") if "id" in value else reader.default_id
    if not reader.is_good:
        return None
    trace = Trace(prompt, steps, answer, meta, row_id)
    return DatasetRow(row_id, trace, reader.line.number, reader.unused((*reader.names.values(), *TRACE_EXTRAS)))


def _check_answer(reader: RowReader, answer: str) -> None:
    """The answer comes after an "Answer:" that the engine writes; one more would be learned as a second."""
    key = reader.names["final_answer"]
    if answer.strip().casefold().startswith("answer:"):
        hint = 'write the answer alone; the engine adds "Answer:"'
        reader.report(ANSWER_SHAPE, f'"{key}" begins with "Answer:"', key, hint)


def _read_steps(reader: RowReader) -> tuple[TraceStep, ...]:
    key = reader.names["steps"]
    value = reader.get("steps")
    if value is None and key not in reader.line.value:
        return ()
    if not isinstance(value, list):
        hint = 'write [{"i": 1, "type": "compute", "content": "…"}], or a list of texts'
        reader.report(WRONG_TYPE, f'"{key}" is {json_kind(value)}, not a list', key, hint)
        return ()
    if not value:
        reader.report(NO_STEPS, f'"{key}" has no step', key, "a trace without reasoning is a prompt_completion row")
        return ()
    # Some people count from 0. Both starts are accepted; the numbers must then be consecutive.
    first = value[0].get("i", 1) if isinstance(value[0], dict) else 1
    start = 0 if first == 0 and not isinstance(first, bool) else 1
    return tuple(_read_step(reader, key, index, step, start) for index, step in enumerate(value))


def _read_step(reader: RowReader, key: str, index: int, step: object, start: int) -> TraceStep:
    path = f"{key}[{index}]"
    if isinstance(step, str):
        return TraceStep(index + 1, "reasoning", reader.check_text(step, key, path))
    if not isinstance(step, dict):
        hint = 'an object {"i", "type", "content"}, or a text'
        reader.report(WRONG_TYPE, f'"{path}" is {json_kind(step)}, not a step', key, hint, path=path)
        return TraceStep(index + 1, "", "")
    reader.count_others(step, STEP_KEYS, f"{key}[]")
    number = step.get("i", index + start)
    if isinstance(number, bool) or number != index + start:
        message = f'"{path}.i" is {excerpt(repr(number), 20)}, expected {index + start}'
        reader.report(BAD_STEP_NUMBER, message, key, "number the steps 1, 2, 3, …", path=f"{path}.i")
    if "content" not in step:
        near = did_you_mean("content", step)
        hint = f'did you mean "{near}"?' if near else 'a step is {"i", "type", "content"}'
        reader.report(MISSING, f'"{path}" has no "content"', key, hint, path=f"{path}.content")
        return TraceStep(index + 1, "", "")
    kind = reader.check_text(step.get("type", "reasoning"), key, f"{path}.type")
    return TraceStep(index + 1, kind, reader.check_text(step["content"], key, f"{path}.content"))


_ROW_READERS: Mapping[RowFormat, Callable[[RowReader], DatasetRow | None]] = {
    "trace": _read_trace,
    "prompt_completion": _read_pair,
    "chat": read_chat,
}
