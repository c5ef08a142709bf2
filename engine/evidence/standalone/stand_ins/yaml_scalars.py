"""Text as YAML writes it: unquoted, in quotes, in blocks; folded over lines.

In: the lines of a document and a position. Out: the value and the position after it. Positions are (line, column) from 0.

    >>> Scalars("'it''s' # a comment").quoted(0, 0)
    ("it's", 0, 7)
"""

from __future__ import annotations

import re

from engine.evidence.standalone.stand_ins.yaml_error import Mark, YAMLError

_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", " ": " ",
    '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_CODES = {"x": 2, "u": 4, "U": 8}
_DOCUMENT = re.compile(r"(---|\.\.\.)(?=[ \t]|$)")
_HEADER = re.compile(r"[|>](?:([+-])([1-9])?|([1-9])([+-])?)?(?:[ \t]+#.*|[ \t]*)$")
_BEGIN = re.compile(r"[^\s\-?:,\[\]{}#&*!|>'\"%@`]|[-?:](?=\S)")
_BEGIN_IN_FLOW = re.compile(r"[^\s\-?:,\[\]{}#&*!|>'\"%@`]|[-?:](?=[^\s,\[\]{}])")
_END = re.compile(r":(?=\s|$)|(?<=\s)#")
_END_IN_FLOW = re.compile(r":(?=\s|$)|(?<=\s)#|[,\[\]{}]")


class Scalars:
    """Reads single values out of lines."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")

    def is_marker(self, row: int) -> bool:
        """Whether a line begins or ends a document."""
        return _DOCUMENT.match(self.lines[row]) is not None

    def rest_is_empty(self, row: int, column: int) -> bool:
        """Whether nothing but space and a comment follows."""
        rest = self.lines[row][column:]
        return not rest.strip(" \t") or (rest.lstrip(" \t").startswith("#") and (column == 0 or rest[0] in " \t"))

    def begins_plain(self, row: int, column: int, in_flow: bool) -> bool:
        """Whether unquoted text may begin here."""
        return (_BEGIN_IN_FLOW if in_flow else _BEGIN).match(self.lines[row], column) is not None

    def plain_on_line(self, row: int, column: int, in_flow: bool) -> int:
        """The column after the unquoted text of one line."""
        line = self.lines[row]
        end = (_END_IN_FLOW if in_flow else _END).search(line, column)
        return len(line[: end.start() if end else len(line)].rstrip(" \t"))

    def plain(self, row: int, column: int, indent: int, in_flow: bool) -> tuple[str, int, int]:
        """Unquoted text: it goes on in lines that are indented by more than ``indent``."""
        end = self.plain_on_line(row, column, in_flow)
        parts = [self.lines[row][column:end]]
        while not self.lines[row][end:].strip(" \t"):
            following = row + 1
            while following < len(self.lines) and not self.lines[following].strip(" \t"):
                following += 1
            if following == len(self.lines) or self.is_marker(following):
                break
            line = self.lines[following]
            begin = len(line) - len(line.lstrip(" "))
            if line[begin] == "\t":
                raise YAMLError("found a tab where an indentation is needed", Mark(following, begin))
            if line[begin] == "#" or (not in_flow and begin <= indent):
                break
            stop = self.plain_on_line(following, begin, in_flow)
            if stop <= begin:
                break
            parts.append("\n" * (following - row - 1) or " ")
            parts.append(line[begin:stop])
            row, end = following, stop
        return "".join(parts), row, end

    def quoted(self, row: int, column: int) -> tuple[str, int, int]:
        """Text in single or double quotation marks."""
        quote, start = self.lines[row][column], Mark(row, column)
        parts: list[str] = []
        column += 1
        while True:
            line = self.lines[row]
            end = self._to_special(line, column, quote)
            if end < len(line) and line[end] == quote:
                parts.append(line[column:end])
                if quote == "'" and line[end + 1 : end + 2] == "'":
                    parts.append("'")
                    column = end + 2
                    continue
                return "".join(parts), row, end + 1
            if end < len(line) - 1:  # a backslash, and what it escapes
                parts.append(line[column:end])
                character, column = self._escaped(row, end + 1)
                parts.append(character)
                continue
            continues = end < len(line)  # a backslash ends the line
            text = line[column:end]
            parts.append(text if continues else text.rstrip(" \t"))
            row, column, breaks = self._next_line(row, start)
            parts.append("\n" * breaks if continues or breaks else " ")

    @staticmethod
    def _to_special(line: str, column: int, quote: str) -> int:
        found = re.compile(r"[\"\\]" if quote == '"' else "'").search(line, column)
        return found.start() if found else len(line)

    def _next_line(self, row: int, start: Mark) -> tuple[int, int, int]:
        """(line, column, empty lines between) of where quoted text goes on."""
        breaks = 0
        while True:
            row += 1
            if row == len(self.lines):
                mark = Mark(row - 1, len(self.lines[row - 1]))
                raise YAMLError("found unexpected end of stream", mark, "while scanning a quoted scalar", start)
            if self.is_marker(row):
                raise YAMLError(
                    "found unexpected document separator", Mark(row, 0), "while scanning a quoted scalar", start
                )
            stripped = self.lines[row].lstrip(" \t")
            if stripped:
                return row, len(self.lines[row]) - len(stripped), breaks
            breaks += 1

    def _escaped(self, row: int, column: int) -> tuple[str, int]:
        letter = self.lines[row][column]
        if letter in _ESCAPES:
            return _ESCAPES[letter], column + 1
        if letter in _CODES:
            digits = self.lines[row][column + 1 : column + 1 + _CODES[letter]]
            if len(digits) == _CODES[letter] and re.fullmatch("[0-9A-Fa-f]+", digits) and int(digits, 16) < 0x110000:
                return chr(int(digits, 16)), column + 1 + len(digits)
            raise YAMLError(
                "expected escape sequence of hexadecimal numbers",
                Mark(row, column),
                "while scanning a double-quoted scalar",
            )
        raise YAMLError(
            f"found unknown escape character {letter!r}", Mark(row, column), "while scanning a double-quoted scalar"
        )

    def block(self, row: int, column: int, indent: int) -> tuple[str, int, int]:
        """Text after | or >, in lines that are indented by more than ``indent``."""
        header = _HEADER.match(self.lines[row], column)
        if header is None:
            raise YAMLError("expected a comment or a line break", Mark(row, column), "while scanning a block scalar")
        chomping, digit = header[1] or header[4], header[2] or header[3]
        width = max(indent, 0) + int(digit) if digit else self._width(row + 1, max(indent + 1, 1))
        end, last = row + 1, len(self.lines) - (self.lines[-1] == "")
        while end < last and self._is_inside(end, width):
            end += 1
        lines = [line[width:] for line in self.lines[row + 1 : end]]
        empty = 0
        while empty < len(lines) and not lines[-1 - empty]:
            empty += 1
        is_cut = end == len(self.lines) and empty > 0  # a last line without its line feed
        shown = lines[: len(lines) - empty]
        is_ended = row + len(shown) + 1 < len(self.lines)  # by a line feed
        text = (self._folded(shown) if header[0][0] == ">" else "\n".join(shown)) + "\n" * (bool(shown) and is_ended)
        if chomping == "-":
            text = text.removesuffix("\n")
        elif chomping == "+":
            text += "\n" * (empty - is_cut)
        return text, end - 1, len(self.lines[end - 1])

    def _is_inside(self, row: int, width: int) -> bool:
        line = self.lines[row]
        indent = len(line) - len(line.lstrip(" "))
        return indent >= width or not line.strip(" ")

    def _width(self, row: int, least: int) -> int:
        """The indentation of a block: that of its first line with text."""
        widest = 0
        for number in range(row, len(self.lines)):
            line = self.lines[number]
            indent = len(line) - len(line.lstrip(" "))
            if line.strip(" "):
                if indent >= least and widest > indent:
                    raise YAMLError("an empty line is indented more than the text below it", Mark(number, indent))
                return indent if indent >= least else max(widest, least)
            widest = max(widest, indent)
        return max(widest, least)

    @staticmethod
    def _folded(lines: list[str]) -> str:
        """Lines joined by spaces, except around those that are empty or indented more."""
        parts: list[str] = []
        breaks, before = 0, ""
        for line in lines:
            if not line:
                breaks += 1
                continue
            if before:
                folds = before[0] not in " \t" and line[0] not in " \t"
                parts.append(("\n" * breaks or " ") if folds else "\n" * (breaks + 1))
            else:
                parts.append("\n" * breaks)
            parts.append(line)
            breaks, before = 0, line
        return "".join(parts)
