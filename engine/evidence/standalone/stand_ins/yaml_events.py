"""Stands for ruamel.yaml: the events of one YAML 1.2 document, as engine.runspec.document reads them.

Read is what run-specs are written in: mappings and lists in lines or in brackets, values unquoted, in quotes and in blocks, comments,
anchors and aliases. What is beyond that (explicit keys, keys that are not on one line, tabs between words) is refused,
never read in another way; a test compares the events with the library's.

    >>> [type(event).__name__ for event in YAML().parse("a: [1]")][2:5]
    ['MappingStartEvent', 'ScalarEvent', 'SequenceStartEvent']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.evidence.standalone.stand_ins.yaml_error import Mark, YAMLError
from engine.evidence.standalone.stand_ins.yaml_kinds import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from engine.evidence.standalone.stand_ins.yaml_scalars import Scalars

_ANCHOR = re.compile(r"[&*]([^\s,\[\]{}]+)")
_TAG = re.compile(r"!\S*")
_DASH = re.compile(r"-(?=[ \t]|$)")
_COLON = re.compile(r"[ ]*:(?=[ \t]|$)")
_COLON_IN_FLOW = re.compile(r"[ ]*:(?=[ \t,\[\]{}]|$)")
_EXPLICIT = re.compile(r"\?(?=[ \t,\[\]{}]|$)")
MOST_LEVELS = 200
LONGEST_KEY = 1024


class YAML:
    """The part of the library's class that is used."""

    def __init__(self, **_: object) -> None:
        """Takes the library's options, which all mean: as strictly as can be."""

    def parse(self, text: str) -> Iterator[Event]:
        """The events. Raises YAMLError."""
        return _Parser(text).stream()


@dataclass
class _Properties:
    """What may stand before a value."""

    anchor: str | None = None
    tag: str | None = None


class _Parser:
    """Goes through the lines once; ``row`` and ``column`` are where it is."""

    def __init__(self, text: str) -> None:
        self.scalars = Scalars(text)
        self.lines = self.scalars.lines
        self.row, self.column, self.level = 0, 0, 0

    @property
    def mark(self) -> Mark:
        return Mark(min(self.row, len(self.lines) - 1), self.column)

    @property
    def line(self) -> str:
        return self.lines[self.row]

    def event(self, kind: type[Event], start: Mark | None = None, own: _Properties | None = None) -> Event:
        own = own or _Properties()
        return kind(start or self.mark, self.mark, anchor=own.anchor, tag=own.tag)

    def stream(self) -> Iterator[Event]:
        yield self.event(StreamStartEvent)
        version, is_first = self.directives(), True
        if version and not self.to_content():
            raise YAMLError("expected '<document start>'", Mark(0, 0))
        while self.to_content():
            start = self.event(DocumentStartEvent)
            start.version = version
            if self.is_at("---"):
                self.column = 3
                self.skip_space()
            elif not is_first or version:
                raise YAMLError("expected '<document start>'", self.mark)
            yield start
            yield from self.block_node(-1)
            self.to_content()
            if self.row < len(self.lines) and not self.scalars.is_marker(self.row):
                raise self.not_in_line()
            yield self.event(DocumentEndEvent)
            while self.to_content() and self.is_at("..."):
                self.row, self.column = self.row + 1, 0
            version, is_first = None, False
        yield self.event(StreamEndEvent)

    def directives(self) -> tuple[int, int] | None:
        """The version that a directive names; (0, 0) for any other directive."""
        version = None
        while self.to_content() and self.column == 0 and self.line.startswith("%"):
            version = (1, 2) if re.fullmatch(r"%YAML[ ]+1\.2[ ]*", self.line) and version is None else (0, 0)
            self.row += 1
        return version

    def is_at(self, marker: str) -> bool:
        return self.column == 0 and self.scalars.is_marker(self.row) and self.line.startswith(marker)

    def to_content(self) -> bool:
        """Go to the next word, over empty lines and comments; False at the end."""
        while self.row < len(self.lines):
            if self.column == 0:
                self.column = len(self.line) - len(self.line.lstrip(" "))
                if self.line[self.column : self.column + 1] == "\t" and not self.scalars.rest_is_empty(self.row, self.column):
                    raise YAMLError("found character '\\t' that cannot start any token", self.mark, "while scanning for the next token")
            else:
                self.skip_space()
            if not self.scalars.rest_is_empty(self.row, self.column) and not self.line.startswith("#", self.column):
                return True
            if self.line.startswith("#", self.column) and self.column and self.line[self.column - 1] not in " \t":
                return True
            self.row, self.column = self.row + 1, 0
        self.row, self.column = len(self.lines), 0
        return False

    def skip_space(self) -> None:
        while self.line[self.column : self.column + 1] == " ":
            self.column += 1
        if self.line[self.column : self.column + 1] == "\t" and not self.scalars.rest_is_empty(self.row, self.column):
            raise YAMLError("a tab between words, which verify.py does not read", self.mark)

    def not_in_line(self) -> YAMLError:
        """What stands here belongs to nothing before it."""
        if _COLON.match(self.line, self.column):
            return YAMLError("mapping values are not allowed here", self.mark)
        return YAMLError("expected <block end>, but found another word", self.mark, "while parsing a block mapping")

    def enter(self) -> None:
        self.level += 1
        if self.level > MOST_LEVELS:  # the engine refuses fewer
            raise RecursionError

    # ---- in lines ----

    def block_node(self, indent: int, in_line: bool = False) -> Iterator[Event]:
        """A value whose lines are indented by more than ``indent``; ``in_line``: after a key, where no other key may begin."""
        first_row = self.row
        if not self.to_content() or self.scalars.is_marker(self.row) or (self.row != first_row and self.column <= indent):
            yield self.empty(_Properties())
            return
        row_before, start = self.row, self.mark
        own = self.properties()
        if own.anchor or own.tag:
            if not self.to_content() or self.scalars.is_marker(self.row) or (self.row != row_before and self.column <= indent):
                is_list = self.row < len(self.lines) and self.column == indent and in_line and _DASH.match(self.line, self.column)
                if not is_list:
                    yield self.empty(own, start)
                    return
                yield from self.block_items(indent, own)
                return
            if self.row == row_before and _DASH.match(self.line, self.column):
                raise YAMLError("sequence entries are not allowed here", self.mark)
            if self.row == row_before and not in_line and self.key_end() is not None:
                raise YAMLError("an anchor before a key, which verify.py does not read", start)
        may_nest = not in_line or self.row != first_row
        yield from self.block_content(indent, own, may_nest, start)

    def block_content(self, indent: int, own: _Properties, may_nest: bool, start: Mark) -> Iterator[Event]:
        character = self.line[self.column]
        if _EXPLICIT.match(self.line, self.column):
            raise YAMLError("an explicit key (?), which verify.py does not read", self.mark)
        if _DASH.match(self.line, self.column):
            if not may_nest:
                raise YAMLError("sequence entries are not allowed here", self.mark)
            yield from self.block_items(self.column, own)
        elif may_nest and self.key_end() is not None:
            yield from self.block_mapping(own)
        elif character in "|>":
            yield self.scalar(own, self.scalars.block(self.row, self.column, indent), character, start)
        elif character in "[{":
            yield from self.flow_node(own)
            self.end_of_line()
        elif character == "*":
            yield self.alias(own)
            self.end_of_line()
        elif character in "'\"":
            yield self.scalar(own, self.scalars.quoted(self.row, self.column), character, start)
            self.end_of_line()
        else:
            yield self.plain(own, indent, in_flow=False, start=start)
            self.end_of_line()

    def end_of_line(self) -> None:
        if not self.scalars.rest_is_empty(self.row, self.column):
            self.column += len(self.line[self.column :]) - len(self.line[self.column :].lstrip(" \t"))
            raise self.not_in_line()

    def key_end(self) -> int | None:
        """The column of the colon, where a key of a mapping begins here."""
        character, row, column = self.line[self.column], self.row, self.column
        if character in "'\"":
            _, row, column = self.scalars.quoted(self.row, self.column)
        elif self.scalars.begins_plain(row, column, in_flow=False):
            column = self.scalars.plain_on_line(row, column, in_flow=False)
        elif character == "*" and (alias := _ANCHOR.match(self.line, column)):
            column = alias.end()
        else:
            return None
        colon = _COLON.match(self.lines[row], column)
        if colon is None:
            return None
        if row != self.row or column - self.column > LONGEST_KEY:
            raise YAMLError("mapping values are not allowed here", Mark(row, column))
        return colon.end() - 1

    def block_mapping(self, own: _Properties) -> Iterator[Event]:
        indent = self.column
        self.enter()
        yield self.event(MappingStartEvent, own=own)
        while True:
            yield from self.key()
            yield from self.block_value(indent)
            if not self.to_content() or self.scalars.is_marker(self.row) or self.column < indent:
                break
            if self.column > indent or _DASH.match(self.line, self.column):
                raise self.not_in_line()
            if _EXPLICIT.match(self.line, self.column):
                raise YAMLError("an explicit key (?), which verify.py does not read", self.mark)
            if self.key_end() is None:
                self.refuse_begin()
                raise YAMLError("could not find expected ':'", self.mark, "while scanning a simple key", self.mark)
        self.level -= 1
        yield self.event(MappingEndEvent)

    def key(self) -> Iterator[Event]:
        colon = self.key_end()
        if self.line[self.column] in "'\"":
            yield self.scalar(_Properties(), self.scalars.quoted(self.row, self.column), self.line[self.column])
        elif self.line[self.column] == "*":
            yield self.alias(_Properties())
        else:
            end = self.scalars.plain_on_line(self.row, self.column, in_flow=False)
            yield self.scalar(_Properties(), (self.line[self.column : end], self.row, end), None)
        self.column = (colon or 0) + 1

    def block_value(self, indent: int) -> Iterator[Event]:
        """After a colon: on the same line, indented below, or a list at the key's own column."""
        row = self.row
        self.to_content()
        if self.row < len(self.lines) and self.row != row and self.column == indent and _DASH.match(self.line, self.column):
            yield from self.block_items(indent, _Properties())
            return
        if self.row != row and (self.row == len(self.lines) or self.column <= indent):
            yield self.empty(_Properties())
            return
        yield from self.block_node(indent, in_line=self.row == row)

    def block_items(self, indent: int, own: _Properties) -> Iterator[Event]:
        self.enter()
        yield self.event(SequenceStartEvent, own=own)
        while self.row < len(self.lines) and self.column == indent and _DASH.match(self.line, self.column):
            self.column += 1
            yield from self.block_node(indent)
            if not self.to_content() or self.scalars.is_marker(self.row):
                break
            if self.column > indent:
                raise self.not_in_line()
        self.level -= 1
        yield self.event(SequenceEndEvent)

    # ---- in brackets ----

    def flow_node(self, own: _Properties) -> Iterator[Event]:
        character, start = self.line[self.column], self.mark
        if character in "[{":
            self.enter()
            yield from self.flow_items(own) if character == "[" else self.flow_mapping(own)
            self.level -= 1
        elif character == "*":
            yield self.alias(own)
        elif character in "'\"":
            yield self.scalar(own, self.scalars.quoted(self.row, self.column), character, start)
        elif character in ",]}:" or _EXPLICIT.match(self.line, self.column):
            yield self.empty(own, start)
        else:
            yield self.plain(own, -1, in_flow=True, start=start)

    def flow_items(self, own: _Properties) -> Iterator[Event]:
        opening = self.mark
        yield self.event(SequenceStartEvent, own=own)
        self.column += 1
        while not self.closes("]", opening):
            start = self.mark
            if self.line[self.column] in ",:" or _EXPLICIT.match(self.line, self.column):
                raise self.no_entry("sequence", opening)
            found = list(self.flow_node(self.flow_properties()))
            if self.colon_follows(start):
                yield MappingStartEvent(start, start)
                yield from found
                yield from self.flow_value(opening)
                yield self.event(MappingEndEvent)
            else:
                yield from found
            self.comma("]", "sequence", opening)
        self.column += 1
        yield self.event(SequenceEndEvent)

    def flow_mapping(self, own: _Properties) -> Iterator[Event]:
        opening = self.mark
        yield self.event(MappingStartEvent, own=own)
        self.column += 1
        while not self.closes("}", opening):
            start = self.mark
            if self.line[self.column] in ",:" or _EXPLICIT.match(self.line, self.column):
                raise self.no_entry("mapping", opening)
            yield from self.flow_node(self.flow_properties())
            if self.colon_follows(start):
                yield from self.flow_value(opening)
            else:
                yield self.empty(_Properties())
            self.comma("}", "mapping", opening)
        self.column += 1
        yield self.event(MappingEndEvent)

    def flow_properties(self) -> _Properties:
        own = self.properties()
        if own.anchor or own.tag:
            self.within(self.mark)
        return own

    def within(self, opening: Mark) -> None:
        """Go to the next word inside brackets."""
        if not self.to_content() or self.scalars.is_marker(self.row):
            mark = Mark(min(self.row, len(self.lines) - 1), 0)
            raise YAMLError("expected ',' or a closing bracket, but the text ends", mark, "while parsing a flow sequence", opening)

    def closes(self, bracket: str, opening: Mark) -> bool:
        self.within(opening)
        return self.line[self.column] == bracket

    def comma(self, bracket: str, kind: str, opening: Mark) -> None:
        """After an entry: a comma, or the end."""
        self.within(opening)
        if self.line[self.column] == ",":
            self.column += 1
        elif self.line[self.column] != bracket:
            raise self.no_entry(kind, opening)

    def no_entry(self, kind: str, opening: Mark) -> YAMLError:
        return YAMLError("expected ',' or a closing bracket, but got another sign", self.mark, f"while parsing a flow {kind}", opening)

    def colon_follows(self, start: Mark) -> bool:
        """Whether the entry is a key; it must be on one line."""
        before = self.mark
        is_quoted = self.line[self.column - 1 : self.column] in ("'", '"', "]", "}")
        if not (_COLON_IN_FLOW.match(self.line, self.column) or (is_quoted and self.line.startswith(":", self.column))):
            self.within(before)
            if self.line.startswith(":", self.column):
                raise YAMLError("a colon that is not beside its key, which verify.py does not read", self.mark)
            return False
        if self.row != start.line:
            raise YAMLError("a key of several lines, which verify.py does not read", self.mark)
        self.column = self.line.index(":", self.column) + 1
        return True

    def flow_value(self, opening: Mark) -> Iterator[Event]:
        self.within(opening)
        own = self.flow_properties()
        yield from self.flow_node(own)

    # ---- single values ----

    def properties(self) -> _Properties:
        own = _Properties()
        while self.line[self.column] in "&!":
            pattern = _ANCHOR if self.line[self.column] == "&" else _TAG
            match = pattern.match(self.line, self.column)
            if match is None or (own.anchor and match[0][0] == "&") or (own.tag and match[0][0] == "!"):
                raise YAMLError("expected an anchor", self.mark, "while scanning an anchor")
            if match[0][0] == "&":
                own.anchor = match[1]
            else:
                own.tag = match[0]
            self.column = match.end()
            self.skip_space()
            if self.scalars.rest_is_empty(self.row, self.column):
                break
        return own

    def alias(self, own: _Properties) -> Event:
        match = _ANCHOR.match(self.line, self.column)
        if match is None or own.anchor or own.tag:
            raise YAMLError("expected an alias", self.mark, "while scanning an alias")
        start = self.mark
        self.column = match.end()
        found = self.event(AliasEvent, start)
        found.anchor = match[1]
        return found

    def plain(self, own: _Properties, indent: int, in_flow: bool, start: Mark) -> Event:
        if not self.scalars.begins_plain(self.row, self.column, in_flow):
            self.refuse_begin()
        return self.scalar(own, self.scalars.plain(self.row, self.column, indent, in_flow), None, start)

    def refuse_begin(self) -> None:
        """Where a character stands that begins nothing here."""
        if not self.scalars.begins_plain(self.row, self.column, in_flow=False) and self.line[self.column] not in "'\"*":
            character = self.line[self.column]
            if character in "]}":
                raise YAMLError(f"expected the node content, but found '{character}'", self.mark)
            raise YAMLError(f"found character {character!r} that cannot start any token", self.mark, "while scanning")

    def scalar(self, own: _Properties, found: tuple[str, int, int], style: str | None, start: Mark | None = None) -> Event:
        start = start or self.mark
        value, self.row, self.column = found
        event = self.event(ScalarEvent, start, own)
        event.value, event.style = value, style
        return event

    def empty(self, own: _Properties, start: Mark | None = None) -> Event:
        return self.scalar(own, ("", min(self.row, len(self.lines)), self.column), None, start)
