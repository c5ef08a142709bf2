"""``id.key=value`` of the command line: an edit of the tree, typed by the schema, before anything is checked.

``train.num_train_steps=50`` is an argument of a step, ``model.revision=flax`` a key of a section, ``device=cpu`` a
key of the top level. A key that takes text takes exactly what was typed (``notes=a: b``); any other value is
read as YAML. Key and value go through the same checks as the file; their findings point at the command line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.canonical import readable
from engine.errors import Diagnostic, InputInvalid, did_you_mean
from engine.runspec.document import parse
from engine.runspec.former_names import present_name
from engine.runspec.kinds import Kinds, Schema, base_schema, properties
from engine.runspec.model import Override
from engine.runspec.nodes import (
    COMMAND_LINE,
    Entry,
    Items,
    Mapping,
    Node,
    Path,
    Scalar,
    SourcePosition,
    SpecSource,
    at,
    plain,
    put,
    text_of,
)

EXAMPLE = "write id.key=value, say train.num_train_steps=50"


def apply_overrides(
    tree: Mapping, texts: Sequence[str], kinds: Kinds
) -> tuple[Mapping, list[Override], list[Diagnostic]]:
    """The changed tree, the overrides applied, and the findings of the others (U201 to U205)."""
    applied: dict[str, Override] = {}
    findings: list[Diagnostic] = []
    for number, text in enumerate(texts, start=1):
        try:
            name, path, entry = _read(tree, SpecSource(COMMAND_LINE, (text,), number), kinds)
            if name in applied:
                position = SourcePosition(entry.key.source, number, 1, len(name))
                raise _wrong("U205", f"{name} is given twice", position, f"the other one: {applied[name].text}")
            changed = put(tree, path, entry)
        except InputInvalid as error:
            findings += error.diagnostics
            continue
        assert isinstance(changed, Mapping)
        tree = changed
        applied[name] = Override(name, plain(entry.value), text)
    return tree, list(applied.values()), findings


def _wrong(code: str, message: str, position: SourcePosition, hint: str | None) -> InputInvalid:
    return InputInvalid(code, message, where=position.where(), hint=hint)


def _read(tree: Mapping, source: SpecSource, kinds: Kinds) -> tuple[str, Path, Entry]:
    """(the text before the sign, the path it means, key and value with their positions)."""
    text = source.lines[0]
    everything = SourcePosition(source, source.first, 1, len(text))
    if "\n" in text or "\r" in text:
        raise _wrong("U201", "an override is one line", SourcePosition(source, source.first, 1, 1), EXAMPLE)
    if not_utf8 := re.search("[\ud800-\udfff]", text):
        position = SourcePosition(source, source.first, not_utf8.start() + 1, 1)
        raise _wrong("U201", f"an override is UTF-8 text; this has the byte {readable(not_utf8[0])}", position,
                     "type it in a terminal with a UTF-8 locale, or write it into the run-spec")  # fmt: skip
    name, sign, value = text.partition("=")
    parts = name.strip().split(".")
    if not sign or not all(parts):
        raise _wrong("U201", "this is not an override", everything, EXAMPLE)
    target = _target(tree, name.strip(), SourcePosition(source, source.first, 1, len(name)), kinds)
    start = len(name) + 2
    key_start = name.rfind(".") + 2
    key = SourcePosition(source, source.first, key_start, max(1, len(name) - key_start + 1))
    position = SourcePosition(source, source.first, start, max(1, len(value)))
    return name.strip(), target.path, Entry(key, _value(value, position, target.schema))


@dataclass(frozen=True)
class _Target:
    path: Path
    schema: Schema | None  # None: the key is unknown; a later check reports it


def _target(tree: Mapping, name: str, position: SourcePosition, kinds: Kinds) -> _Target:
    """What the left side means: a step's argument first, then a section's key, then the top level."""
    head, *rest = name.split(".")
    top = properties(base_schema())
    steps = tree.get("steps")
    ids = (
        {text_of(at(step, ["id"])): index for index, step in enumerate(steps.items)} if isinstance(steps, Items) else {}
    )
    if rest[:1] == ["with"] or head == "steps":
        plain_name = ".".join(part for part in name.split(".") if part not in ("with", "steps"))
        raise _wrong("U202", "steps are named by their id alone", position, f"write {plain_name}=…")
    in_section = bool(rest) and rest[0] in properties(top.get(head, {}))
    if head in ids and rest and not (in_section and rest[0] not in _arguments(tree, ids[head], kinds)):
        return _in_step(tree, ids[head], rest, position, kinds)
    if head in top:
        if rest and not properties(top[head]):
            raise _wrong("U203", f"{head} has no keys", position, f"write {head}=…")
        if rest and isinstance(tree.get(head), Scalar):
            raise _wrong(
                "U203", f"{head} is a single value here", position, f"give all of it: '{head}={{{rest[0]}: …}}'"
            )
        return _inside((head, *rest), top[head], rest)
    if not rest:
        return _Target((head,), None)  # an unknown key of the top level: a later check knows where it belongs
    known = [*(name for name in ids if name), *top]
    near = did_you_mean(head, known)
    hint = (f'did you mean "{near}"?\n' if near else "") + f"steps: {', '.join(name for name in ids if name) or 'none'}"
    raise _wrong(
        "U202",
        f'there is no step or section "{head}"',
        SourcePosition(position.source, position.line, 1, len(head)),
        hint,
    )


def _arguments(tree: Mapping, index: int, kinds: Kinds) -> Schema:
    kind = kinds.get(text_of(at(tree, ["steps", index, "uses"])) or "")
    return properties(kind.schema) if kind else {}


def _in_step(tree: Mapping, index: int, keys: list[str], position: SourcePosition, kinds: Kinds) -> _Target:
    if not isinstance(at(tree, ["steps", index, "with"]), Mapping | None):
        raise _wrong("U203", "`with` of this step is not a mapping in the file", position, "correct the file first")
    return _inside(("steps", index, "with", *keys), {"properties": _arguments(tree, index, kinds)}, keys)


def _inside(path: Path, schema: Schema, keys: Sequence[str]) -> _Target:
    inner: Schema | None = schema
    for key in keys:
        inner = properties(inner).get(present_name(key, inner)) if inner is not None else None
    return _Target(path, inner)


def _value(text: str, position: SourcePosition, schema: Schema | None) -> Node:
    """Text as typed where the key takes text; anything else as YAML reads it."""
    declared = (schema or {}).get("type", [])
    types = {declared} if isinstance(declared, str) else set(declared)
    bare = text.strip()
    quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""
    if "string" in types and not quoted and not (bare.startswith("{") and "object" in types):
        if "null" in types and bare in ("null", "~"):
            return Scalar(position, None, bare)
        return Scalar(position, text, text, quoted=True)
    if not bare:
        return Scalar(position, None, "")
    padded = " " * (position.column - 1) + text  # so that the parser's columns are those of the command line
    try:
        node = parse(padded, position.source)
    except InputInvalid as error:
        problem = error.diagnostics[0]
        raise InputInvalid(
            "U204", f"the value cannot be read: {problem.message}", where=problem.where, hint=problem.hint
        ) from None
    return node if node is not None else Scalar(position, None, "")
