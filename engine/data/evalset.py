"""Eval sets: JSONL → items, with every error named; and a report of a set's composition.

In: a path. Out: items in file order, or one InputInvalid with all findings.
``id``, ``prompt`` and ``expected_answer`` are required. ``section`` and ``category`` are free text, so
that people can use their own names; ``difficulty`` is easy, medium or hard. An unknown
key is an error (a mistyped ``dificulty`` would otherwise be missing from the scorecard); people's own notes
go under ``meta``.

A question that stands twice counts twice in the score. ``on_duplicate`` says what that means: ``fail`` (D226), ``keep``
(both are asked and counted), ``drop`` (the first alone is asked). Two prompts are the same as for training rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from engine.canonical import JsonObject
from engine.data.jsonl import JsonlFindings, Line, errors_line, json_kind, read_objects
from engine.data.model import DIFFICULTIES, EvalItem, Policy
from engine.data.text import excerpt, normalise_prompt
from engine.errors import Diagnostic, did_you_mean

REQUIRED = ("id", "prompt", "expected_answer")
GROUPS = ("section", "category", "difficulty")
KEYS = (*REQUIRED, *GROUPS, "meta")

MISSING, WRONG_TYPE, BLANK_TEXT, UNKNOWN_KEY = 20, 21, 22, 23
UNKNOWN_DIFFICULTY, SAME_ID, SAME_PROMPT, ANSWER_SHAPE = 24, 25, 26, 27
# The scorer cuts a model's text behind the last marker, so that nothing it compares has one. As engine.scoring.normalise
# has it, which this part does not import: a test compares the two.
MARKER = re.compile(r"answer:", re.IGNORECASE | re.ASCII)


class Asked(Protocol):
    """Anything with a question."""

    @property
    def prompt(self) -> str:
        """The question."""


A = TypeVar("A", bound=Asked)


def read_eval_set(path: Path, *, on_duplicate: Policy = "fail", limit_errors: int = 50) -> list[EvalItem]:
    """The items of the file that are asked. Raises InputInvalid with every finding.

    ``on_duplicate``: of items whose question an earlier one has.
    """
    findings = JsonlFindings(str(path), "D2", limit_errors)
    items = collect_items(path, findings, on_duplicate)
    findings.raise_if_any()
    return without_repeats(items) if on_duplicate == "drop" else items


def without_repeats(items: Sequence[A]) -> list[A]:
    """The first item of each question, in order."""
    first: dict[str, A] = {}
    for item in items:
        first.setdefault(normalise_prompt(item.prompt), item)
    return list(first.values())


def collect_items(path: Path, findings: JsonlFindings, on_duplicate: Policy = "fail") -> list[EvalItem]:
    """The valid items; errors of the others go to ``findings``, and repeated questions only under the policy ``fail``."""
    items: list[EvalItem] = []
    ids: dict[str, int] = {}
    prompts: dict[str, int] = {}
    for line in read_objects(path, findings):
        # Invalid items are checked for duplicates too: a person then fixes all errors of a line at once.
        _refuse_duplicate(line, "id", str(line.value.get("id")), ids, SAME_ID, findings)
        prompt = normalise_prompt(str(line.value.get("prompt")))
        if on_duplicate == "fail":
            _refuse_duplicate(line, "prompt", prompt, prompts, SAME_PROMPT, findings)
        item = _read_item(line, findings)
        if item is not None:
            items.append(item)
    return items


def _refuse_duplicate(
    line: Line, key: str, value: str, seen: dict[str, int], number: int, findings: JsonlFindings
) -> None:
    if not isinstance(line.value.get(key), str):
        return
    first = seen.setdefault(value, line.number)
    if first == line.number:
        return
    column, width = line.span(key)
    message = f'line {first} has the {key} "{excerpt(value, 40)}" already'
    hint = "give each item an id of its own"
    if key == "prompt":
        hint = "delete one of them, or declare what it means: eval_set: {path: …, on_duplicate: keep} (or drop)"
    findings.add(number, message, line=line.number, text=line.text, column=column, width=width, path=key, hint=hint)


def _read_item(line: Line, findings: JsonlFindings) -> EvalItem | None:
    before = findings.total

    def report(number: int, message: str, key: str, hint: str) -> None:
        column, width = line.span(key)
        findings.add(number, message, line=line.number, text=line.text, column=column, width=width, path=key, hint=hint)

    unknown = [key for key in line.value if key not in KEYS]
    for key in unknown:
        near = did_you_mean(key, KEYS)
        hint = f'did you mean "{near}"?' if near else 'notes of your own go under "meta": {…}'
        report(UNKNOWN_KEY, f'unknown key "{excerpt(key, 40)}"', key, hint)
    for key in REQUIRED:
        if key not in line.value:
            report(MISSING, f'the item has no "{key}"', key, f"an item needs {', '.join(REQUIRED)}")
    for key in (*REQUIRED, *GROUPS):
        value = line.value.get(key)
        if key not in line.value:
            continue
        if not isinstance(value, str):
            hint = f'write it in quotes: "{value}"' if isinstance(value, int | float) else "write a text"
            report(WRONG_TYPE, f'"{key}" is {json_kind(value)}, not a text', key, hint)
        elif not value.strip():
            report(BLANK_TEXT, f'"{key}" is empty', key, "fill it in, or leave the key out")
    _check_values(line, report)
    if findings.total > before:
        return None
    texts = {key: str(line.value[key]) for key in (*REQUIRED, *GROUPS) if key in line.value}
    return EvalItem(**texts)


def _check_values(line: Line, report: Callable[[int, str, str, str], None]) -> None:
    answer = line.value.get("expected_answer")
    if isinstance(answer, str) and len(answer.strip().splitlines()) > 1:
        hint = "the scorer compares single lines"
        report(ANSWER_SHAPE, '"expected_answer" has more than one line', "expected_answer", hint)
    if isinstance(answer, str) and (marker := MARKER.search(answer)):
        alone = excerpt(MARKER.split(answer)[-1].strip(), 40)
        hint = f'write the answer alone: "{alone}"' if alone else "write the answer alone"
        message = f'"expected_answer" has "{marker[0]}" in it, and the scorer compares what follows that: every answer would be wrong'
        report(ANSWER_SHAPE, message, "expected_answer", hint)
    difficulty = line.value.get("difficulty")
    if isinstance(difficulty, str) and difficulty.strip() and difficulty not in DIFFICULTIES:
        near = did_you_mean(difficulty, DIFFICULTIES)
        hint = f'did you mean "{near}"?' if near else f"one of {', '.join(DIFFICULTIES)}"
        report(UNKNOWN_DIFFICULTY, f'unknown difficulty "{excerpt(difficulty, 30)}"', "difficulty", hint)
    meta = line.value.get("meta", {})
    if not isinstance(meta, dict):
        report(WRONG_TYPE, f'"meta" is {json_kind(meta)}, not an object', "meta", "write {…}, or leave it out")


@dataclass(frozen=True, slots=True)
class EvalSetReport:
    """The report of ``runspec evalset check``: findings, and the number of items in each group."""

    path: str
    n_items: int
    n_duplicates: int = 0
    sections: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[str, int] = field(default_factory=dict)
    difficulties: Mapping[str, int] = field(default_factory=dict)
    table: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def ok(self) -> bool:
        """True where there are no findings."""
        return not self.diagnostics

    def as_json(self) -> JsonObject:
        """The document of ``--json``."""
        return {
            "ok": self.ok,
            "path": self.path,
            "n_items": self.n_items,
            "n_duplicates": self.n_duplicates,
            "sections": dict(self.sections),
            "categories": dict(self.categories),
            "difficulties": dict(self.difficulties),
            "table": {category: dict(row) for category, row in self.table.items()},
            "diagnostics": [diagnostic.as_json() for diagnostic in self.diagnostics],
        }

    def text(self) -> str:
        """The composition as a table: categories down, difficulties across."""
        if self.diagnostics and not self.n_items:
            return errors_line(self.path, self.diagnostics, "no item can be read")
        columns = list(self.difficulties)
        width = max([8, *(len(name) for name in self.categories)])
        lines = [f"{self.path}: {self.n_items} items", ""]
        if self.diagnostics:
            lines.insert(0, errors_line(self.path, self.diagnostics, "the table is of the items that can be read"))
        lines.append("  ".join(["category".ljust(width), *(name.rjust(6) for name in columns), "   all"]))
        for category, row in self.table.items():
            cells = [str(row.get(name, 0)).rjust(max(6, len(name))) for name in columns]
            lines.append("  ".join([category.ljust(width), *cells, str(self.categories[category]).rjust(6)]))
        totals = [str(count).rjust(max(6, len(name))) for name, count in self.difficulties.items()]
        lines.append("  ".join(["all".ljust(width), *totals, str(self.n_items).rjust(6)]))
        if self.n_duplicates:
            lines += ["", f"items whose question an earlier one has: {self.n_duplicates}"]
        lines += ["", "sections: " + ", ".join(f"{name} {count}" for name, count in self.sections.items())]
        return "\n".join(lines)


def check_eval_set(path: Path, *, on_duplicate: Policy = "fail", limit_errors: int = 50) -> EvalSetReport:
    """Read the set and count its groups, of the items that are asked. Never raises for the file's content."""
    findings = JsonlFindings(str(path), "D2", limit_errors)
    read = collect_items(path, findings, on_duplicate)
    first = without_repeats(read)
    items = first if on_duplicate == "drop" else read
    table: dict[str, Counter[str]] = {}
    for item in items:
        table.setdefault(item.category, Counter())[item.difficulty] += 1
    order = [*DIFFICULTIES, "unspecified"]
    difficulties = Counter(item.difficulty for item in items)
    return EvalSetReport(
        path=str(path),
        n_items=len(items),
        n_duplicates=len(read) - len(first),
        sections=_counts([item.section for item in items]),
        categories=_counts([item.category for item in items]),
        difficulties={name: difficulties[name] for name in order if difficulties[name]},
        table={category: dict(table[category]) for category in sorted(table)},
        diagnostics=tuple(findings.diagnostics()),
    )


def _counts(names: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
