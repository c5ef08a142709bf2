"""YAML text -> plain values with the place of every key and value.

What goes in: the path of a run-spec. What comes out: a :class:`Document`: JSON-like values, and for each dotted
path the place of its key and of its value, so that every later message can show the person's own line.

The reading is YAML 1.2's, by a table small enough to be known by heart: ``true``/``false``, ``null``, whole
numbers, numbers with a point or an exponent (``1e-5`` is one), and text: ``no``, ``on`` and ``2026-01-01`` are text.
Anchors are bounded, tags are refused, nothing is ever constructed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_ALIASES = 32

SpecPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_PLAIN_TAG = re.compile(r"tag:yaml\.org,2002:(str|int|float|bool|null|map|seq|timestamp|merge|value)")


@dataclass(frozen=True, slots=True)
class Place:
    """Lines and columns count from 1."""

    line: int
    column: int
    width: int = 1


@dataclass(slots=True)
class Document:
    """``keys[path]`` is where the key stands, ``values[path]`` where its value begins."""

    file: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[SpecPath, Place] = field(default_factory=dict)
    values: dict[SpecPath, Place] = field(default_factory=dict)
    overridden: dict[SpecPath, Where] = field(default_factory=dict)

    def line_of(self, number: int) -> str:
        """The person's own line."""
        lines = self.text.split("\n")
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def where(self, path: SpecPath, *, key: bool = False) -> Where:
        """The place of a value (or of its key); of the nearest thing around it where it is not written down."""
        for end in range(len(path), -1, -1):
            near = path[:end]
            if near in self.overridden:
                return self.overridden[near]
            place = self.keys.get(near) if key or end < len(path) else self.values.get(near)
            place = place or self.values.get(near)
            if place is not None:
                return Where(self.file, place.line, place.column, self.line_of(place.line), place.width, dotted(path))
        return Where(self.file, path=dotted(path))


def dotted(path: SpecPath) -> str:
    """``("steps", 0, "with")`` -> ``steps.0.with``."""
    return ".".join(str(part) for part in path)


def read_document(path: Path) -> Document:
    """Raises InputInvalid (Y codes) carrying everything that is wrong with the text."""
    text = _read_text(path)
    document = Document(str(path), text)
    root = _compose(document)
    reader = _Reader(document)
    data = reader.value(root, (), 1)
    if reader.findings:
        raise InputInvalid.of(reader.findings)
    if not isinstance(data, dict):
        raise InputInvalid(
            "Y016",
            f"a run-spec is a mapping of keys, this is {_kind(data)}",
            where=document.where(()),
            hint="begin with: version: 1",
        )
    document.data = data
    return document


def _read_text(path: Path) -> str:
    where = Where(str(path))
    if path.is_dir():
        inside = sorted(entry.name for entry in path.glob("*.yaml"))
        raise InputInvalid(
            "Y002",
            f"{path} is a folder, not a run-spec",
            where=where,
            hint=f"name a file, say {path / inside[0]}" if inside else "name a .yaml file",
        )
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputInvalid("Y001", f"there is no file {path}", where=where, hint=_neighbour(path)) from None
    except OSError as error:
        raise InputInvalid("Y003", f"{path} cannot be read: {error.strerror or error}", where=where) from None
    if len(data) > MAX_BYTES:
        raise InputInvalid(
            "Y007",
            f"{path} is larger than {MAX_BYTES} bytes",
            where=where,
            hint="a run-spec is a page of text; is this the right file?",
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise InputInvalid("Y004", f"{path} is empty", where=where, hint="start from a preset: runspec init quickstart")
    return _decode(path, data)


def _decode(path: Path, data: bytes) -> str:
    if b"\0" in data or data.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG")):
        raise InputInvalid(
            "Y005",
            f"{path} is a binary file, not a run-spec",
            where=Where(str(path)),
            hint="a run-spec is YAML text in UTF-8",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        shown = data.split(b"\n")[line - 1].decode("utf-8", "replace")
        raise InputInvalid(
            "Y006",
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            where=Where(str(path), line, column, shown),
            hint="save the file as UTF-8",
        ) from None
    return text.replace("\r\n", "\n")


def _neighbour(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    names = [entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
    near = did_you_mean(path.name, names)
    if near:
        return f"did you mean {folder / near}?"
    return f"{folder} has: {', '.join(sorted(names))}" if names else "start from a preset: runspec init quickstart"


def _compose(document: Document) -> Any:
    """The node graph of the one document in the text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        nodes = list(YAML(typ="safe", pure=True).compose_all(document.text))
    except MarkedYAMLError as error:
        raise _syntax_error(document, error) from None
    except (YAMLError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise InputInvalid("Y010", f"this is not YAML: {said}", where=Where(document.file)) from None
    if len(nodes) > 1:
        line = nodes[1].start_mark.line + 1
        raise InputInvalid(
            "Y013",
            f"the file holds {len(nodes)} documents, a run-spec is one",
            where=Where(document.file, line, 1, document.line_of(line)),
            hint="put each into a file of its own, and take the --- out",
        )
    if not nodes or nodes[0] is None:
        raise InputInvalid(
            "Y004",
            f"{document.file} holds nothing but comments",
            where=Where(document.file),
            hint="start from a preset: runspec init quickstart",
        )
    return nodes[0]


def _syntax_error(document: Document, error: Any) -> InputInvalid:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    text = document.line_of(line)
    if "\t" in text[: max(column, len(text) - len(text.lstrip()))]:
        column = text.index("\t") + 1
        return InputInvalid(
            "Y011",
            "a tab cannot indent YAML",
            where=Where(document.file, line, column, text),
            hint="use two spaces for each level",
        )
    problem = (error.problem or error.context or "it ends too early").strip()
    context = error.context_mark
    hint = "look at the colon, the quotes and the indentation here and on the line above"
    if context is not None and context.line + 1 != line and error.context:
        hint = f"{error.context} that began on line {context.line + 1}; {hint}"
    return InputInvalid(
        "Y010", f"this is not YAML: {problem}", where=Where(document.file, line, column, text), hint=hint
    )


class _Reader:
    """Nodes -> values. Collects findings instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Diagnostic] = []
        self._seen: set[int] = set()
        self._aliases = 0
        self._stopped = False

    def value(self, node: Any, path: SpecPath, depth: int) -> Any:
        """The plain value of a node; None (and a finding) where there is none."""
        place = _place(node)
        self.document.values[path] = place
        if self._stopped:
            return None
        if depth > MAX_DEPTH:
            return self._stop("Y008", f"nested deeper than {MAX_DEPTH} levels", place)
        if id(node) in self._seen:
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                return self._stop(
                    "Y009",
                    f"more than {MAX_ALIASES} uses of anchors",
                    place,
                    "write the values out; a run-spec reads top to bottom",
                )
        self._seen.add(id(node))
        if node.tag is not None and not _PLAIN_TAG.fullmatch(str(node.tag)):
            self._find("Y014", f"the tag {node.tag} has no meaning here", place, "take it out: values are plain")
            return None
        if node.id == "mapping":
            return self._mapping(node, path, depth)
        if node.id == "sequence":
            return [self.value(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: Any, path: SpecPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            if key_node.id != "scalar":
                self._find(
                    "Y015", "a key must be a word, not a list or a mapping", place, "quote text that has { or [ in it"
                )
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                self._find("Y018", "merge keys (<<) are not read here", place, "write the values out")
                continue
            if key in values:
                first = self.document.keys[(*path, key)]
                self._find(
                    "Y012", f'the key "{key}" stands twice', place, f"it is on line {first.line} already: keep one"
                )
                continue
            self.document.keys[(*path, key)] = place
            values[key] = self.value(value_node, (*path, key), depth + 1)
        return values

    def _scalar(self, node: Any, place: Place) -> Any:
        text = str(node.value)
        if node.style is not None:  # quoted, or a block: text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            self._find("Y017", f"{text} is not a number that can be used", place, "write a finite number")
            return None
        if _INT.fullmatch(text):
            return int(text) if len(text) < 4000 else text
        if _FLOAT.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                self._find("Y017", f"{text} is too large a number", place, "write a finite number")
                return None
            return number
        return text

    def _find(self, code: str, message: str, place: Place, hint: str | None = None) -> None:
        line = self.document.line_of(place.line)
        where = Where(self.document.file, place.line, place.column, line, place.width)
        self.findings.append(Diagnostic(code, message, where, hint))

    def _stop(self, code: str, message: str, place: Place, hint: str | None = None) -> None:
        self._find(code, message, place, hint)
        self._stopped = True


def _place(node: Any) -> Place:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Place(start.line + 1, start.column + 1, max(1, width))


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "nothing" if value is None else f"the text {str(value)[:20]!r}"


def walk(value: Any, path: SpecPath = ()) -> Iterator[tuple[SpecPath, Any]]:
    """Every (path, value) of a document, parents first."""
    yield path, value
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from walk(child, (*path, key))


def parse_scalar(text: str) -> Any:
    """One value as the command line gives it: read as YAML would read it. Raises InputInvalid (Y codes)."""
    document = Document("command line", text)
    reader = _Reader(document)
    value = reader.value(_compose(document), (), 1) if text.strip() else ""
    if reader.findings:
        raise InputInvalid.of(reader.findings)
    return value
