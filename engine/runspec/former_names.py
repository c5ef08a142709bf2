"""Keys that were renamed: a run-spec with the old name is read as if it had the new one, and a warning says so.

In: a tree, the schemas. Out: the tree with present names only, and each key that was renamed. The schema of a key lists
its old names under ``x-former-names``; the file itself, and so its digest, stays what the person wrote.

    tree, renamed = with_present_names(tree, kinds)
    [(key.old, key.new) for key in renamed]      # [("warmup", "warmup_steps")]
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from engine.runspec.findings import Case
from engine.runspec.kinds import Kinds, Schema, base_schema, properties
from engine.runspec.nodes import Entry, Items, Mapping, Node, Path, SourcePosition, text_of

FORMER_NAME = "S320"


class RenamedKey(NamedTuple):
    """A key that was written under an old name. ``path`` is that of the new one."""

    path: Path
    old: str
    new: str
    position: SourcePosition


def present_name(key: str, schema: Schema) -> str:
    """The present name of a key in a mapping of this schema; the key itself where it was never renamed.

    >>> present_name("warmup", {"properties": {"warmup_steps": {"x-former-names": ["warmup"]}}})
    'warmup_steps'
    """
    known = properties(schema)
    if key in known:
        return key
    return next((name for name, entry in known.items() if key in entry.get("x-former-names", ())), key)


def with_present_names(tree: Mapping, kinds: Kinds) -> tuple[Mapping, list[RenamedKey]]:
    """Sections by the run-spec's own schema, each step's ``with`` by that of its kind."""
    renamed: list[RenamedKey] = []
    tree = _mapping(tree, base_schema(), (), renamed)
    steps = tree.entries.get("steps")
    if steps is None or not isinstance(steps.value, Items):
        return tree, renamed
    items = tuple(_step(item, index, kinds, renamed) for index, item in enumerate(steps.value.items))
    return tree.with_entry("steps", Entry(steps.key, replace(steps.value, items=items))), renamed


def warn_of_former_names(renamed: list[RenamedKey], case: Case) -> None:
    """Warning S320 for each."""
    for key in renamed:
        case.findings.warn(
            FORMER_NAME, f'"{key.old}" is called "{key.new}" now; it is read as that', key.path, key.position,
            f"write {key.new}",
        )  # fmt: skip


def _step(item: Node, index: int, kinds: Kinds, renamed: list[RenamedKey]) -> Node:
    if not isinstance(item, Mapping):
        return item
    kind = kinds.get(text_of(item.get("uses")) or "")
    arguments = item.entries.get("with")
    if kind is None or arguments is None or not isinstance(arguments.value, Mapping):
        return item
    changed = _mapping(arguments.value, kind.schema, ("steps", index, "with"), renamed)
    return item.with_entry("with", Entry(arguments.key, changed))


def _mapping(node: Mapping, schema: Schema, path: Path, renamed: list[RenamedKey]) -> Mapping:
    """The mapping, and those in it, under present names. A key that stands there under both names is left alone."""
    entries: dict[str, Entry] = {}
    for old, entry in node.entries.items():
        new = present_name(old, schema)
        if new != old and new in node.entries:
            new = old
        if new != old:
            renamed.append(RenamedKey((*path, new), old, new, entry.key))
        inner = properties(schema).get(new)
        value = entry.value
        if isinstance(value, Mapping) and inner is not None:
            value = _mapping(value, inner, (*path, new), renamed)
        entries[new] = Entry(entry.key, value)
    return replace(node, entries=entries)
