"""A YAML document as a tree in which every node knows its source position.

Made by :mod:`engine.runspec.document` from the file and by :mod:`engine.runspec.overrides` from the command line, so
that a finding about an overridden value points at the command line. Immutable: an edit makes a new tree.

    >>> source = SpecSource("spec.yaml", ("seed: 42",))
    >>> seed = Scalar(SourcePosition(source, 1, 7, 2), 42, "42")
    >>> tree = Mapping(SourcePosition(source, 1, 1, 8), {"seed": Entry(SourcePosition(source, 1, 1, 4), seed)})
    >>> plain(tree), str(tree.entries["seed"].value.position.where("seed"))
    ({'seed': 42}, 'spec.yaml:1:7')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from engine.errors import Where

COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True, eq=False)
class SpecSource:
    """A text that was read: its name as the person typed it, and its lines. Line n is ``lines[n - first]``."""

    name: str
    lines: tuple[str, ...]
    first: int = 1

    def line(self, number: int) -> str | None:
        """The person's own line, or None where the number lies outside."""
        index = number - self.first
        return self.lines[index] if 0 <= index < len(self.lines) else None


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """A stretch of a text; line and column count from 1."""

    source: SpecSource
    line: int
    column: int
    width: int = 1

    @property
    def typed(self) -> bool:
        """True for what came from the command line."""
        return self.source.name == COMMAND_LINE

    @property
    def order(self) -> tuple[bool, int, int]:
        """Findings are shown in this order: the file from top to bottom, then the command line."""
        return (self.typed, self.line, self.column)

    def where(self, path: str = "") -> Where:
        """The position in the form that a diagnostic has."""
        text = self.source.line(self.line)
        return Where(self.source.name, self.line, self.column, text, max(1, self.width), path)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """One value. ``text`` is how it was written, without quotes; ``quoted`` says whether there were any."""

    position: SourcePosition
    value: str | int | float | bool | None
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A key of a mapping, with the position of the key itself."""

    key: SourcePosition
    value: Node


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Keys and values, in the order written."""

    position: SourcePosition
    entries: dict[str, Entry]

    def get(self, key: str) -> Node | None:
        """The value of a key, or None where it is not written."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    def with_entry(self, key: str, entry: Entry) -> Mapping:
        """The same mapping with one key set; a key that exists keeps its rank."""
        return replace(self, entries={**self.entries, key: entry})


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """A list."""

    position: SourcePosition
    items: tuple[Node, ...]


Node: TypeAlias = Scalar | Mapping | Items
Path: TypeAlias = tuple[str | int, ...]


def plain(node: Node) -> Any:
    """The value without positions: what ``json`` would have read."""
    if isinstance(node, Mapping):
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def text_of(node: Node | None) -> str | None:
    """The value where it is text, else None."""
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def at(tree: Node, path: Sequence[str | int]) -> Node | None:
    """The node at a path of keys and indices, or None where the tree has none."""
    node: Node | None = tree
    for part in path:
        if isinstance(node, Mapping) and isinstance(part, str):
            node = node.get(part)
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            return None
    return node


def put(tree: Node, path: Sequence[str | int], entry: Entry) -> Node:
    """A new tree with the last key of ``path`` set. Missing mappings on the way are created."""
    if not path:
        return entry.value
    head, rest = path[0], path[1:]
    if isinstance(tree, Items) and isinstance(head, int):
        items = list(tree.items)
        items[head] = put(items[head], rest, entry)
        return replace(tree, items=tuple(items))
    if isinstance(tree, Mapping) and isinstance(head, str):
        existing = tree.entries.get(head)
        if not rest:
            return tree.with_entry(head, entry)
        inside = existing.value if existing else Mapping(entry.key, {})
        changed = put(inside, rest, entry)
        return tree.with_entry(head, Entry(existing.key if existing else entry.key, changed))
    raise LookupError(f"no mapping at {head!r}")


def dotted(path: Path, tree: Node | None = None) -> str:
    """The path as people write it: list items of ``steps`` by their id, others by their number from 0.

    ``("steps", 2, "with", "seq_len")`` is ``steps.train.with.seq_len``.
    """
    text = ""
    for index, part in enumerate(path):
        if isinstance(part, str):
            text += f".{part}" if text else part
            continue
        name = text_of(at(tree, [*path[: index + 1], "id"])) if tree is not None and path[0] == "steps" else None
        text += f".{name}" if name and index == 1 else f"[{part}]"
    return text
