"""The findings of one spec, and the input of every check.

A check adds to ``case.findings``; the path of each error is remembered, so that no later check
uses a value that is missing or wrong (one mistake, one message).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from engine.errors import Diagnostic, Severity, did_you_mean, listed
from engine.runspec.kinds import Kinds, StepKind
from engine.runspec.nodes import Items, Mapping, Node, Path, Scalar, SourcePosition, at, dotted, text_of


@dataclass
class SpecFindings:
    """Diagnostics in the order found; :meth:`sorted` gives them in the order of the file."""

    tree: Mapping
    rows: list[tuple[tuple[bool, int, int], Diagnostic]] = field(default_factory=list)
    bad: set[Path] = field(default_factory=set)

    def error(self, code: str, message: str, path: Path, position: SourcePosition, hint: str | None = None) -> None:
        """An error; the path counts as unusable from now on."""
        self.bad.add(path)
        self._add(code, message, path, position, hint, "error")

    def warn(self, code: str, message: str, path: Path, position: SourcePosition, hint: str | None = None) -> None:
        """A warning."""
        self._add(code, message, path, position, hint, "warning")

    def _add(
        self, code: str, message: str, path: Path, position: SourcePosition, hint: str | None, severity: Severity
    ) -> None:
        where = position.where(dotted(path, self.tree))
        self.rows.append((position.order, Diagnostic(code, message, where, hint, severity)))

    def usable(self, path: Path) -> bool:
        """True where neither the path, nor a mapping around it, nor a value in it has an error."""
        return not any(bad == path[: len(bad)] or path == bad[: len(path)] for bad in self.bad)

    def sorted(self) -> list[Diagnostic]:
        """By position, each once (an alias repeats the same mistake at every use)."""
        unique = {(row.code, row.message, str(row.where)): (order, row) for order, row in self.rows}
        return [row for _, row in sorted(unique.values(), key=lambda pair: pair[0])]


@dataclass(frozen=True)
class Step:
    """A step as far as it can be read: ``kind`` is None where ``uses`` is missing or unknown."""

    index: int
    id: str | None
    node: Mapping
    kind: StepKind | None

    @property
    def path(self) -> Path:
        """Its address in the document."""
        return ("steps", self.index)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f'step "{self.id}"' if self.id else f"step number {self.index + 1}"

    def position(self, *keys: str) -> SourcePosition:
        """The position of the value of the first of these keys that is written, else of the step."""
        for key in keys:
            entry = self.node.entries.get(key)
            if entry is not None:
                return entry.value.position
        return self.node.position


@dataclass(frozen=True)
class Case:
    """One document under check. ``builders`` and ``metrics`` are the known names, or None for "any"."""

    tree: Mapping
    kinds: Kinds
    root: FilePath
    spec_path: FilePath
    findings: SpecFindings
    builders: Collection[str] | None = None
    metrics: Collection[str] | None = None

    def at(self, *path: str | int) -> Node | None:
        """The node at a path, or None."""
        return at(self.tree, path)

    def good_text(self, *path: str | int) -> str | None:
        """The text at a path; None where it is no text or has an error."""
        return text_of(self.at(*path)) if self.findings.usable(path) else None

    def key_position(self, *path: str | int) -> SourcePosition:
        """The position of the last key of a path; where it is not written, of the nearest mapping around it."""
        for end in range(len(path), 0, -1):
            outer, last = self.at(*path[: end - 1]), path[end - 1]
            if isinstance(outer, Mapping) and isinstance(last, str) and last in outer.entries:
                return outer.entries[last].key
            if isinstance(outer, Items) and isinstance(last, int) and last < len(outer.items):
                return outer.items[last].position
        return SourcePosition(self.tree.position.source, self.tree.position.line, self.tree.position.column)

    @property
    def steps(self) -> Iterator[Step]:
        """The entries of ``steps`` that are mappings."""
        steps = self.tree.get("steps")
        for index, node in enumerate(steps.items if isinstance(steps, Items) else ()):
            if isinstance(node, Mapping):
                uses = text_of(node.get("uses"))
                yield Step(index, text_of(node.get("id")), node, self.kinds.get(uses) if uses else None)


def suggestion(word: str, known: Collection[str], title: str) -> str:
    """``did you mean "x"?`` where a known word is near, and the list of known words under its title."""
    near = did_you_mean(word, known)
    names = f"{title}: {listed(sorted(known))}" if known else ""
    return "\n".join(line for line in (f'did you mean "{near}"?' if near else "", names) if line)


def node_text(node: Node) -> str:
    """A value as a message names it."""
    if isinstance(node, Mapping):
        return "a mapping of keys"
    if isinstance(node, Items):
        return "a list"
    return scalar_text(node)


def scalar_text(node: Scalar) -> str:
    """A scalar as the person wrote it; text in quotation marks."""
    if node.value is None and not node.quoted:
        return "null"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}…"
    text = text.replace("\n", " ")
    return f'"{text}"' if isinstance(node.value, str) else text
