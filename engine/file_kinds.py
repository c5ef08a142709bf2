"""Files that are no JSONL at all, told by how they begin: one finding that says what they are, instead of one a line.

Rows, eval sets and predictions ask here.

In: the beginning of a file and its name. Out: what it is and how to make JSONL of it; None for what may be JSONL.

    >>> kind_of(b"PAR1\\x15\\x04", "rows.parquet").what
    'a Parquet file'
    >>> kind_of(b'{"prompt": "a"}\\n', "rows.jsonl") is None
    True
"""

from __future__ import annotations

import ast
import csv
import json
import shlex
import warnings
from dataclasses import dataclass
from pathlib import PurePath

from engine.canonical import unpacker_of

PROBE_BYTES = 1 << 16
SHOWN_COLUMNS = 6
FIRST_LINES = 5
LONGEST_COLUMN = 40

_PANDAS = "import pandas; pandas.{}({!r}).to_json({!r}, orient='records', lines=True, force_ascii=False)"
_MAGIC = (
    (b"PAR1", "a Parquet file", "read_parquet"),
    (b"ARROW1", "an Arrow file", "read_feather"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unzip {}"),
    (b"SQLite format 3", "a SQLite database", ""),
    *((b"\x80" + bytes([protocol]), "a pickle of Python", "read_pickle") for protocol in range(2, 6)),
)
# UTF-32 before UTF-16, whose mark it begins with.
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "a byte order mark (the three bytes EF BB BF)", "save it as UTF-8 without BOM"),
    (b"\xff\xfe\0\0", "the byte order mark of UTF-32", "convert it: iconv -f UTF-32 -t UTF-8 {} > {}"),
    (b"\0\0\xfe\xff", "the byte order mark of UTF-32", "convert it: iconv -f UTF-32 -t UTF-8 {} > {}"),
    (b"\xff\xfe", "the byte order mark of UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 {} > {}"),
    (b"\xfe\xff", "the byte order mark of UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 {} > {}"),
)
_TEXTS = (
    ("<!doctype html", "an HTML page", "download the file itself, not the page that shows it"),
    ("<html", "an HTML page", "download the file itself, not the page that shows it"),
    ("version https://git-lfs", "a pointer of Git LFS, not the file", "fetch it: git lfs pull"),
)
_JSON = frozenset("{}[]")  # in no column's name
_GENERAL = "export it as JSONL: one JSON object a line, UTF-8"


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is (after "the file is"), and what to do about it."""

    what: str
    hint: str


def byte_order_mark(head: bytes, file: str) -> FileKind | None:
    """The mark that a file begins with, as what the file begins with.

    >>> byte_order_mark(b"\\xff\\xfe\\0\\0{", "a.jsonl").what
    'the byte order mark of UTF-32'
    """
    for mark, what, hint in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return FileKind(what, hint.format(shlex.quote(file), shlex.quote(_jsonl(file))))
    return None


def kind_of(head: bytes, file: str) -> FileKind | None:
    """The kind of a file that begins with ``head`` (up to :data:`PROBE_BYTES`)."""
    for magic, what, command in _MAGIC:
        if head.startswith(magic):
            return FileKind(
                what, _by_pandas(command, file) if command.startswith("read_") else _by_command(command, file)
            )
    program = unpacker_of(head)
    if program is not None:
        return FileKind("compressed", _by_command(f"{program} {{}}", file))
    if b"\0" in head:
        return FileKind("a binary file", _GENERAL)
    text = head.decode("utf-8", "replace").lstrip()
    for beginning, what, hint in _TEXTS:
        if text.casefold().startswith(beginning):
            return FileKind(what, hint)
    return _kind_of_text(text, file, is_cut=len(head) >= PROBE_BYTES)


def _kind_of_text(text: str, file: str, *, is_cut: bool) -> FileKind | None:
    first = text.split("\n", 1)[0].rstrip()
    if not first or _is_json(first):
        return None
    lines = [line.rstrip() for line in text.split("\n") if line.strip()][:FIRST_LINES]
    if len(lines) > 1 and all(line.endswith(",") and _is_json(line[:-1]) for line in lines[:-1]):
        return FileKind("a list whose lines end in a comma, not JSONL",
                        f"remove the commas: sed 's/,$//' {shlex.quote(file)} > {_jsonl(file)}")  # fmt: skip
    if len(lines) > 1 and all(map(_is_python, lines)):
        return FileKind("written as Python writes objects, not JSONL", _by_python(file))
    if first[0] in "[{":
        return _document(first, file) if _goes_on(text, first, is_cut=is_cut) else None
    return _table(first, file) or _other_text(text)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python(line: str) -> bool:
    """Whether it is a dictionary as Python prints it: ``{'prompt': 'a', 'done': True}``."""
    if not line.startswith("{") or not line.endswith("}") or _is_json(line):
        return False
    try:
        with warnings.catch_warnings():  # of escapes such as "\\d"
            warnings.simplefilter("ignore")
            return isinstance(ast.literal_eval(line), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False


def _goes_on(text: str, first: str, *, is_cut: bool) -> bool:
    """Whether a JSON value begins in the first line and ends in a later one; ``is_cut``: more of the file follows."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return is_cut and error.pos >= text.rfind("\n") > len(first)
    except (ValueError, RecursionError):
        return False
    return end > len(first)


def _document(first: str, file: str) -> FileKind:
    if first[0] == "[":
        hint = f"write each element on a line of its own: jq -c '.[]' {shlex.quote(file)} > {_jsonl(file)}"
        return FileKind("one JSON list over several lines, not JSONL", hint)
    return FileKind(
        "JSON whose objects are spread over several lines, not JSONL",
        f"write each object on one line: jq -c . {shlex.quote(file)} > {_jsonl(file)}",
    )


def _table(first: str, file: str) -> FileKind | None:
    """A header of columns, as CSV and TSV have it."""
    for delimiter, name in ((",", "CSV"), ("\t", "TSV"), (";", "CSV with semicolons")):
        try:
            columns = [column.strip() for column in next(csv.reader([first], delimiter=delimiter))]
        except csv.Error:
            continue
        if len(columns) > 1 and all(0 < len(column) <= LONGEST_COLUMN for column in columns) and not _JSON & set(first):
            shown = ", ".join(columns[:SHOWN_COLUMNS])
            more = ", …" if len(columns) > SHOWN_COLUMNS else ""
            separator = "" if delimiter == "," else f", sep={delimiter!r}"
            hint = _by_pandas("read_csv", file, separator)
            return FileKind(f"{name}, not JSONL (columns: {shown}{more})", hint)
    return None


def _other_text(text: str) -> FileKind | None:
    """Text in which not even the first lines are objects."""
    lines = [line for line in text.split("\n") if line.strip()][:FIRST_LINES]
    if len(lines) < FIRST_LINES or any(line.lstrip().startswith("{") or _is_json(line) for line in lines):
        return None
    return FileKind("text of another kind: none of its first lines is a JSON object", _GENERAL)


def _by_pandas(function: str, file: str, options: str = "") -> str:
    code = _PANDAS.format(function, file, _jsonl(file))
    if options:
        code = code.replace(f"({file!r})", f"({file!r}{options})", 1)
    return f"convert it with pandas: python -c {shlex.quote(code)}"


def _by_python(file: str) -> str:
    code = f"import ast, json; [print(json.dumps(ast.literal_eval(line))) for line in open({file!r}, encoding='utf-8')]"
    return f"convert it: python -c {shlex.quote(code)} > {_jsonl(file)}"


def _by_command(command: str, file: str) -> str:
    return f"unpack it: {command.format(shlex.quote(file))}" if command else _GENERAL


def _jsonl(file: str) -> str:
    """The name for the JSONL beside it, in the current folder."""
    return f"{PurePath(file).stem}.jsonl" if PurePath(file).suffix != ".jsonl" else f"{PurePath(file).stem}.rows.jsonl"
