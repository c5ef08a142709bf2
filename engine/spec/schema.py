"""Values -> findings: draft-07 by jsonschema, the sentences by us.

Every keyword that our schemas use has a writer below; none of jsonschema's own texts reaches a person. Unknown
keys get the nearest known one, or the place where that key does belong, found by looking through all schemas.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import Diagnostic, did_you_mean
from engine.spec.kinds import Kinds, base_schema
from engine.spec.reader import Document, SpecPath

_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "a mapping of keys",
    "array": "a list",
    "null": "null",
}
_UNSPOKEN = ("ratio", "norm", "per train step")  # units that a sentence is better without
_BOOLEAN_WORDS = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}


def check_values(document: Document, kinds: Kinds) -> list[Diagnostic]:
    """Everything that the schemas say about the document."""
    findings = list(_check(document, document.data, base_schema(), (), kinds))
    steps = document.data.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        kind = kinds.get(str(step.get("uses"))) if isinstance(step, dict) else None
        if kind is None:
            continue
        arguments = step.get("with", {})
        if isinstance(arguments, dict):
            path: SpecPath = ("steps", index, "with")
            findings += _check(document, arguments, kind.schema, path, kinds)
    return findings


def fill_defaults(values: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every default of the schema filled in, in the schema's order; a deep copy."""
    filled: dict[str, Any] = {}
    for key, entry in schema.get("properties", {}).items():
        if key in values:
            filled[key] = copy.deepcopy(values[key])
        elif "default" in entry:
            filled[key] = copy.deepcopy(entry["default"])
    return filled


def _check(
    document: Document, values: Any, schema: Mapping[str, Any], base: SpecPath, kinds: Kinds
) -> Iterator[Diagnostic]:
    for error in _validator()(dict(schema)).iter_errors(values):
        path = (*base, *error.absolute_path)
        writer = _WRITERS[error.validator]
        yield from writer(_Finding(document, path, error.instance, error.validator_value, error.schema, kinds))


@functools.cache
def _validator() -> Any:
    """Draft-07, but for one thing: 10.0 is no whole number, since a step would be handed a float."""
    from jsonschema import Draft7Validator
    from jsonschema.validators import extend

    whole = Draft7Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return extend(Draft7Validator, type_checker=whole)


class _Finding:
    """What a writer is given: the place, the value there, and the rule that it breaks."""

    def __init__(
        self, document: Document, path: SpecPath, value: Any, rule: Any, schema: Mapping[str, Any], kinds: Kinds
    ) -> None:
        self.document, self.path, self.value, self.rule = document, path, value, rule
        self.schema, self.kinds = schema, kinds

    @property
    def name(self) -> str:
        """The thing as a person calls it: ``"seq_len" of step "train"``."""
        key = str(self.path[-1]) if self.path else "run-spec"
        return f'"{key}"{self.owner}'

    @property
    def owner(self) -> str:
        """`` of step "train"`` where it is inside one."""
        if len(self.path) >= 2 and self.path[0] == "steps" and isinstance(self.path[1], int):
            step = self.document.data["steps"][self.path[1]]
            step_id = step.get("id") if isinstance(step, dict) else None
            if len(self.path) > 2:
                return f' of step "{step_id}"' if step_id else f" of step number {self.path[1] + 1}"
            return ""
        return f' of "{self.path[0]}"' if len(self.path) > 1 else ""

    def say(self, code: str, message: str, hint: str | None = None) -> Diagnostic:
        """At the value."""
        return Diagnostic(code, message, self.document.where(self.path), hint or self.about())

    def about(self) -> str | None:
        """What the schema says of this key: title, unit, default."""
        title = self.schema.get("description")
        if not title:
            return None
        unit = f" (in {self.schema['unit']})" if self.schema.get("unit") not in (None, *_UNSPOKEN) else ""
        default = f"; default {_shown(self.schema['default'])}" if "default" in self.schema else ""
        return f"{title.rstrip('.')}{unit}{default}"


def _unknown_keys(finding: _Finding) -> Iterator[Diagnostic]:
    known = list(finding.schema.get("properties", {}))
    owner = finding.owner or (f' in "{finding.path[-1]}"' if finding.path else "")
    owner = owner.replace(" of ", " in ", 1)
    if finding.path[:1] == ("steps",) and len(finding.path) == 2:
        step_id = finding.value.get("id")
        owner = f' in step "{step_id}"' if step_id else f" in step number {int(finding.path[1]) + 1}"
    for key in finding.value:
        if key in known:
            continue
        near = did_you_mean(key, known)
        homes = _homes(key, finding)
        if near and (not homes or near.casefold() == key.casefold()):
            hint = f'did you mean "{near}"?'
        elif homes:
            hint = f'"{key}" belongs {" or ".join(homes[:3])}'
        else:
            hint = f"known here: {', '.join(known)}" if known else "it takes no keys at all"
        where = finding.document.where((*finding.path, key), key=True)
        yield Diagnostic("S101", f'unknown key "{key}"{owner}', where, hint)


def _homes(key: str, finding: _Finding) -> list[str]:
    """Where this key would be known: sections of the spec, arguments of a kind."""
    top = base_schema()["properties"]
    here = finding.path
    homes = []
    if key in top and here:
        homes.append("at the top level")
    for section, entry in top.items():
        if section != "steps" and key in entry.get("properties", {}) and here != (section,):
            homes.append(f'in "{section}"')
    if key in top["steps"]["items"]["properties"] and not (here[:1] == ("steps",) and len(here) == 2):
        homes.append("in a step itself, beside uses")
    inside = [name for name, kind in finding.kinds.items() if key in kind.schema.get("properties", {})]
    own = _own_kind(finding)
    if own in inside and len(here) == 2:
        homes.insert(0, 'under "with" of this step')
    elif inside:
        homes.append(f'under "with" of a {" or ".join(inside)} step')
    return homes


def _own_kind(finding: _Finding) -> str | None:
    if len(finding.path) >= 2 and finding.path[0] == "steps":
        step = finding.document.data["steps"][finding.path[1]]
        return str(step.get("uses")) if isinstance(step, dict) else None
    return None


def _missing(finding: _Finding) -> Iterator[Diagnostic]:
    for key in finding.rule:
        if key not in finding.value:
            entry = finding.schema["properties"].get(key, {})
            owner = finding.owner or (f' of "{finding.path[-1]}"' if finding.path else " of the run-spec")
            if finding.path[:1] == ("steps",) and len(finding.path) == 2:
                owner = f" of step number {int(finding.path[1]) + 1}"
            example = entry.get("examples", [None])[0]
            line = f"add {key}: {_shown(example)}" if example is not None else f"add {key}"
            about = f"   # {entry['description'].rstrip('.')}" if entry.get("description") else ""
            yield Diagnostic(
                "S102", f'the key "{key}"{owner} is missing', finding.document.where(finding.path), line + about
            )


def _wrong_type(finding: _Finding) -> Iterator[Diagnostic]:
    wanted = [finding.rule] if isinstance(finding.rule, str) else list(finding.rule)
    words = " or ".join(_TYPE_WORDS[name] for name in wanted)
    yield finding.say(
        "S103", f"{finding.name} must be {words}, not {_described(finding.value)}", _type_hint(finding.value, wanted)
    )


def _type_hint(value: Any, wanted: list[str]) -> str | None:
    if isinstance(value, str) and "boolean" in wanted and value.casefold() in _BOOLEAN_WORDS:
        return f"write {_BOOLEAN_WORDS[value.casefold()]} (in YAML 1.2 {value} is text)"
    if isinstance(value, str) and "boolean" in wanted and value.casefold() in ("true", "false"):
        return f"write {value.casefold()}, without quotes"
    if isinstance(value, str) and {"integer", "number"} & set(wanted):
        bare = value.replace("_", "").replace(",", "").strip()
        if bare.lstrip("+-").replace(".", "", 1).replace("e", "", 1).replace("-", "", 1).isdigit():
            return f"write {bare}, without quotes, commas or underscores"
    if isinstance(value, float) and "integer" in wanted and value.is_integer():
        return f"write {int(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool) and "string" in wanted:
        return f'put it in quotes: "{value}"'
    if not isinstance(value, list) and wanted == ["array"]:
        return f"write a list: [{_shown(value)}]"
    return None


def _not_one_of(finding: _Finding) -> Iterator[Diagnostic]:
    near = did_you_mean(str(finding.value), map(str, finding.rule))
    choices = ", ".join(map(str, finding.rule))
    hint = f'did you mean "{near}"? It can be: {choices}' if near else f"it can be: {choices}"
    if isinstance(finding.value, list | dict):
        return
    yield finding.say("S104", f"{finding.name} cannot be {_shown(finding.value)}", hint)


def _out_of_range(finding: _Finding) -> Iterator[Diagnostic]:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    unit = f" {finding.schema['unit']}" if finding.schema.get("unit") not in (None, *_UNSPOKEN) else ""
    rules = [f"{text} {_shown(finding.schema[name])}" for name, text in words.items() if name in finding.schema]
    yield finding.say("S105", f"{finding.name} is {_shown(finding.value)}; it must be {' and '.join(rules)}{unit}")


def _too_short(finding: _Finding) -> Iterator[Diagnostic]:
    yield finding.say("S106", f"{finding.name} is empty")


def _twice(finding: _Finding) -> Iterator[Diagnostic]:
    twins = sorted({str(value) for value in finding.value if finding.value.count(value) > 1})
    yield finding.say("S108", f"{finding.name} names {', '.join(twins)} twice", "keep one of them")


def _pattern(finding: _Finding) -> Iterator[Diagnostic]:
    hint = finding.schema.get("patternHint") or finding.about()
    yield finding.say("S107", f"{finding.name} cannot be {_shown(finding.value)}", hint)


_WRITERS = {
    "additionalProperties": _unknown_keys,
    "required": _missing,
    "type": _wrong_type,
    "enum": _not_one_of,
    "const": lambda finding: iter(
        [finding.say("S104", f"{finding.name} cannot be {_shown(finding.value)}", f"it can be: {_shown(finding.rule)}")]
    ),
    "minimum": _out_of_range,
    "maximum": _out_of_range,
    "exclusiveMinimum": _out_of_range,
    "exclusiveMaximum": _out_of_range,
    "minLength": _too_short,
    "minItems": _too_short,
    "minProperties": _too_short,
    "uniqueItems": _twice,
    "pattern": _pattern,
}


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "…"}"'
    if isinstance(value, list):
        return f"[{', '.join(_bare(child) for child in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_bare(child)}' for key, child in value.items())}}}"
    return str(value)


def _bare(value: Any) -> str:
    """Inside a list or a mapping: text without quotes, as people write YAML."""
    return value if isinstance(value, str) else _shown(value)


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text {_shown(value)}"
    return _shown(value)
