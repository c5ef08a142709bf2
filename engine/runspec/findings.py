"""The findings of one spec, and everything a check may look at.

A check adds to ``case.findings``; what was found wrong once is remembered by its path, so that no later check
builds on a value that is not there (one mistake, one message).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from engine.errors import Diagnostic, Severity, did_you_mean
from engine.runspec.kinds import Kinds, StepKind
from engine.runspec.nodes import Items, Mapping, Node, Path, Scalar, SourcePosition, at, dotted, text_of


@dataclass
class SpecFindings:
    """Diagnostics in the order found; :meth:`sorted` gives them in the order of the file."""

    tree: Mapping
    rows: list[tuple[tuple[bool, int, int], Diagnostic]] = field(default_factory=list)
    bad: set[Path] = field(default_factory=set)

    def error(self, code: str, message: str, path: Path, place: SourcePosition, hint: str | None = None) -> None:
        """An error; the path counts as unusable from now on."""
        self.bad.add(path)
        self._add(code, message, path, place, hint, "error")

    def warn(self, code: str, message: str, path: Path, place: SourcePosition, hint: str | None = None) -> None:
        """A warning."""
        self._add(code, message, path, place, hint, "warning")

    def _add(
        self, code: str, message: str, path: Path, place: SourcePosition, hint: str | None, severity: Severity
    ) -> None:
        where = place.where(dotted(path, self.tree))
        self.rows.append((place.order, Diagnostic(code, message, where, hint, severity)))

    def usable(self, path: Path) -> bool:
        """True where nothing was found wrong with the path, what is around it or what is in it."""
        return not any(bad == path[: len(bad)] or path == bad[: len(path)] for bad in self.bad)

    def sorted(self) -> list[Diagnostic]:
        """By place, each once (an alias shows the same mistake at every use)."""
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
        """How messages call it."""
        return f'step "{self.id}"' if self.id else f"step number {self.index + 1}"

    def place(self, *keys: str) -> SourcePosition:
        """Where the first of these keys that is written stands (its value), else the step itself."""
        for key in keys:
            entry = self.node.entries.get(key)
            if entry is not None:
                return entry.value.place
        return self.node.place


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
        """The text at a path where it is text and nothing is wrong with it."""
        return text_of(self.at(*path)) if self.findings.usable(path) else None

    def key_place(self, *path: str | int) -> SourcePosition:
        """Where the last key of a path is written; where it is not, the nearest thing around it."""
        for end in range(len(path), 0, -1):
            outer, last = self.at(*path[: end - 1]), path[end - 1]
            if isinstance(outer, Mapping) and isinstance(last, str) and last in outer.entries:
                return outer.entries[last].key
            if isinstance(outer, Items) and isinstance(last, int) and last < len(outer.items):
                return outer.items[last].place
        return SourcePosition(self.tree.place.source, self.tree.place.line, self.tree.place.column)

    @property
    def steps(self) -> Iterator[Step]:
        """The entries of ``steps`` that are mappings."""
        steps = self.tree.get("steps")
        for index, node in enumerate(steps.items if isinstance(steps, Items) else ()):
            if isinstance(node, Mapping):
                uses = text_of(node.get("uses"))
                yield Step(index, text_of(node.get("id")), node, self.kinds.get(uses) if uses else None)


def suggestion(word: str, known: Collection[str], otherwise: str) -> str:
    """``did you mean "x"?`` where something is near, and the list of what there is."""
    near = did_you_mean(word, known)
    listed = f"{otherwise}: {', '.join(sorted(known))}" if known else ""
    return "\n".join(line for line in (f'did you mean "{near}"?' if near else "", listed) if line)


def shown(node: Node) -> str:
    """A value inside a message."""
    if isinstance(node, Mapping):
        return "a mapping of keys"
    if isinstance(node, Items):
        return "a list"
    return said(node)


def said(node: Scalar) -> str:
    """A scalar as the person wrote it; text in quotation marks."""
    if node.value is None and not node.quoted:
        return "null"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}…"
    text = text.replace("\n", " ")
    return f'"{text}"' if isinstance(node.value, str) else text
