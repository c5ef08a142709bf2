"""``id.key=value`` of the command line: an edit of the tree, typed by the schema, before anything is checked.

``train.num_train_steps=50`` is an argument of a step, ``model.revision=flax`` a key of a section, ``device=cpu`` a
key of the top level. A key that takes text takes what was typed as it stands (``notes=a: b``); any other value is
read as YAML. What is wrong with key or value is found by the same checks as in the file, and points at the
command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import Diagnostic, InputInvalid, did_you_mean
from engine.runspec.document import parse
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
    """The changed tree, what was changed, and what could not be (U201 to U205)."""
    applied: dict[str, Override] = {}
    findings: list[Diagnostic] = []
    for number, text in enumerate(texts, start=1):
        try:
            name, path, entry = _read(tree, SpecSource(COMMAND_LINE, (text,), number), kinds)
            if name in applied:
                place = SourcePosition(entry.key.source, number, 1, len(name))
                raise _wrong("U205", f"{name} is given twice", place, f"the other one: {applied[name].text}")
            changed = put(tree, path, entry)
        except InputInvalid as error:
            findings += error.diagnostics
            continue
        assert isinstance(changed, Mapping)
        tree = changed
        applied[name] = Override(name, plain(entry.value), text)
    return tree, list(applied.values()), findings


def _wrong(code: str, message: str, place: SourcePosition, hint: str | None) -> InputInvalid:
    return InputInvalid(code, message, where=place.where(), hint=hint)


def _read(tree: Mapping, source: SpecSource, kinds: Kinds) -> tuple[str, Path, Entry]:
    """(what stands before the sign, the path it means, key and value with their places)."""
    text = source.lines[0]
    whole = SourcePosition(source, source.first, 1, len(text))
    if "\n" in text or "\r" in text:
        raise _wrong("U201", "an override is one line", SourcePosition(source, source.first, 1, 1), EXAMPLE)
    name, sign, value = text.partition("=")
    parts = name.strip().split(".")
    if not sign or not all(parts):
        raise _wrong("U201", "this is no override", whole, EXAMPLE)
    target = _target(tree, name.strip(), SourcePosition(source, source.first, 1, len(name)), kinds)
    start = len(name) + 2
    key_start = name.rfind(".") + 2
    key = SourcePosition(source, source.first, key_start, max(1, len(name) - key_start + 1))
    place = SourcePosition(source, source.first, start, max(1, len(value)))
    return name.strip(), target.path, Entry(key, _value(value, place, target.schema))


@dataclass(frozen=True)
class _Target:
    path: Path
    schema: Schema | None  # None: the key is unknown, and will be found so


def _target(tree: Mapping, name: str, place: SourcePosition, kinds: Kinds) -> _Target:
    """What the left side means: a step's argument first, then a section's key, then the top level."""
    head, *rest = name.split(".")
    top = properties(base_schema())
    steps = tree.get("steps")
    ids = (
        {text_of(at(step, ["id"])): index for index, step in enumerate(steps.items)} if isinstance(steps, Items) else {}
    )
    if rest[:1] == ["with"] or head == "steps":
        plain_name = ".".join(part for part in name.split(".") if part not in ("with", "steps"))
        raise _wrong("U202", "steps are named by their id alone", place, f"write {plain_name}=…")
    in_section = bool(rest) and rest[0] in properties(top.get(head, {}))
    if head in ids and rest and not (in_section and rest[0] not in _arguments(tree, ids[head], kinds)):
        return _in_step(tree, ids[head], rest, place, kinds)
    if head in top:
        if rest and not properties(top[head]):
            raise _wrong("U203", f"{head} has no keys", place, f"write {head}=…")
        if rest and isinstance(tree.get(head), Scalar):
            raise _wrong("U203", f"{head} is a single value here", place, f"give it whole: '{head}={{{rest[0]}: …}}'")
        return _inside((head, *rest), top[head], rest)
    if not rest:
        return _Target((head,), None)  # an unknown key of the top level: the checks know its right home
    known = [*(name for name in ids if name), *top]
    near = did_you_mean(head, known)
    hint = (f'did you mean "{near}"?\n' if near else "") + f"steps: {', '.join(name for name in ids if name) or 'none'}"
    raise _wrong(
        "U202",
        f'there is no step and no section "{head}"',
        SourcePosition(place.source, place.line, 1, len(head)),
        hint,
    )


def _arguments(tree: Mapping, index: int, kinds: Kinds) -> Schema:
    kind = kinds.get(text_of(at(tree, ["steps", index, "uses"])) or "")
    return properties(kind.schema) if kind else {}


def _in_step(tree: Mapping, index: int, keys: list[str], place: SourcePosition, kinds: Kinds) -> _Target:
    if not isinstance(at(tree, ["steps", index, "with"]), Mapping | None):
        raise _wrong("U203", "`with` of this step is no mapping in the file", place, "correct the file first")
    return _inside(("steps", index, "with", *keys), {"properties": _arguments(tree, index, kinds)}, keys)


def _inside(path: Path, schema: Schema, keys: Sequence[str]) -> _Target:
    found: Schema | None = schema
    for key in keys:
        found = properties(found).get(key) if found is not None else None
    return _Target(path, found)


def _value(text: str, place: SourcePosition, schema: Schema | None) -> Node:
    """Text as typed where the key takes text; anything else as YAML reads it."""
    wanted = (schema or {}).get("type", [])
    types = {wanted} if isinstance(wanted, str) else set(wanted)
    bare = text.strip()
    quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""
    if "string" in types and not quoted and not (bare.startswith("{") and "object" in types):
        if "null" in types and bare in ("null", "~"):
            return Scalar(place, None, bare)
        return Scalar(place, text, text, quoted=True)
    if not bare:
        return Scalar(place, None, "")
    padded = " " * (place.column - 1) + text  # so that the parser's columns are those of the command line
    try:
        node = parse(padded, place.source)
    except InputInvalid as error:
        found = error.diagnostics[0]
        raise InputInvalid(
            "U204", f"the value cannot be read: {found.message}", where=found.where, hint=found.hint
        ) from None
    return node if node is not None else Scalar(place, None, "")
