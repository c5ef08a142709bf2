"""A tree against a draft-07 schema: a finding in plain words for each rule that is broken (codes S101 to S110).

The keywords that describe a mapping of arguments are checked here, on the tree itself: that gives exact positions,
knows whether a number was written in quotes, and costs a millisecond where importing jsonschema costs a hundred.
Keywords beyond those (``oneOf``, ``$ref``, ``format``, … in the schema of a plug-in) are left to jsonschema, which
is imported only then. A test compares the two verdicts on random values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from engine.errors import did_you_mean
from engine.runspec.findings import Case, node_text, scalar_text
from engine.runspec.key_suggestions import hint_for
from engine.runspec.kinds import Schema, base_schema, properties
from engine.runspec.messages import TYPE_WORDS, described, example_line, limits, listing, number_text, type_hint
from engine.runspec.nodes import Items, Mapping, Node, Path, Scalar, SourcePosition, plain

_CHECKED_HERE = frozenset(
    {
        "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minLength", "maxLength", "pattern", "properties", "required", "additionalProperties",
        "minProperties", "items", "minItems", "maxItems", "uniqueItems",
    }
)  # fmt: skip
_FOREIGN = frozenset(
    {
        "$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "format", "patternProperties",
        "propertyNames", "dependencies", "contains", "additionalItems", "maxProperties", "definitions",
        "contentEncoding", "contentMediaType",
    }
)  # fmt: skip


def check_tree(case: Case) -> None:
    """Check the document against the schemas."""
    check(case.tree, base_schema(), (), case)
    for step in case.steps:
        arguments = step.node.get("with")
        if step.kind is None:
            continue
        path: Path = (*step.path, "with")
        if arguments is None and step.kind.schema.get("required"):
            arguments = Mapping(step.position("uses"), {})
        if isinstance(arguments, Mapping):
            check_arguments(arguments, step.kind.kind, step.kind.schema, path, case)


def check_arguments(node: Mapping, kind: str, schema: Schema, path: Path, case: Case) -> None:
    """The ``with`` of one step. A schema that is itself broken (a plug-in's) is a finding too."""
    try:
        before = len(case.findings.rows)
        check(node, schema, path, case)
        if len(case.findings.rows) == before and _is_foreign(schema):
            _check_by_jsonschema(node, schema, path, case)
    except (re.error, TypeError, AttributeError, KeyError, ValueError) as problem:
        message = f'the schema of the step kind "{kind}" is broken: {type(problem).__name__}: {problem}'
        hint = "this is a mistake of the package that brings the kind: update or uninstall it"
        case.findings.error("S110", message, path, node.position, hint)


def check(node: Node, schema: Schema | bool, path: Path, case: Case) -> None:
    """Add a finding for every rule of the schema that the node breaks."""
    if isinstance(schema, bool):
        if not schema:
            case.findings.error("S109", f"{label(path)} is not allowed here", path, node.position)
        return
    if "$ref" in schema:
        return  # draft-07: its siblings do not count; jsonschema follows it
    if not _check_type(node, schema, path, case):
        return
    if isinstance(node, Mapping):
        _check_mapping(node, schema, path, case)
    elif isinstance(node, Items):
        _check_items(node, schema, path, case)
    else:
        _check_scalar(node, schema, path, case)


def label(path: Path) -> str:
    """The last key of a path; items of a list by their number, ``needs[0]``."""
    name = ""
    for part in path:
        name = part if isinstance(part, str) else f"{name}[{part}]"
    return name or "the run-spec"


def is_of(node: Node, type_: str) -> bool:
    """Draft-07's types, on a node; true and false are not numbers, 100.0 is an integer."""
    if isinstance(node, Mapping):
        return type_ == "object"
    if isinstance(node, Items):
        return type_ == "array"
    value = node.value
    if isinstance(value, bool):
        return type_ == "boolean"
    if isinstance(value, str):
        return type_ == "string"
    if value is None:
        return type_ == "null"
    return type_ == "number" or (type_ == "integer" and (isinstance(value, int) or value.is_integer()))


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _check_type(node: Node, schema: Schema, path: Path, case: Case) -> bool:
    types = _types(schema)
    if not types or any(is_of(node, type_) for type_ in types):
        return True
    if isinstance(node, Scalar) and node.value is None and not node.text:
        default = f" (default {described(schema['default'])})" if "default" in schema else ""
        hint = f"write one, as in `{example_line(label(path), schema)}`, or remove the key{default}"
        case.findings.error("S106", f"{label(path)} has no value", path, case.key_position(*path), hint)
        return False
    words = " or ".join(dict.fromkeys(TYPE_WORDS[type_] for type_ in types))
    what = (
        f"the text {scalar_text(node)}" if isinstance(node, Scalar) and isinstance(node.value, str) else node_text(node)
    )
    message = f"{label(path)} must be {words}, not {what}"
    case.findings.error("S103", message, path, node.position, type_hint(node, types, schema))
    return False


def _check_scalar(node: Scalar, schema: Schema, path: Path, case: Case) -> None:
    for rule in (_rule_enum, _rule_number, _rule_text):
        broken = rule(node, schema, path)
        if broken is not None:
            code, message, hint = broken
            case.findings.error(code, message, path, node.position, hint)
            return


_Broken = tuple[str, str, str | None]  # code, message, hint


def _same(value: object, other: object) -> bool:
    """JSON's equality: 1 is 1.0, and neither is true."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _rule_enum(node: Scalar, schema: Schema, path: Path) -> _Broken | None:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed is None or any(_same(node.value, choice) for choice in allowed):
        return None
    listed = listing([described(choice) for choice in allowed])
    near = did_you_mean(str(node.value), [choice for choice in allowed if isinstance(choice, str)])
    hint = f'did you mean "{near}"? It can be {listed}' if near else f"it can be {listed}"
    return "S104", f"{label(path)} cannot be {scalar_text(node)}", schema.get("x-enum-hint", hint)


def _rule_number(node: Scalar, schema: Schema, path: Path) -> _Broken | None:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    broken = (
        ("minimum" in schema and value < schema["minimum"])
        or ("maximum" in schema and value > schema["maximum"])
        or ("exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"])
        or ("exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"])
        or ("multipleOf" in schema and value % schema["multipleOf"])
    )
    if not broken:
        return None
    default = f"; the default is {number_text(schema['default'])}" if schema.get("default") is not None else ""
    about = (schema.get("description") or "").rstrip(".")
    hint = f"{about}{default}" if about else None
    return "S105", f"{label(path)} is {node.text}; it must be {limits(schema)}", hint


def _rule_text(node: Scalar, schema: Schema, path: Path) -> _Broken | None:
    value = node.value
    if not isinstance(value, str):
        return None
    if len(value) < schema.get("minLength", 0):
        return "S106", f"{label(path)} is empty", f"write one, as in `{example_line(label(path), schema)}`"
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        message = f"{label(path)} has {len(value)} characters, and at most {schema['maxLength']} are allowed"
        return "S107", message, "shorten it"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        hint = schema.get("x-pattern-hint") or schema.get("description")
        return "S107", f"{label(path)} cannot be {scalar_text(node)}", hint
    return None


def _check_mapping(node: Mapping, schema: Schema, path: Path, case: Case) -> None:
    known = properties(schema)
    if len(node.entries) < schema.get("minProperties", 0):
        case.findings.error("S106", f"{label(path)} is empty", path, node.position)
    others = schema.get("additionalProperties", True)
    for key, entry in node.entries.items():
        inner = (*path, key)
        if key in known:
            check(entry.value, known[key], inner, case)
        elif others is False and "patternProperties" not in schema:
            _unknown(key, entry.key, schema, path, case)
        elif isinstance(others, dict):
            check(entry.value, others, inner, case)
    for key in schema.get("required", ()):
        if key not in node.entries and (*path, key) not in case.findings.bad:
            _missing(key, known.get(key, {}), path, case)
    either = [key for choice in schema.get("anyOf", ()) for key in choice.get("required", ()) if len(choice) == 1]
    if either and not any(key in node.entries or (*path, key) in case.findings.bad for key in either):
        _missing(either[0], known.get(either[0], {}), path, case)


def _missing(key: str, schema: Schema, path: Path, case: Case) -> None:
    about = (schema.get("description") or "").rstrip(".")
    hint = f"add `{example_line(key, schema)}`" + (f" ({about[:1].lower()}{about[1:]})" if about else "")
    position = case.key_position(*path)
    message = f'the key "{key}" is missing{section_name(path, case)}'
    case.findings.error("S102", message, (*path, key), position, hint)


def _unknown(key: str, position: SourcePosition, schema: Schema, path: Path, case: Case) -> None:
    message = f'unknown key "{key}"{section_name(path, case) or " at the top level"}'
    meant, hint = hint_for(key, path, schema, case)
    case.findings.error("S101", message, (*path, key), position, hint)
    if meant is not None and case.at(*path, meant) is None:
        case.findings.bad.add((*path, meant))  # misspelt, not missing: one mistake, one message


def section_name(path: Path, case: Case) -> str:
    """`` in step "train"``, `` in model``; empty at the top level."""
    if not path:
        return ""
    if path[0] == "steps" and len(path) > 1:
        step = next((step for step in case.steps if step.path == path[:2]), None)
        deeper = f" ({'.'.join(map(str, path[3:]))})" if len(path) > 3 else ""
        return f" in {step.name}{deeper}" if step else ""
    return f" in {'.'.join(map(str, path))}"


def _check_items(node: Items, schema: Schema, path: Path, case: Case) -> None:
    if len(node.items) < schema.get("minItems", 0):
        few = "is empty" if not node.items else f"has fewer than {schema['minItems']} entries"
        case.findings.error("S106", f"{label(path)} {few}", path, node.position, schema.get("description"))
    if "maxItems" in schema and len(node.items) > schema["maxItems"]:
        case.findings.error("S107", f"{label(path)} has more than {schema['maxItems']} entries", path, node.position)
    inner = schema.get("items")
    values: list[Any] = []
    for index, item in enumerate(node.items):
        value = plain(item)
        if schema.get("uniqueItems") and any(_same(value, earlier) for earlier in values):
            message = f"{label(path)} names {node_text(item)} twice"
            case.findings.error("S108", message, (*path, index), item.position, "keep one of them")
        values.append(value)
        if isinstance(inner, dict | bool):
            check(item, inner, (*path, index), case)


def _is_foreign(schema: object) -> bool:
    """Whether any part of the schema uses a keyword that this module does not check."""
    if isinstance(schema, dict):
        return (
            bool(_FOREIGN & schema.keys())
            or any(
                _is_foreign(part)
                for key, part in schema.items()
                if key in _CHECKED_HERE and isinstance(part, dict | list)
            )
            or any(_is_foreign(part) for part in properties(schema).values())
        )
    if isinstance(schema, list):
        return any(_is_foreign(part) for part in schema)
    return False


def _check_by_jsonschema(node: Mapping, schema: Schema, path: Path, case: Case) -> None:
    """The rest of a plug-in's schema. jsonschema's own messages are not shown: they name grammar, not edits."""
    from jsonschema import Draft7Validator
    from referencing.exceptions import Unresolvable

    try:
        errors: Iterator[Any] = Draft7Validator(dict(schema)).iter_errors(plain(node))
        for error in errors:
            inner = (*path, *error.absolute_path)
            target = case.at(*inner)
            position = target.position if target is not None else node.position
            about = error.schema.get("description") if isinstance(error.schema, dict) else None
            message = f'{label(inner)} breaks the rule "{error.validator}" of the schema of this step kind'
            case.findings.error("S109", message, inner, position, about)
    except Unresolvable as problem:
        raise ValueError(str(problem)) from None
