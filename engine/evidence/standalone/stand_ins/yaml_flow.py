"""YAML in brackets: ``[a, b]`` and ``{a: b}``, over several lines too."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.evidence.standalone.stand_ins.yaml_error import Mark, YAMLError
from engine.evidence.standalone.stand_ins.yaml_kinds import (
    MappingEndEvent,
    MappingStartEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    YamlEvent,
)
from engine.evidence.standalone.stand_ins.yaml_position import EXPLICIT, Position, Properties

_COLON_IN_FLOW = re.compile(r"[ ]*:(?=[ \t,\[\]{}]|$)")


class FlowReader(Position):
    """Reads what stands in brackets; its lines may be indented in any way."""

    def flow_node(self, own: Properties) -> Iterator[YamlEvent]:
        """A value inside brackets."""
        character, start = self.line[self.column], self.mark
        if character in "[{":
            self.enter()
            yield from self.flow_items(own) if character == "[" else self.flow_mapping(own)
            self.level -= 1
        elif character == "*":
            yield self.alias(own)
        elif character in "'\"":
            yield self.scalar(own, self.scalars.quoted(self.row, self.column), character, start)
        elif character in ",]}:" or EXPLICIT.match(self.line, self.column):
            yield self.empty(own, start)
        else:
            yield self.plain(own, -1, in_flow=True, start=start)

    def flow_items(self, own: Properties) -> Iterator[YamlEvent]:
        """``[a, b]``."""
        opening = self.mark
        yield self.event(SequenceStartEvent, own=own)
        self.column += 1
        while not self.closes("]", opening):
            start = self.mark
            if self.line[self.column] in ",:" or EXPLICIT.match(self.line, self.column):
                raise self.no_entry("sequence", opening)
            own = self.flow_properties()
            if self.line[self.column] in "[{":
                yield from self.flow_node(own)
                if self.colon_follows(start):
                    raise YAMLError("a list or a mapping as a key, which verify.py does not read", start)
            else:
                found = list(self.flow_node(own))
                yield from self.pair(found, start, opening) if self.colon_follows(start) else found
            self.comma("]", "sequence", opening)
        self.column += 1
        yield self.event(SequenceEndEvent)

    def pair(self, key: list[YamlEvent], start: Mark, opening: Mark) -> Iterator[YamlEvent]:
        """``[key: value]``: a mapping of one key inside a list."""
        yield MappingStartEvent(start, start)
        yield from key
        yield from self.flow_value(opening)
        yield self.event(MappingEndEvent)

    def flow_mapping(self, own: Properties) -> Iterator[YamlEvent]:
        """``{a: b}``."""
        opening = self.mark
        yield self.event(MappingStartEvent, own=own)
        self.column += 1
        while not self.closes("}", opening):
            start = self.mark
            if self.line[self.column] in ",:" or EXPLICIT.match(self.line, self.column):
                raise self.no_entry("mapping", opening)
            yield from self.flow_node(self.flow_properties())
            if self.colon_follows(start):
                yield from self.flow_value(opening)
            else:
                yield self.empty(Properties())
            self.comma("}", "mapping", opening)
        self.column += 1
        yield self.event(MappingEndEvent)

    def flow_properties(self) -> Properties:
        """What stands before a value."""
        own = self.properties()
        if own.anchor or own.tag:
            self.within(self.mark)
        return own

    def within(self, opening: Mark) -> None:
        """Go to the next word inside brackets."""
        if not self.to_content() or self.scalars.is_marker(self.row):
            mark = Mark(min(self.row, len(self.lines) - 1), 0)
            raise YAMLError(
                "expected ',' or a closing bracket, but the text ends", mark, "while parsing a flow sequence", opening
            )

    def closes(self, bracket: str, opening: Mark) -> bool:
        """Whether the bracket is closed here."""
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
        """What is neither comma nor bracket."""
        return YAMLError(
            "expected ',' or a closing bracket, but got another sign",
            self.mark,
            f"while parsing a flow {kind}",
            opening,
        )

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

    def flow_value(self, opening: Mark) -> Iterator[YamlEvent]:
        """What stands after a colon."""
        self.within(opening)
        own = self.flow_properties()
        yield from self.flow_node(own)
