"""JSONL text → JSON objects, with every invalid line reported. Shared by rows and eval sets.

In: the path of any file. Out: the valid lines, and a finding for each of the
others. No line is skipped silently; only :class:`engine.errors.InputInvalid` is raised.

This reader refuses what ``json.loads`` would accept: two equal keys in one object (one value
would be lost), NaN and infinities (not JSON), lone surrogates (not text), a byte order mark, blank lines
between rows (a row may be missing there). Blank lines after the last row and CRLF are tolerated. A file of another kind
(Parquet, CSV, one JSON document) is one finding that says what it is.

The code of a finding is the family (``D1`` rows, ``D2`` eval sets) and the number here: the same number
means the same thing in both. See docs/reference/errors.md for the list.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal, NoReturn

from engine.canonical import JsonObject
from engine.data.text import near, position
from engine.errors import Diagnostic, InputInvalid
from engine.file_kinds import PROBE_BYTES, byte_order_mark, kind_of

MAX_LINE_BYTES = 4 << 20
MAX_DEPTH = 64

NOT_FOUND, NOT_A_FILE, UNREADABLE, EMPTY = 1, 2, 3, 4
MARKED, NOT_UTF8, BAD_JSON, NOT_OBJECT = 5, 6, 7, 8
TWICE, NOT_FINITE, SURROGATE, LONG_LINE = 9, 10, 11, 12
BLANK, DEEP, BIG_NUMBER, OTHER_KIND = 13, 14, 15, 16
MORE = 99
BYTE_ORDER_MARK = "\ufeff"

SHOWN_OF_ONE_KIND = 3  # findings of the same words: the fourth tells nobody anything
_COUNTED = re.compile(r"and (\d+) more")
_PLACE = re.compile(r"\[\d+\]|column \d+|line \d+")


@dataclass(slots=True)
class _Kind:
    """Findings that differ by their place alone: the first one's words, how many there were and are shown, the last line."""

    message: str
    total: int = 0
    shown: int = 0
    last: int = 0

    @property
    def beyond(self) -> int:
        """How many are not shown."""
        return self.total - self.shown


@dataclass(slots=True)
class JsonlFindings:
    """Collects the errors of one file: in full up to ``limit``, as a count beyond it.

    Of one error in every line the first few are shown, and the others counted beside them.
    """

    file: str
    family: Literal["D1", "D2"]
    limit: int = 50
    of_one_kind: int = SHOWN_OF_ONE_KIND
    shown: list[Diagnostic] = field(default_factory=list)
    total: int = 0
    kinds: dict[tuple[str, str], _Kind] = field(default_factory=dict)  # by code and words

    def add(
        self,
        number: int,
        message: str,
        *,
        line: int = 0,
        text: str = "",
        column: int = 0,
        width: int = 1,
        path: str = "",
        hint: str | None = None,
    ) -> None:
        """Report one finding."""
        code = f"{self.family}{number:02d}"
        if self._is_shown(code, message, line):
            where = position(self.file, line, text, column, width, path)
            self.shown.append(Diagnostic(code, message + near(text, column), where, hint))

    def add_foreign(self, finding: Diagnostic, *, line: int = 0, path: str = "") -> None:
        """Report a finding about a line that another part made, under its own code."""
        if self._is_shown(finding.code, finding.message, line):
            self.shown.append(replace(finding, where=position(self.file, line, "", 0, 1, path)))

    def _is_shown(self, code: str, message: str, line: int) -> bool:
        """Count a finding; whether it is one of those shown in full."""
        kind = self.kinds.setdefault((code, _PLACE.sub("", message)), _Kind(message))
        self.total, kind.total, kind.last = self.total + 1, kind.total + 1, line
        is_shown = kind.shown < self.of_one_kind and len(self.shown) < self.limit
        kind.shown += is_shown
        return is_shown

    def diagnostics(self) -> list[Diagnostic]:
        """The findings, and what counts the others: one for each kind that repeats, one for all beyond the limit."""
        repeated = [kind for kind in self.kinds.values() if kind.shown and kind.total > self.of_one_kind]
        counted = [f"and {kind.beyond} more of the same, up to line {kind.last}: {kind.message}" for kind in repeated]
        beyond = self.total - len(self.shown) - sum(kind.beyond for kind in repeated)
        if beyond:
            counted.append(f"and {beyond} more error{'s' * (beyond > 1)} in this file")
        hint = "correct what is shown and check again"
        more = [Diagnostic(f"{self.family}{MORE}", message, position(self.file, 0), hint) for message in counted]
        return [*self.shown, *more]

    def raise_if_any(self) -> None:
        """Raise InputInvalid with all of them."""
        if self.total:
            raise InputInvalid.of(self.diagnostics())


def errors_line(path: str, findings: Sequence[Diagnostic], rest: str) -> str:
    """``rows.jsonl: 2 errors; no row can be read``: the first line of the report of a file with findings."""
    counted = [_COUNTED.match(finding.message) if finding.code.endswith(str(MORE)) else None for finding in findings]
    total = sum(int(found[1]) if found else 1 for found in counted)
    return f"{path}: {total} error{'s' * (total != 1)}; {rest}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file that holds a JSON object."""

    number: int
    text: str
    value: JsonObject

    def span(self, key: str) -> tuple[int, int]:
        """Column (from 1) and width of a top-level key with its quotes; (1, 1) where it is not found."""
        return key_spans(self.text).get(key, (1, 1))


class _Refused(ValueError):
    """Raised by the hooks of the JSON parser for JSON that this reader refuses."""

    def __init__(self, number: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.number, self.message, self.hint = number, message, hint


def read_objects(path: Path, findings: JsonlFindings) -> Iterator[Line]:
    """The objects of the file, line by line; every other line goes to ``findings``."""
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            message = f"{findings.file} is a pipe or a device, not a file"
            findings.add(NOT_A_FILE, message, hint="save the rows into a file and name that")
            return
        with path.open("rb") as stream:
            yield from _objects(stream, findings)
    except FileNotFoundError:
        findings.add(NOT_FOUND, f"no such file: {findings.file}", hint="check the path; it is relative to the project")
    except IsADirectoryError:
        findings.add(NOT_A_FILE, f"{findings.file} is a folder, not a file", hint="name the JSONL file inside it")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        findings.add(UNREADABLE, f"{findings.file} cannot be read: {reason}", hint="check its permissions")
    except ValueError:  # a path with a NUL character
        findings.add(NOT_FOUND, f"no such file: {findings.file!r}", hint="the path contains a NUL character")


def _objects(stream: IO[bytes], findings: JsonlFindings) -> Iterator[Line]:
    if not _begins_as_text(stream, findings):
        return
    blank: list[int] = []
    seen = False
    for number, raw in _raw_lines(stream, findings):
        if raw is None:
            seen = True
            continue
        if not raw.strip():
            blank.append(number)
            continue
        for earlier in blank:
            findings.add(
                BLANK, "blank line between rows", line=earlier, hint="delete it, or restore the row that was there"
            )
        blank.clear()
        seen = True
        line = _parse(number, raw, findings)
        if line is not None:
            yield line
    if not seen:
        findings.add(EMPTY, f"{findings.file} is empty", hint="one JSON object a line is expected")


def _begins_as_text(stream: IO[bytes], findings: JsonlFindings) -> bool:
    head = stream.read(PROBE_BYTES)
    stream.seek(0)
    mark = byte_order_mark(head, findings.file)
    if mark is not None:
        findings.add(MARKED, f"the file begins with {mark.what}", line=1, hint=mark.hint)
        return False
    kind = kind_of(head, findings.file)
    if kind is not None:
        findings.add(OTHER_KIND, f"{findings.file} is {kind.what}", hint=kind.hint)
    return kind is None


def _raw_lines(stream: IO[bytes], findings: JsonlFindings) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line; None for one that is too long, which is skipped and reported."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) <= MAX_LINE_BYTES:
            yield number, raw.rstrip(b"\r\n")
            continue
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(MAX_LINE_BYTES)
        message = f"line {number} is longer than {MAX_LINE_BYTES >> 20} MiB"
        findings.add(LONG_LINE, message, line=number, hint="is this one JSON object a line?")
        yield number, None


def _parse(number: int, raw: bytes, findings: JsonlFindings) -> Line | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode()) + 1
        message = f"invalid UTF-8: byte 0x{raw[error.start]:02X} at column {column}"
        findings.add(NOT_UTF8, message, line=number, column=column, hint="save the file as UTF-8")
        return None
    if text.startswith(BYTE_ORDER_MARK):
        message = "a byte order mark inside the file: another file was appended here"
        findings.add(
            MARKED, message, line=number, column=1, hint="remove the three bytes EF BB BF at this line's beginning"
        )
        return None
    try:
        value = _DECODER.decode(text)
    except _Refused as refused:
        findings.add(refused.number, refused.message, line=number, text=text, hint=refused.hint)
        return None
    except json.JSONDecodeError as error:
        _report_syntax(number, text, error, findings)
        return None
    except RecursionError:
        value = None
    except ValueError:  # int() refuses more digits than sys.get_int_max_str_digits()
        hint = "write it as text, in quotes"
        findings.add(BIG_NUMBER, "a number with too many digits", line=number, text=text, hint=hint)
        return None
    return _accept(number, text, value, findings)


def _accept(number: int, text: str, value: object, findings: JsonlFindings) -> Line | None:
    """The last conditions: an object, not too deep, with text only."""
    if (value is None and text.lstrip()[:1] in ("[", "{")) or _depth_exceeds(value, MAX_DEPTH):
        message = f"nested deeper than {MAX_DEPTH} levels"
        findings.add(DEEP, message, line=number, text=text, column=1, hint="a row is flat")
        return None
    if not isinstance(value, dict):
        message = f"the line is {json_kind(value)}, not an object"
        hint = 'one object a line: {"prompt": "…", …}'
        if isinstance(value, list):
            hint = "this is JSON, not JSONL: write each element on a line of its own"
        findings.add(NOT_OBJECT, message, line=number, text=text, column=1, width=len(text), hint=hint)
        return None
    if "\\u" in text and not _is_text(value):
        column = max(text.lower().find("\\ud"), 0) + 1
        message = "a lone surrogate: this is half of a pair, not a character"
        hint = "write the character itself, or both halves of the pair"
        findings.add(SURROGATE, message, line=number, text=text, column=column, width=6, hint=hint)
        return None
    return Line(number, text, value)


def _report_syntax(number: int, text: str, error: json.JSONDecodeError, findings: JsonlFindings) -> None:
    column = error.pos + 1
    rest = text[error.pos :]
    hint: str | None = "one JSON object a line"
    if not rest.strip():
        reason = "the line ends too early"
        hint = "is the object spread over several lines? JSONL has one object a line"
    elif error.msg == "Extra data":
        reason, hint = "more text after the end of the object", "one object a line"
    elif rest.startswith("'"):
        reason, hint = "a single quote", 'JSON uses double quotes: "…"'
    elif rest.startswith(("True", "False", "None")):
        reason, hint = "a Python word", "JSON has true, false and null"
    elif error.msg.startswith("Invalid control character"):
        reason, hint = "a control character inside a text", "write \\n for a line break, \\t for a tab"
    elif error.msg.startswith("Invalid \\"):
        reason, hint = "an escape that JSON does not know", "write \\\\ for a backslash"
    elif error.msg.startswith("Unterminated"):
        reason, hint = "a text without its closing quote", 'add the closing "'
    elif error.msg.startswith("Expecting ',"):
        reason, hint = (
            f'"," or the closing bracket expected, found `{rest[0]}`',
            'a quote inside a text is written \\"',
        )
    else:
        # Python 3.13 has other words for some of these; our message is the same everywhere.
        reason = f"unexpected `{rest[0]}`"
    message = f"not valid JSON: {reason} (column {column})"
    findings.add(BAD_JSON, message, line=number, text=text, column=column, hint=hint)


def json_kind(value: object) -> str:
    """The kind of a JSON value, in words.

    >>> json_kind(3.5), json_kind(None), json_kind([])
    ('a number', 'null', 'a list')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names[type(value)]


def _no_duplicate_keys(pairs: list[tuple[str, object]]) -> JsonObject:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        names = ", ".join(f'"{key}"' for key in repeated)
        raise _Refused(TWICE, f"two values for the key {names} in one object", "keep one of them")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Refused(NOT_FINITE, f"{name} is not a JSON number", "write a number, or null")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _Refused(NOT_FINITE, "a number too large for a float", "write it as text, in quotes")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicate_keys, parse_constant=_no_constant, parse_float=_finite)
_PLAIN = json.JSONDecoder()


def _depth_exceeds(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return any(isinstance(node, dict | list) for node in level)


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def key_spans(text: str) -> dict[str, tuple[int, int]]:
    """Column and width of each top-level key of a line that is a valid object.

    >>> key_spans('{"a": 1, "bc": [2]}')
    {'a': (2, 3), 'bc': (10, 4)}
    """
    spans: dict[str, tuple[int, int]] = {}
    start = text.find("{") + 1
    while True:
        while start < len(text) and text[start] in ", \t\r\n":
            start += 1
        if start >= len(text) or text[start] != '"':
            return spans
        key, end = _PLAIN.raw_decode(text, start)
        spans[str(key)] = (start + 1, end - start)
        colon = text.index(":", end) + 1
        while text[colon] in " \t\r\n":
            colon += 1
        _, start = _PLAIN.raw_decode(text, colon)
