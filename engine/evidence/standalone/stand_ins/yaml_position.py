"""Where the reader of YAML is in its lines, and the single values that can stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.evidence.standalone.stand_ins.yaml_error import Mark, YAMLError
from engine.evidence.standalone.stand_ins.yaml_kinds import AliasEvent, ScalarEvent, YamlEvent
from engine.evidence.standalone.stand_ins.yaml_scalars import Scalars

EXPLICIT = re.compile(r"\?(?=[ \t,\[\]{}]|$)")
ANCHOR = re.compile(r"[&*]([^\s,\[\]{}]+)")
_TAG = re.compile(r"!\S*")
MOST_LEVELS = 200


@dataclass
class Properties:
    """What may stand before a value."""

    anchor: str | None = None
    tag: str | None = None


class Position:
    """Goes through the lines once; ``row`` and ``column`` are where it is."""

    def __init__(self, text: str) -> None:
        self.scalars = Scalars(text)
        self.lines = self.scalars.lines
        self.row, self.column, self.level = 0, 0, 0

    @property
    def mark(self) -> Mark:
        """Here."""
        return Mark(min(self.row, len(self.lines) - 1), self.column)

    @property
    def line(self) -> str:
        """This line."""
        return self.lines[self.row]

    def event(self, kind: type[YamlEvent], start: Mark | None = None, own: Properties | None = None) -> YamlEvent:
        """An event that ends here."""
        own = own or Properties()
        return kind(start or self.mark, self.mark, anchor=own.anchor, tag=own.tag)

    def to_content(self) -> bool:
        """Go to the next word, over empty lines and comments; False at the end."""
        while self.row < len(self.lines):
            if self.column == 0:
                self.column = len(self.line) - len(self.line.lstrip(" "))
                if self.line[self.column : self.column + 1] == "\t" and not self.scalars.rest_is_empty(
                    self.row, self.column
                ):
                    raise YAMLError(
                        "found character '\\t' that cannot start any token",
                        self.mark,
                        "while scanning for the next token",
                    )
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
        """Over spaces; a tab between words is refused."""
        while self.line[self.column : self.column + 1] == " ":
            self.column += 1
        if self.line[self.column : self.column + 1] == "\t" and not self.scalars.rest_is_empty(self.row, self.column):
            raise YAMLError("a tab between words, which verify.py does not read", self.mark)

    def enter(self) -> None:
        """One level deeper."""
        self.level += 1
        if self.level > MOST_LEVELS:  # the engine refuses fewer
            raise RecursionError

    def properties(self) -> Properties:
        """Anchor and tag before a value."""
        own = Properties()
        while self.line[self.column] in "&!":
            pattern = ANCHOR if self.line[self.column] == "&" else _TAG
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

    def alias(self, own: Properties) -> YamlEvent:
        """``*name``."""
        match = ANCHOR.match(self.line, self.column)
        if match is None or own.anchor or own.tag:
            raise YAMLError("expected an alias", self.mark, "while scanning an alias")
        start = self.mark
        self.column = match.end()
        found = self.event(AliasEvent, start)
        found.anchor = match[1]
        return found

    def plain(self, own: Properties, indent: int, in_flow: bool, start: Mark) -> YamlEvent:
        """An unquoted value."""
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

    def scalar(
        self, own: Properties, found: tuple[str, int, int], style: str | None, start: Mark | None = None
    ) -> YamlEvent:
        """A value that was read."""
        start = start or self.mark
        value, self.row, self.column = found
        event = self.event(ScalarEvent, start, own)
        event.value, event.style = value, style
        return event

    def empty(self, own: Properties, start: Mark | None = None) -> YamlEvent:
        """No value, which is null."""
        return self.scalar(own, ("", min(self.row, len(self.lines)), self.column), None, start)
