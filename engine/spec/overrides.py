"""``id.key=value`` of the command line: put into the document before it is checked, typed as YAML types it.

``train.num_train_steps=50`` changes an argument of a step, ``model.revision=main`` a key of a section,
``device=cpu`` a key of the top level. What is wrong with the value is found by the same schemas, and points at
the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean
from engine.spec.kinds import Kinds, base_schema
from engine.spec.model import Override
from engine.spec.reader import Document, SpecPath, parse_scalar


def apply_overrides(document: Document, texts: Sequence[str], kinds: Kinds) -> tuple[list[Override], list[Diagnostic]]:
    """Change the document in place; returns what was changed, and what could not be."""
    applied: list[Override] = []
    findings: list[Diagnostic] = []
    for text in texts:
        try:
            path, value = _parse(document, text, kinds)
        except InputInvalid as error:
            findings += error.diagnostics
            continue
        _put(document, path, value, text)
        applied.append(Override(text.split("=", 1)[0].strip(), value, text))
    return applied, findings


def _parse(document: Document, text: str, kinds: Kinds) -> tuple[SpecPath, Any]:
    name, equals, raw = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise _wrong(
            "U201", f'"{text}" is no override', text, 1, len(text), "write id.key=value, say train.num_train_steps=50"
        )
    try:
        value = parse_scalar(raw)
    except InputInvalid as error:
        raise _wrong(
            "U204",
            f"the value of {name} cannot be read: {error.diagnostics[0].message}",
            text,
            len(name) + 2,
            max(1, len(raw)),
            "quote it as you would in the run-spec",
        ) from None
    return _target(document, name, text, kinds), value


def _target(document: Document, name: str, text: str, kinds: Kinds) -> SpecPath:
    """The path that ``a.b.c`` means. Raises InputInvalid U202 (owner) and U203 (key)."""
    owner, dot, key = name.partition(".")
    top = base_schema()["properties"]
    steps = document.data.get("steps")
    ids = {
        str(step.get("id")): index
        for index, step in enumerate(steps if isinstance(steps, list) else [])
        if isinstance(step, dict)
    }
    if owner in ids and dot:
        return _in_step(document, ids[owner], owner, key, text, kinds)
    if owner in top and owner != "steps":
        known = list(top[owner].get("properties", {}))
        if not dot or key.split(".")[0] in known:
            return (owner, *key.split(".")) if dot else (owner,)
        raise _unknown("U203", f'"{owner}" has no key "{key}"', text, len(owner) + 2, key, known)
    raise _unknown("U202", f'the run-spec has no step and no section "{owner}"', text, 1, owner, [*ids, *top])


def _in_step(document: Document, index: int, owner: str, key: str, text: str, kinds: Kinds) -> SpecPath:
    kind = kinds.get(str(document.data["steps"][index].get("uses")))
    known = list(kind.schema.get("properties", {})) if kind else []
    if kind is not None and key.split(".", maxsplit=1)[0] not in known:
        message = f'step "{owner}" ({kind.kind}) has no argument "{key}"'
        raise _unknown("U203", message, text, len(owner) + 2, key, known)
    return ("steps", index, "with", *key.split("."))


def _unknown(code: str, message: str, text: str, column: int, word: str, known: list[str]) -> InputInvalid:
    near = did_you_mean(word, known)
    hint = f'did you mean "{near}"?' if near else f"known: {', '.join(known)}" if known else "it takes none"
    return _wrong(code, message, text, column, max(1, len(word)), hint)


def _wrong(code: str, message: str, text: str, column: int, width: int, hint: str) -> InputInvalid:
    return InputInvalid(code, message, where=Where("command line", 1, column, text, width), hint=hint)


def _put(document: Document, path: SpecPath, value: Any, text: str) -> None:
    target: Any = document.data
    for part in path[:-1]:
        if isinstance(part, int):
            target = target[part]
            continue
        inner = target.get(part)
        if not isinstance(inner, dict | list):
            target[part] = inner = {}
        target = inner
    target[path[-1]] = value
    equals = text.index("=")
    where = Where("command line", 1, equals + 2, text, max(1, len(text) - equals - 1), ".".join(map(str, path)))
    document.overridden[path] = where
