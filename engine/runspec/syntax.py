"""Errors of the YAML parser in plain words (codes Y010 to Y018, Y034, Y035).

The parser names grammar ("expected <block end>, but found '<scalar>'"); a person needs the cause: a tab, a bracket
that is not closed, a colon inside unquoted text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import Diagnostic, InputInvalid, Where
from engine.runspec.nodes import SourcePosition, SpecSource
from engine.runspec.spelling.look_alikes import finding_at, in_structure

_Finding = tuple[str, str, str]  # code, message, hint


def syntax_error(error: BaseException, source: SpecSource) -> InputInvalid:
    """One InputInvalid for the parser's exception, at the position that needs the edit."""
    problem = str(getattr(error, "problem", None) or error)
    context = str(getattr(error, "context", None) or "")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    opening = getattr(error, "context_mark", None)
    if mark is None:
        where = Where(source.name)
        return InputInvalid("Y010", f"this is not YAML: {_first_line(problem)}", where=where)
    position = _at(mark, source)
    look_alike = _look_alike(position, opening and _at(opening, source), source)
    if look_alike is not None:
        return InputInvalid.of([look_alike])  # type: ignore[return-value]
    tab = _tab(position, source)
    if tab is not None:
        where, hint = tab.where(), "replace each tab by two spaces (YAML does not allow tabs here)"
        return InputInvalid("Y011", "a tab is used for indentation", where=where, hint=hint)
    for pattern, write in _WRITERS:
        match = re.search(pattern, f"{context} | {problem}")
        if match:
            (code, message, hint), position = write(_Stop(match, position, opening and _at(opening, source)))
            return InputInvalid(code, message, where=position.where(), hint=hint or None)
    return InputInvalid("Y010", f"this is not YAML: {_first_line(problem)}", where=position.where())


def _first_line(problem: str) -> str:
    return problem.strip().split("\n", 1)[0][:120] or "it cannot be read"


def _at(mark: Any, source: SpecSource) -> SourcePosition:
    """The parser's mark, moved back to the last line that has something where it is at the end of the file."""
    line, column = mark.line + source.first, mark.column + 1
    text = source.line(line)
    while line > source.first and (text is None or not text.strip()):
        line -= 1
        text = source.line(line)
        column = len((text or "").rstrip()) + 1
    return SourcePosition(source, line, max(1, min(column, len(text or "") + 1)))


def _look_alike(position: SourcePosition, opening: SourcePosition | None, source: SpecSource) -> Diagnostic | None:
    """A character that only looks like YAML's: in the line at fault, in its open bracket, or in the line before it.

    The parser takes a line without a colon that it knows for text, and blames the next one.
    """
    first = position.line
    if opening is not None and (source.line(opening.line) or "")[opening.column - 1 : opening.column] in ("[", "{"):
        first = min(first, opening.line)
    before = next((line for line in range(first - 1, source.first - 1, -1) if _has_content(source.line(line))), first)
    for line in range(before, position.line + 1):
        column = in_structure(source.line(line) or "", is_at_fault=line >= first)
        if column is not None:
            return finding_at(SourcePosition(source, line, column).where(), column)
    return None


def _has_content(text: str | None) -> bool:
    return bool(text and text.strip()) and not (text or "").lstrip().startswith("#")


def _tab(position: SourcePosition, source: SpecSource) -> SourcePosition | None:
    """The tab's position, if the line at fault (or the one before it) is indented with one."""
    for line in (position.line, position.line - 1):
        text = source.line(line) or ""
        indent = text[: len(text) - len(text.lstrip())]
        if "\t" in indent:
            return SourcePosition(source, line, indent.index("\t") + 1, indent.count("\t"))
    return None


@dataclass(frozen=True, slots=True)
class _Stop:
    """Where the parser stopped, where the construct that it was reading began, and its message."""

    match: re.Match[str]
    position: SourcePosition
    opening: SourcePosition | None

    def line(self, position: SourcePosition) -> str:
        """The person's line at a position."""
        return position.source.line(position.line) or ""

    def rest_of_line(self, position: SourcePosition) -> SourcePosition:
        """From a position to the end of its line."""
        return SourcePosition(
            position.source,
            position.line,
            position.column,
            max(1, len(self.line(position).rstrip()) - position.column + 1),
        )


_Writer = Callable[[_Stop], tuple[_Finding, SourcePosition]]


def _quote_open(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    return ("Y013", "this quotation mark is not closed", "close it with the same mark"), stop.opening or stop.position


def _bracket_open(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    start = stop.opening or stop.position
    text = stop.line(start)
    bracket = text[start.column - 1 : start.column]
    closing = {"[": "]", "{": "}"}.get(bracket, "]" if "sequence" in stop.match.group(0) else "}")
    finding = ("Y012", f'"{bracket or "["}" is opened here and not closed by "{closing}"',
               f'add "{closing}", or a comma between two entries')  # fmt: skip
    return finding, start


def _colon(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    before = stop.line(stop.position)[: stop.position.column - 1]
    if ": " not in before:
        message = "this key is indented below a key that already has a value"
        start = len(before) - len(before.lstrip()) + 1
        wide = SourcePosition(stop.position.source, stop.position.line, start, max(1, stop.position.column - start))
        return ("Y016", message, "give it the same number of spaces as the keys beside it"), wide
    message = 'a second ": " in one line'
    return ("Y014", message, 'put text that has a colon in quotes: notes: "first: second"'), stop.position


def _no_colon(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    start = stop.opening or stop.position
    wide = stop.rest_of_line(start)
    return ("Y015", 'this line is not "key: value"', 'a colon and a space follow the key, as in "seed: 42"'), wide


def _indentation(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    text = stop.line(stop.position)
    wide = stop.rest_of_line(stop.position)
    before = text[: stop.position.column - 1].rstrip()
    if before.endswith(("'", '"')):
        hint = f"a {before[-1]} inside the text is doubled ({before[-1] * 2}), or use the other quotation mark"
        return ("Y013", "there is text after the closing quotation mark", hint), wide
    if before and text[stop.position.column - 1 : stop.position.column] in ("]", "}"):
        return ("Y012", "this bracket closes nothing", "remove it"), stop.position
    if before:
        return ("Y015", "a list or a mapping cannot begin here", "put it on the next line, with two more spaces"), wide
    began = f" The block it seems to continue begins in line {stop.opening.line}." if stop.opening else ""
    return ("Y016", "this line does not line up with the block above it",
            f"give all keys of one block the same number of spaces.{began}"), wide  # fmt: skip


def _reserved(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    character = stop.match["character"].replace("\\t", "\t")
    return ("Y017", f"unquoted text cannot begin with {character}", "put the text in quotes"), stop.position


def _escape(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    hint = "inside \"double quotes\" a backslash begins an escape; use 'single quotes'"
    return ("Y018", "this is not an escape that YAML knows", hint), stop.position


def _anchor(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    return ("Y017", "& and * begin an anchor or an alias, and no name follows", "put the text in quotes"), stop.position


def _closing(stop: _Stop) -> tuple[_Finding, SourcePosition]:
    return ("Y012", f"{stop.match['character']} closes nothing", "remove it, or put the text in quotes"), stop.position


_WRITERS: tuple[tuple[str, _Writer], ...] = (
    (r"while scanning a (double-)?quoted scalar .*unexpected (end of stream|document separator)", _quote_open),
    (r"unknown escape character|expected escape sequence", _escape),
    (r"flow (sequence|mapping) .*(expected|did not find)", _bracket_open),
    (r"mapping values are not allowed", _colon),
    (r"could not find expected ':'", _no_colon),
    (r"found character (?P<character>'.+?'|\".+?\") that cannot start any token", _reserved),
    (r"expected the node content, but found (?P<character>'[\]}]')", _closing),
    (r"scanning an (anchor|alias)", _anchor),
    (r"block (mapping|collection|sequence).*(expected|did not find)|expected <block end>", _indentation),
    (r"unindent|not allowed here|wrong indentation", _indentation),
)
