"""YAML text -> a tree with exact source positions, or one finding about the text itself (codes Y01x to Y03x).

The parser's events are read one by one instead of loading the document: limits hold before anything is built,
every key and value has its position, and nothing is ever constructed from a tag.

    >>> from engine.runspec.nodes import SpecSource, plain
    >>> text = "seed: 42\\nrate: 1e-5\\nmode: no\\n"
    >>> plain(parse(text, SpecSource("spec.yaml", tuple(text.split("\\n")))))
    {'seed': 42, 'rate': 1e-05, 'mode': 'no'}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import InputInvalid, Where
from engine.runspec.nodes import Entry, Items, Mapping, Node, Scalar, SourcePosition, SpecSource
from engine.runspec.scalars import NotANumber, resolve
from engine.runspec.spelling.look_alikes import finding_at, in_structure, is_invisible
from engine.runspec.syntax import syntax_error

MAX_DEPTH = 64
MAX_OPEN_BRACKETS = 4 * MAX_DEPTH  # counted without regard to quotes: no text of a run-spec has so many either
MAX_ALIASES = 32
MAX_NODES = 20_000  # counted with every alias expanded: a small text can expand to billions


_BRACKET = re.compile(r"[\[\]{}]")


def parse(text: str, source: SpecSource) -> Node | None:
    """The one document of the text; None where there are only comments. Raises InputInvalid."""
    _refuse_open_brackets(text, source)
    return _Builder(source, _events(text, source)).document()


def _refuse_open_brackets(text: str, source: SpecSource) -> None:
    """Y025 before the parser looks: each open bracket of a line may be a key for it, and it asks for all of them at each step."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth = depth + 1 if match[0] in "[{" else max(0, depth - 1)
        if depth > MAX_OPEN_BRACKETS:
            line = text.count("\n", 0, match.start()) + source.first
            raise InputInvalid(
                "Y025",
                f"more than {MAX_DEPTH} levels of nesting",
                where=Where(source.name, line),
                hint="no run-spec needs so many",
            )


def parse_mapping(text: str, source: SpecSource) -> Mapping:
    """The document, which must be a mapping at the top (Y004, Y032)."""
    tree = parse(text, source)
    if tree is None or (isinstance(tree, Scalar) and tree.value is None and not tree.quoted):
        raise InputInvalid(
            "Y004", "the file has comments only", where=Where(source.name),
            hint="start from a preset: runspec init quickstart",
        )  # fmt: skip
    if not isinstance(tree, Mapping):
        _refuse_look_alikes(source)
        what = "a list" if isinstance(tree, Items) else "a single value (a space follows each colon)"
        raise InputInvalid(
            "Y032", f"a run-spec is a mapping of keys to values, and this is {what}", where=tree.position.where(),
            hint="its first lines are: version: 1, run_version: my_run_v1, model: …",
        )  # fmt: skip
    return tree


def _refuse_look_alikes(source: SpecSource) -> None:
    """A text without one colon that YAML knows may have others (Y035)."""
    for number, line in enumerate(source.lines, start=source.first):
        column = in_structure(line)
        if column is not None:
            raise InputInvalid.of([finding_at(SourcePosition(source, number, column).where(), column)])


def _events(text: str, source: SpecSource) -> Iterator[_Event]:
    from ruamel.yaml import YAML  # 0.05 s; asking for --help must not pay for it
    from ruamel.yaml.error import YAMLError

    # The parser raises YAMLError, but for a few texts (an escape beyond Unicode, a broken directive) an
    # exception of its own bugs; a person gets a finding for those too.
    parser_bugs = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, AssertionError)
    try:
        yield from YAML(typ="safe", pure=True, plug_ins=[]).parse(text)
    except (YAMLError, NotImplementedError, *parser_bugs) as error:
        raise syntax_error(error, source) from None


class _Mark(Protocol):
    """A position of the parser; line and column count from 0."""

    line: int
    column: int


class _Event(Protocol):
    """The attributes of the parser's events that are read here; each kind of event has some of them."""

    start_mark: _Mark
    end_mark: _Mark
    anchor: str | None
    value: str
    style: str | None
    version: Sequence[int] | None
    tags: object


@dataclass
class _Builder:
    """Builds the tree from the events; one instance per document."""

    source: SpecSource
    events: Iterator[_Event]
    anchors: dict[str, Node | None] = field(default_factory=dict)  # None: still being read
    sizes: dict[int, int] = field(default_factory=dict)  # id of a node -> its nodes, aliases written out
    aliases: int = 0
    nodes: int = 0

    def document(self) -> Node | None:
        next(self.events)  # the stream starts
        event = next(self.events)
        if _name(event) == "StreamEndEvent":
            return None
        self.check_start(event)
        tree = self.node(next(self.events), 1)
        next(self.events)  # the document ends
        event = next(self.events)
        if _name(event) != "StreamEndEvent":
            position = self.position(event)
            raise self.refuse(
                "Y021", "a second document begins here; a run-spec file holds one", position,
                'remove the line "---" and what follows it, or put it into a file of its own',
            )  # fmt: skip
        return tree

    def check_start(self, event: _Event) -> None:
        version = tuple(event.version) if event.version else None
        if (version and version != (1, 2)) or event.tags:
            position = SourcePosition(self.source, 1, 1, len(self.source.line(1) or " "))
            raise self.refuse(
                "Y033", "directives (lines that begin with %) are not supported", position,
                "remove the line; run-specs are YAML 1.2",
            )  # fmt: skip

    def node(self, event: _Event, depth: int) -> Node:
        name = _name(event)
        if depth > MAX_DEPTH:
            raise self.refuse(
                "Y025", f"more than {MAX_DEPTH} levels of nesting", self.position(event), "no run-spec needs so many"
            )
        self.count(1, event)
        if name == "AliasEvent":
            return self.alias(event)
        self.check_tag(event)
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        before = self.nodes
        if name == "ScalarEvent":
            built: Node = self.scalar(event)
        elif name == "SequenceStartEvent":
            built = self.items(event, depth)
        else:
            built = self.mapping(event, depth)
        if anchor is not None:
            self.anchors[anchor] = built
            self.sizes[id(built)] = self.nodes - before + 1
        return built

    def count(self, more: int, event: _Event) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            raise self.refuse(
                "Y027", f"more than {MAX_NODES} values", self.position(event),
                "an alias (*name) that repeats a large part? Write out what is needed",
            )  # fmt: skip

    def alias(self, event: _Event) -> Node:
        position = self.position(event)
        if event.anchor not in self.anchors:
            raise self.refuse(
                "Y028", f'the alias "*{event.anchor}" names nothing', position,
                f'mark a value above it with "&{event.anchor}", or put the text in quotes',
            )  # fmt: skip
        target = self.anchors[event.anchor]
        if target is None:
            raise self.refuse("Y029", f'"*{event.anchor}" is inside what it repeats', position, "write it out")
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise self.refuse("Y026", f"more than {MAX_ALIASES} aliases", position, "write the values out")
        self.count(self.sizes[id(target)], event)
        return target

    def check_tag(self, event: _Event) -> None:
        if getattr(event, "ctag", None) is None and not getattr(event, "tag", None):
            return
        position = self.position(event)
        written = (self.source.line(position.line) or "")[position.column - 1 :].split()
        tag = next((word for word in written if word.startswith("!")), "!")
        position = SourcePosition(position.source, position.line, position.column, len(tag))
        raise self.refuse(
            "Y022", f'tags ("{tag}") are not supported', position, "remove it; text goes in quotes, numbers without"
        )

    def scalar(self, event: _Event) -> Scalar:
        position = self.position(event)
        quoted = event.style is not None  # 'single', "double", | and >
        if quoted:
            return Scalar(position, event.value, event.value, quoted=True)
        self.check_ends(event, position)
        try:
            value = resolve(event.value)
        except NotANumber as problem:
            code = "Y030" if "finite" in str(problem) else "Y031"
            raise self.refuse(code, str(problem), position, "every number of a run-spec is finite") from None
        return Scalar(position, value, event.value)

    def check_ends(self, event: _Event, position: SourcePosition) -> None:
        """An unquoted word does not begin or end with a character that nobody sees (Y034)."""
        if event.start_mark.line != event.end_mark.line or not event.value:
            return
        for offset in (0, len(event.value) - 1):
            if is_invisible(event.value[offset]):
                raise InputInvalid.of([finding_at(position.where(), position.column + offset)])

    def items(self, event: _Event, depth: int) -> Items:
        position, items = self.position(event), []
        while _name(inner := next(self.events)) != "SequenceEndEvent":
            items.append(self.node(inner, depth + 1))
        return Items(position, tuple(items))

    def mapping(self, event: _Event, depth: int) -> Mapping:
        position, entries = self.position(event), dict[str, Entry]()
        while _name(inner := next(self.events)) != "MappingEndEvent":
            key = self.key(inner, depth)
            name = str(key.value)
            if name in entries:
                first = entries[name].key
                raise self.refuse(
                    "Y020", f'the key "{name}" is written twice in one mapping', key.position,
                    f"the first one is at {first.source.name}:{first.line}:{first.column}; keep one of them",
                )  # fmt: skip
            entries[name] = Entry(key.position, self.node(next(self.events), depth + 1))
        return Mapping(position, entries)

    def key(self, event: _Event, depth: int) -> Scalar:
        key = self.node(event, depth + 1)
        if isinstance(key, Scalar) and key.value == "<<" and not key.quoted:
            raise self.refuse(
                "Y023", 'merge keys ("<<") are not supported: YAML 1.2 has none', key.position, "write the keys out"
            )
        if isinstance(key, Scalar) and isinstance(key.value, str):
            return key
        if isinstance(key, Scalar):
            number = self.divided_number(key)
            if number is not None:
                message = (
                    f"in braces a comma separates two entries: {number} is read as two, and the second has no name"
                )
                raise self.refuse("Y024", message, key.position, f"write {number.replace(',', '')}")
            kind = "empty" if key.value is None else f"{key.text}, which is not a name"
            raise self.refuse(
                "Y024", f"keys are names; this key is {kind}", key.position, "write a name before the colon"
            )
        hint = "in flow style a mapping is {key: value}; {{ }} is for templates"
        raise self.refuse("Y024", "keys are names; this key is a list or a mapping", key.position, hint)

    def divided_number(self, key: Scalar) -> str | None:
        """``2,000`` where the key is the ``000`` of it."""
        before = (self.source.line(key.position.line) or "")[: key.position.column - 1]
        start = re.search(r"(?<![\w,.])[0-9]{1,3}(,[0-9]{3})*,$", before)
        return f"{start[0]}{key.text}" if start and re.fullmatch(r"[0-9]{3}", key.text) else None

    def position(self, event: _Event) -> SourcePosition:
        start, end = event.start_mark, event.end_mark
        line = self.source.line(start.line + self.source.first) or ""
        width = end.column - start.column if end.line == start.line else len(line) - start.column
        return SourcePosition(self.source, start.line + self.source.first, start.column + 1, max(1, width))

    @staticmethod
    def refuse(code: str, message: str, position: SourcePosition, hint: str) -> InputInvalid:
        return InputInvalid(code, message, where=position.where(), hint=hint)


def _name(event: _Event) -> str:
    return type(event).__name__
