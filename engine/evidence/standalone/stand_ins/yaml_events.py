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

from engine.evidence.standalone.stand_ins.yaml_error import Mark, YAMLError
from engine.evidence.standalone.stand_ins.yaml_flow import FlowReader
from engine.evidence.standalone.stand_ins.yaml_kinds import (
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
    YamlEvent,
)
from engine.evidence.standalone.stand_ins.yaml_position import ANCHOR, EXPLICIT, Properties

_DASH = re.compile(r"-(?=[ \t]|$)")
_COLON = re.compile(r"[ ]*:(?=[ \t]|$)")
LONGEST_KEY = 1024


class YAML:
    """The part of the library's class that is used."""

    def __init__(self, **_: object) -> None:
        """Takes the library's options, which all mean: as strictly as can be."""

    def parse(self, text: str) -> Iterator[YamlEvent]:
        """The events. Raises YAMLError."""
        return _Parser(text).stream()


class _Parser(FlowReader):
    """Reads what stands in lines, by their indentation."""

    def stream(self) -> Iterator[YamlEvent]:
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

    def not_in_line(self) -> YAMLError:
        """What stands here belongs to nothing before it."""
        if _COLON.match(self.line, self.column):
            return YAMLError("mapping values are not allowed here", self.mark)
        return YAMLError("expected <block end>, but found another word", self.mark, "while parsing a block mapping")

    def block_node(self, indent: int, in_line: bool = False) -> Iterator[YamlEvent]:
        """A value whose lines are indented by more than ``indent``; ``in_line``: after a key, where no other key may begin."""
        first_row = self.row
        if (
            not self.to_content()
            or self.scalars.is_marker(self.row)
            or (self.row != first_row and self.column <= indent)
        ):
            yield self.empty(Properties())
            return
        row_before, start = self.row, self.mark
        own = self.properties()
        if own.anchor or own.tag:
            if (
                not self.to_content()
                or self.scalars.is_marker(self.row)
                or (self.row != row_before and self.column <= indent)
            ):
                is_list = (
                    self.row < len(self.lines)
                    and self.column == indent
                    and in_line
                    and _DASH.match(self.line, self.column)
                )
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

    def block_content(self, indent: int, own: Properties, may_nest: bool, start: Mark) -> Iterator[YamlEvent]:
        character = self.line[self.column]
        if EXPLICIT.match(self.line, self.column):
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
        elif character == "*" and (alias := ANCHOR.match(self.line, column)):
            column = alias.end()
        else:
            return None
        colon = _COLON.match(self.lines[row], column)
        if colon is None:
            return None
        if row != self.row or column - self.column > LONGEST_KEY:
            raise YAMLError("mapping values are not allowed here", Mark(row, column))
        return colon.end() - 1

    def block_mapping(self, own: Properties) -> Iterator[YamlEvent]:
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
            if EXPLICIT.match(self.line, self.column):
                raise YAMLError("an explicit key (?), which verify.py does not read", self.mark)
            if self.key_end() is None:
                self.refuse_begin()
                raise YAMLError("could not find expected ':'", self.mark, "while scanning a simple key", self.mark)
        self.level -= 1
        yield self.event(MappingEndEvent)

    def key(self) -> Iterator[YamlEvent]:
        colon = self.key_end()
        if self.line[self.column] in "'\"":
            yield self.scalar(Properties(), self.scalars.quoted(self.row, self.column), self.line[self.column])
        elif self.line[self.column] == "*":
            yield self.alias(Properties())
        else:
            end = self.scalars.plain_on_line(self.row, self.column, in_flow=False)
            yield self.scalar(Properties(), (self.line[self.column : end], self.row, end), None)
        self.column = (colon or 0) + 1

    def block_value(self, indent: int) -> Iterator[YamlEvent]:
        """After a colon: on the same line, indented below, or a list at the key's own column."""
        row = self.row
        self.to_content()
        if (
            self.row < len(self.lines)
            and self.row != row
            and self.column == indent
            and _DASH.match(self.line, self.column)
        ):
            yield from self.block_items(indent, Properties())
            return
        if self.row != row and (self.row == len(self.lines) or self.column <= indent):
            yield self.empty(Properties())
            return
        yield from self.block_node(indent, in_line=self.row == row)

    def block_items(self, indent: int, own: Properties) -> Iterator[YamlEvent]:
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
