"""Strict readers of the two files that a scorer needs: an eval set and predictions, both JSONL.

In: a path (or text and the name for errors). Out: tuples of :class:`ScoringItem` or
:class:`Prediction`; or one InputInvalid with every finding, each with file:line. Nothing is skipped silently:
a blank line, a duplicate key or a NaN is an error. Keys that a scorer does not need are ignored.

    >>> parse_eval_set('{"id": "a", "prompt": "2 + 2?", "expected_answer": "4"}', "eval.jsonl")[0].prompt
    '2 + 2?'
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any, NoReturn

from engine.canonical import CHUNK_BYTES, JsonObject
from engine.errors import Diagnostic, InputInvalid, Where
from engine.file_kinds import PROBE_BYTES, byte_order_mark, kind_of
from engine.scoring.normalise import has_marker

MAX_FINDINGS = 20
SHOWN_OF_ONE_KIND = 3  # findings of the same words
MAX_FILE_BYTES = 256 << 20

GROUPS = ("section", "category", "difficulty")


@dataclass(frozen=True, slots=True)
class ScoringItem:
    """One question with its answer. The three groups are free text and may be absent."""

    id: str
    prompt: str
    expected_answer: str
    section: str | None = None
    category: str | None = None
    difficulty: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model wrote for one item. ``text`` None: nothing (it counts 0, as skipped).

    ``prompt``: what it was asked, as it was rendered.
    """

    id: str
    text: str | None
    prompt_sha256: str | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    finish_reason: str | None = None
    milliseconds: float | None = None
    prompt: str | None = None


def read_eval_set(path: Path) -> tuple[ScoringItem, ...]:
    """The items of an eval set file, in its order. Raises InputInvalid with every finding.

    Here, before anything is scored, an answer that nothing can equal is a finding; in evidence that was scored it is
    what it is.
    """
    return parse_eval_set(_text(path), str(path), answerable=True)


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """The rows of predictions_raw.jsonl or predictions.jsonl, in the file's order."""
    return parse_predictions(_text(path), str(path))


def parse_eval_set(text: str, file: str, *, answerable: bool = False) -> tuple[ScoringItem, ...]:
    """Items from JSONL text; ``file`` is the name that errors have. ``answerable``: refuse answers that nothing can equal."""
    findings = _Findings(file)
    items = [
        ScoringItem(
            id=findings.text(row, "id", line),
            prompt=findings.text(row, "prompt", line),
            expected_answer=findings.answer(row, line, answerable=answerable),
            **{group: findings.optional_text(row, group, line) for group in GROUPS},
        )
        for line, row in findings.rows(text)
    ]
    findings.refuse_duplicates([item.id for item in items])
    findings.raise_any()
    if not items:
        raise InputInvalid("K107", "the eval set has no items", where=Where(file=file))
    return tuple(items)


def parse_predictions(text: str, file: str) -> tuple[Prediction, ...]:
    """Predictions from JSONL text. A file without rows is valid: every item then counts as skipped."""
    findings = _Findings(file)
    predictions = [
        Prediction(
            id=findings.text(row, "id", line),
            text=findings.nullable_text(row, "text", line),
            prompt_sha256=findings.optional_text(row, "prompt_sha256", line),
            prompt_tokens=findings.optional_count(row, "prompt_tokens", line),
            new_tokens=findings.optional_count(row, "new_tokens", line),
            finish_reason=findings.optional_text(row, "finish_reason", line),
            milliseconds=findings.optional_number(row, "milliseconds", line),
            prompt=findings.optional_text(row, "prompt", line),
        )
        for line, row in findings.rows(text)
    ]
    findings.refuse_duplicates([prediction.id for prediction in predictions])
    findings.raise_any()
    return tuple(predictions)


def _text(path: Path) -> str:
    """The file's text. Raises K102 where it cannot be read."""
    where = Where(file=str(path))
    if path.is_dir():
        raise InputInvalid("K102", f"{path} is a folder, a JSONL file is needed", where=where)
    try:
        data = _bytes(path)
    except OSError as error:
        raise InputInvalid("K102", f"cannot read {path}: {error.strerror}", where=where) from error
    if len(data) > MAX_FILE_BYTES:
        raise InputInvalid("K102", f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", where=where)
    head = data[:PROBE_BYTES]
    mark, kind = byte_order_mark(head, str(path)), kind_of(head, str(path))
    if mark is not None:
        raise InputInvalid("K102", f"{path} begins with {mark.what}", where=where, hint=mark.hint)
    if kind is not None:
        raise InputInvalid("K102", f"{path} is {kind.what}", where=where, hint=kind.hint)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputInvalid(
            "K102", f"{path} is not UTF-8 text (byte {error.start})", where=where, hint="save it as UTF-8"
        ) from error


def _bytes(path: Path) -> bytes:
    """At most one byte more than the limit. A pipe is read where somebody writes into it: opening one must not wait."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise OSError(errno.EINVAL, "it is a device, not a file")
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:  # noqa: PTH123 - of a descriptor
        first = stream.read(1)
        if stat.S_ISFIFO(mode) and first == b"":
            raise OSError(errno.EPIPE, "nobody writes into this pipe")
        os.set_blocking(stream.fileno(), True)
        pieces, left = [first or b""], MAX_FILE_BYTES
        while left > 0 and (
            piece := stream.read(min(CHUNK_BYTES, left))
        ):  # read(n) takes n bytes of memory for any file
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large for a number")
    return number


def _no_duplicates(pairs: list[tuple[str, object]]) -> JsonObject:
    row = {intern(name): value for name, value in pairs}  # 20,000 rows have eleven names, and not 220,000
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'key "{twice}" twice in one object')
    return row


# Made once: json.loads makes a decoder for each line.
_STRICT = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_duplicates)


def strict_json(text: str) -> Any:
    """A JSON value; ValueError for NaN, infinities (1e999 too), duplicate keys, and nesting too deep to read."""
    try:
        return _STRICT.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@lru_cache(maxsize=3)
def objects_of(text: str) -> Sequence[JsonObject] | None:
    """The object of every line, parsed once whoever asks; None where a line is not an object, which each reader says in its own words."""
    try:
        rows = [strict_json(line) for line in _lines(text)]
    except ValueError:
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None


def _lines(text: str) -> list[str]:
    """Split at \\n alone: str.splitlines would also split at U+2028 and friends inside a JSON string."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def _words_of(error: ValueError, line: str) -> str:
    """Where a line stops being JSON; Python's own words say "line 1 column 1 (char 0)" of any line."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    at = line[error.pos : error.pos + 1]
    return f"unexpected `{at}` at column {error.pos + 1}" if at.strip() else "it ends too early"


class _Findings:
    """Collects the errors of one file, so that a person sees all of them at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.diagnostics: list[Diagnostic] = []
        self.lines: list[int] = []

    def add(self, code: str, line: int, message: str, hint: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, message, Where(file=self.file, line=line), hint))

    def rows(self, text: str) -> Iterator[tuple[int, JsonObject]]:
        """(line number, object) of every line that is an object; a finding for every other line."""
        rows = objects_of(text)
        if rows is not None:
            self.lines += range(1, len(rows) + 1)
            yield from enumerate(rows, start=1)
            return
        for number, line in enumerate(_lines(text), start=1):
            try:
                row = strict_json(line)
            except ValueError as error:
                reason = "the line is blank" if not line.strip() else _words_of(error, line)
                self.add("K103", number, f"not a JSON object: {reason}", "one JSON object a line")
                continue
            if isinstance(row, dict):
                self.lines.append(number)
                yield number, row
            else:
                self.add("K103", number, f"a {type(row).__name__}, not a JSON object")

    def text(self, row: JsonObject, key: str, line: int) -> str:
        """A required string that is not blank."""
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            return value
        self.add("K104", line, f'"{key}" must be a string that is not blank', f'add "{key}": "…"')
        return ""

    def answer(self, row: JsonObject, line: int, *, answerable: bool) -> str:
        """The expected answer, which must not be empty: an empty text would score 1."""
        value = row.get("expected_answer")
        if answerable and isinstance(value, str) and has_marker(value):
            message = 'the expected answer has the marker "Answer:" in it: nothing that follows a marker can equal it'
            self.add("K107", line, message, "write the answer alone")
        if isinstance(value, str) and not value.strip():
            self.add("K107", line, "the expected answer is empty")
            return ""
        return self.text(row, "expected_answer", line)

    def nullable_text(self, row: JsonObject, key: str, line: int) -> str | None:
        """A string or null; the key is required, since a row without it is an error, not a skipped item."""
        if key in row and (row[key] is None or isinstance(row[key], str)):
            value: str | None = row[key]
            return value
        self.add("K104", line, f'"{key}" is required, a string or null', "null: no prediction")
        return None

    def optional_text(self, row: JsonObject, key: str, line: int) -> str | None:
        value = row.get(key)
        if value is None or isinstance(value, str):
            return value
        self.add("K104", line, f'"{key}" must be a string')
        return None

    def optional_number(self, row: JsonObject, key: str, line: int) -> float | None:
        value = row.get(key)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0):
            return value
        self.add("K104", line, f'"{key}" must be a number of at least 0')
        return None

    def optional_count(self, row: JsonObject, key: str, line: int) -> int | None:
        value = row.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        self.add("K104", line, f'"{key}" must be a whole number of at least 0')
        return None

    def refuse_duplicates(self, ids: list[str]) -> None:
        """K105 for each repeated id, with both lines. Blank ids have a finding already."""
        first: dict[str, int] = {}
        for line, row_id in zip(self.lines, ids, strict=True):
            if row_id and row_id in first:
                self.add("K105", line, f'line {first[row_id]} has the id "{row_id}" already')
            first.setdefault(row_id, line)

    def raise_any(self) -> None:
        """Raise one InputInvalid for all findings, with the first :data:`MAX_FINDINGS` of them."""
        if not self.diagnostics:
            return
        shown: list[Diagnostic] = []
        seen: Counter[tuple[str, str]] = Counter()
        for finding in sorted(self.diagnostics, key=lambda finding: finding.where.line if finding.where else 0):
            seen[finding.code, finding.message] += 1
            if seen[finding.code, finding.message] <= SHOWN_OF_ONE_KIND:
                shown.append(finding)
        rest = [
            Diagnostic(code, f"and {count - SHOWN_OF_ONE_KIND} more lines with this: {message}", Where(file=self.file))
            for (code, message), count in seen.items()
            if count > SHOWN_OF_ONE_KIND
        ]
        more = len(shown) - MAX_FINDINGS
        if more > 0:
            rest = [Diagnostic(shown[0].code, f"and {more} more findings", Where(file=self.file)), *rest]
        raise InputInvalid.of([*shown[:MAX_FINDINGS], *rest])
