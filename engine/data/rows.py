"""People's JSONL → rows: traces, prompt/completion pairs, conversations.

In: a path, a format, and a mapping from our fields to the person's keys. Out: rows, or
one InputInvalid that names every invalid line and field (up to a limit, then "and N more").

    read_rows(Path("mine.jsonl"), "prompt_completion", {"prompt": "question", "completion": "reply"})

Keys of a row that no field is mapped to are kept in :attr:`DatasetRow.unused` and counted by ``dataset check``
and the manifest; they are not trained on. Ids: a trace can have an ``id``, which must be unique;
every other row is named after its line, ``line-12``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from engine.data.jsonl import JsonlFindings, Line, json_kind, read_objects
from engine.data.model import (
    CONTROL_LITERALS,
    ROW_FORMATS,
    TRACE_VERSION,
    TURN_LITERALS,
    Conversation,
    DatasetRow,
    Message,
    PromptCompletion,
    RowFormat,
    Trace,
    TraceStep,
)
from engine.data.text import excerpt
from engine.errors import InputInvalid, did_you_mean

FIELDS: Mapping[RowFormat, tuple[str, ...]] = {
    "trace": ("prompt", "steps", "final_answer"),
    "prompt_completion": ("prompt", "completion"),
    "chat": ("messages", "role", "content"),
}
TRACE_EXTRAS = ("id", "trace_version", "meta")
OTHER_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}

MISSING, WRONG_TYPE, BLANK_TEXT, CONTROL = 20, 21, 22, 23
WRONG_VERSION, BAD_STEP_NUMBER, NO_STEPS, ANSWER_SHAPE = 24, 25, 26, 27
UNKNOWN_ROLE, ROLE_ORDER, NO_ASSISTANT, SAME_ID = 28, 29, 30, 31


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
        row = _ROW_READERS[kind](_Reader(line, names, findings))
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


class _Reader:
    """One line and the fields mapped to it; every method returns a value or reports why it cannot."""

    def __init__(self, line: Line, names: Mapping[str, str], findings: JsonlFindings) -> None:
        self.line, self.names, self.findings = line, names, findings
        self.before = findings.total

    @property
    def is_good(self) -> bool:
        return self.findings.total == self.before

    def report(self, number: int, message: str, key: str, hint: str, *, path: str = "") -> None:
        column, width = self.line.span(key)
        self.findings.add(
            number,
            message,
            line=self.line.number,
            text=self.line.text,
            column=column,
            width=width,
            path=path or key,
            hint=hint,
        )

    def get(self, name: str) -> Any:
        """The value of our field, or None after reporting that it is missing."""
        key = self.names[name]
        if key in self.line.value:
            return self.line.value[key]
        near = did_you_mean(key, self.line.value)
        hint = f"the row has: {', '.join(excerpt(k, 30) for k in list(self.line.value)[:8]) or 'no key at all'}"
        if near:
            hint = f'did you mean "{near}"? Fix the row, or map it: fields: {{{name}: {near}}}'
        self.report(MISSING, f'the row has no "{key}"', near or key, hint, path=key)
        return None

    def text(self, name: str) -> str:
        """A text that is not blank, or "" after reporting."""
        key = self.names[name]
        value = self.get(name)
        return "" if value is None and key not in self.line.value else self.check_text(value, key, key)

    def check_text(self, value: object, key: str, path: str) -> str:
        """The same for a value at ``path`` inside ``key``."""
        if not isinstance(value, str):
            hint = f'write it in quotes: "{value}"' if isinstance(value, int | float) else "write a text"
            self.report(WRONG_TYPE, f'"{path}" is {json_kind(value)}, not a text', key, hint, path=path)
            return ""
        if not value.strip():
            self.report(BLANK_TEXT, f'"{path}" is empty', key, "delete the row, or fill it in", path=path)
            return ""
        self._refuse_control(value, key, path, CONTROL_LITERALS)
        return value

    def _refuse_control(self, value: str, key: str, path: str, literals: tuple[str, ...]) -> None:
        for literal in literals:
            if literal in value:
                message = f'"{path}" contains "{literal}", which a tokenizer reads as a control token'
                hint = "remove it: the engine adds <bos>, <eos> and the turn markers itself, once"
                self.report(CONTROL, message, key, hint, path=path)

    def refuse_turns(self, value: str, key: str, path: str) -> None:
        """Turn markers are allowed in a prompt that a person renders, never in a chat message."""
        self._refuse_control(value, key, path, TURN_LITERALS)

    def unused(self, known: tuple[str, ...] = ()) -> tuple[str, ...]:
        used = {*self.names.values(), *known}
        return tuple(key for key in self.line.value if key not in used)

    @property
    def default_id(self) -> str:
        return f"line-{self.line.number}"


def _read_pair(reader: _Reader) -> DatasetRow | None:
    body = PromptCompletion(reader.text("prompt"), reader.text("completion"))
    return DatasetRow(reader.default_id, body, reader.line.number, reader.unused()) if reader.is_good else None


def _read_trace(reader: _Reader) -> DatasetRow | None:
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
    return DatasetRow(row_id, trace, reader.line.number, reader.unused(TRACE_EXTRAS))


def _check_answer(reader: _Reader, answer: str) -> None:
    """The answer must be one line without "Answer:", since the scorer reads what follows the last "Answer:"."""
    key = reader.names["final_answer"]
    if len(answer.strip().splitlines()) > 1:
        reader.report(ANSWER_SHAPE, f'"{key}" has more than one line', key, "put the reasoning into the steps")
    elif "answer:" in answer.casefold():
        reader.report(
            ANSWER_SHAPE,
            f'"{key}" contains "Answer:"',
            key,
            'write the answer alone; the engine adds "Answer:"',
        )


def _read_steps(reader: _Reader) -> tuple[TraceStep, ...]:
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


def _read_step(reader: _Reader, key: str, index: int, step: object, start: int) -> TraceStep:
    path = f"{key}[{index}]"
    if isinstance(step, str):
        return TraceStep(index + 1, "reasoning", reader.check_text(step, key, path))
    if not isinstance(step, dict):
        hint = 'an object {"i", "type", "content"}, or a text'
        reader.report(WRONG_TYPE, f'"{path}" is {json_kind(step)}, not a step', key, hint, path=path)
        return TraceStep(index + 1, "", "")
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


def _read_chat(reader: _Reader) -> DatasetRow | None:
    key = reader.names["messages"]
    value = reader.get("messages")
    if value is None and key not in reader.line.value:
        return None
    if not isinstance(value, list):
        hint = 'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
        reader.report(WRONG_TYPE, f'"{key}" is {json_kind(value)}, not a list', key, hint)
        return None
    messages = [_read_message(reader, key, index, message) for index, message in enumerate(value)]
    if reader.is_good:
        _check_order(reader, key, [message.role for message in messages if message])
    if not reader.is_good:
        return None
    body = Conversation(tuple(message for message in messages if message))
    return DatasetRow(reader.default_id, body, reader.line.number, reader.unused())


def _read_message(reader: _Reader, key: str, index: int, value: object) -> Message | None:
    path = f"{key}[{index}]"
    if not isinstance(value, dict):
        hint = 'a message is {"role": …, "content": …}'
        reader.report(WRONG_TYPE, f'"{path}" is {json_kind(value)}, not a message', key, hint, path=path)
        return None
    for name in (reader.names["role"], reader.names["content"]):
        if name not in value:
            near = did_you_mean(name, value)
            hint = f'did you mean "{near}"?' if near else f"the message has: {', '.join(value) or 'no key at all'}"
            reader.report(MISSING, f'"{path}" has no "{name}"', key, hint, path=f"{path}.{name}")
            return None
    role = value[reader.names["role"]]
    if role not in ("system", "user", "assistant"):
        near = OTHER_ROLES.get(str(role).casefold()) or did_you_mean(str(role), ("system", "user", "assistant"))
        hint = f'did you mean "{near}"?' if near else "one of system, user, assistant"
        message = f"unknown role {excerpt(repr(role), 30)}"
        reader.report(UNKNOWN_ROLE, message, key, hint, path=f"{path}.{reader.names['role']}")
        return None
    path = f"{path}.{reader.names['content']}"
    content = reader.check_text(value[reader.names["content"]], key, path)
    reader.refuse_turns(content, key, path)
    return Message(role, content)


def _check_order(reader: _Reader, key: str, roles: list[str]) -> None:
    if "assistant" not in roles:
        reader.report(NO_ASSISTANT, "the conversation has no assistant turn", key, "there is nothing in it to train on")
        return
    skip = 1 if roles[0] == "system" else 0
    for index, role in enumerate(roles[skip:]):
        expected = "assistant" if index % 2 else "user"
        if role != expected:
            article = "an" if role == "assistant" else "a"
            message = f'"{key}[{index + skip}]" is {article} {role} turn, expected {expected}'
            hint = "an optional system message, then user and assistant in turn"
            reader.report(ROLE_ORDER, message, key, hint, path=f"{key}[{index + skip}]")
            return
    if roles[-1] != "assistant":
        hint = "training needs an answer as the last turn: add the answer, or delete the question"
        reader.report(ROLE_ORDER, "the conversation ends with a user turn", key, hint)


_ROW_READERS: Mapping[RowFormat, Callable[[_Reader], DatasetRow | None]] = {
    "trace": _read_trace,
    "prompt_completion": _read_pair,
    "chat": _read_chat,
}
