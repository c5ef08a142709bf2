"""The keywords of draft-07 that the shipped schemas of evidence use: what jsonschema finds, in the same words and order.

In: a value and a schema. Out: the errors. A keyword that is not known here raises ValueError, so that no rule is passed over; a
test compares the answers with those of the library, which takes a tenth of a second to import, and which verify.py does not have.

    >>> [error.message for error in schema_errors({}, {"required": ["a"], "type": "object"})]
    ["'a' is a required property"]
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
_SAY_NOTHING = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples"})


@dataclass(frozen=True, slots=True)
class ValidationError:
    """One broken rule, and where: keys and indices from the top."""

    message: str
    absolute_path: tuple[str | int, ...]


def schema_errors(value: object, schema: Schema) -> Iterator[ValidationError]:
    """Every broken rule, in the order of the schema."""
    return _errors(value, schema, ())


def _errors(value: object, schema: Schema | bool, path: tuple[str | int, ...]) -> Iterator[ValidationError]:
    if schema is True:
        return
    if schema is False:
        yield ValidationError(f"False schema does not allow {value!r}", path)
        return
    for keyword, rule in schema.items():
        if keyword in _INSIDE:
            for part, inner, step in _INSIDE[keyword](value, rule, schema):
                yield from _errors(part, inner, path if step is HERE else (*path, step))
            if keyword == "additionalProperties" and rule is False:
                yield from (ValidationError(message, path) for message in _unexpected(value, schema))
        elif keyword in _RULES:
            yield from (ValidationError(message, path) for message in _RULES[keyword](value, rule))
        elif keyword not in _SAY_NOTHING and not keyword.startswith("x-"):
            raise ValueError(f"a schema has the keyword {keyword}, which is not read here")


Part = tuple[object, Any, Any]  # a value inside, its schema, and where it is
HERE = object()  # of a part that has no path of its own


def inexact_numbers(value: object, schema: Schema, path: tuple[str | int, ...] = ()) -> Iterator[ValidationError]:
    """What JSON Schema takes for a number of the right kind, and this engine never writes: 4.0 for a count, and -0.0.

    >>> [error.message for error in inexact_numbers({"n": 4.0}, {"properties": {"n": {"type": "integer"}}})]
    ['4.0 is no whole number']
    """
    if isinstance(value, float):
        if "integer" in schema.get("type", ()):
            yield ValidationError(f"{value!r} is no whole number", path)
        elif value == 0 and math.copysign(1, value) < 0 and schema.get("minimum") == 0:
            yield ValidationError("-0.0 is no measurement", path)
    for keyword in (keyword for keyword in ("properties", "items", "additionalProperties") if keyword in schema):
        for part, inner, step in _INSIDE[keyword](value, schema[keyword], schema):
            yield from inexact_numbers(part, inner, (*path, step))


def _properties(value: object, rule: Schema, _: Schema) -> Iterator[Part]:
    if isinstance(value, dict):
        yield from ((value[name], schema, name) for name, schema in rule.items() if name in value)


def _items(value: object, rule: Schema, _: Schema) -> Iterator[Part]:
    if isinstance(value, list):
        yield from ((item, rule, index) for index, item in enumerate(value))


def _others(value: object, rule: Schema | bool, schema: Schema) -> Iterator[Part]:
    if isinstance(value, dict) and rule is not False:
        yield from ((value[name], rule, name) for name in _additional(value, schema))


def _names(value: object, rule: Schema, _: Schema) -> Iterator[Part]:
    """Each key, as if it stood where its object does."""
    if isinstance(value, dict):
        yield from ((name, rule, HERE) for name in value)


_INSIDE: Mapping[str, Callable[[object, Any, Schema], Iterator[Part]]] = {
    "properties": _properties,
    "items": _items,
    "propertyNames": _names,
    "additionalProperties": _others,
}


def _additional(value: Mapping[str, object], schema: Schema) -> list[str]:
    if "patternProperties" in schema:
        raise ValueError("a schema has the keyword patternProperties, which is not read here")
    return [name for name in value if name not in schema.get("properties", {})]


def _unexpected(value: object, schema: Schema) -> Iterator[str]:
    extra = sorted(_additional(value, schema), key=str) if isinstance(value, dict) else []
    if extra:
        verb = "was" if len(extra) == 1 else "were"
        yield f"Additional properties are not allowed ({', '.join(map(repr, extra))} {verb} unexpected)"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}


def _type(value: object, rule: str | list[str]) -> Iterator[str]:
    types = [rule] if isinstance(rule, str) else rule
    if not any(_TYPES[name](value) for name in types):
        yield f"{value!r} is not of type {', '.join(map(repr, types))}"


def _required(value: object, rule: list[str]) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{name!r} is a required property" for name in rule if name not in value)


def _same(value: Any, other: Any) -> bool:
    """JSON's equality: 1 is 1.0, and neither is true."""
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_same(value[name], other[name]) for name in value)
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _enum(value: object, rule: list[object]) -> Iterator[str]:
    if not any(_same(value, one) for one in rule):
        yield f"{value!r} is not one of {rule!r}"


def _const(value: object, rule: object) -> Iterator[str]:
    if not _same(value, rule):
        yield f"{rule!r} was expected"


def _pattern(value: object, rule: str) -> Iterator[str]:
    if isinstance(value, str) and not re.search(rule, value):
        yield f"{value!r} does not match {rule!r}"


def _minimum(value: Any, rule: float) -> Iterator[str]:
    if _is_number(value) and value < rule:
        yield f"{value!r} is less than the minimum of {rule!r}"


def _maximum(value: Any, rule: float) -> Iterator[str]:
    if _is_number(value) and value > rule:
        yield f"{value!r} is greater than the maximum of {rule!r}"


def _exclusive_minimum(value: Any, rule: float) -> Iterator[str]:
    if _is_number(value) and value <= rule:
        yield f"{value!r} is less than or equal to the minimum of {rule!r}"


def _min_length(value: object, rule: int) -> Iterator[str]:
    if isinstance(value, str) and len(value) < rule:
        yield f"{value!r} {'should be non-empty' if rule == 1 else 'is too short'}"


def _max_length(value: object, rule: int) -> Iterator[str]:
    if isinstance(value, str) and len(value) > rule:
        yield f"{value!r} {'is expected to be empty' if rule == 0 else 'is too long'}"


def _min_items(value: object, rule: int) -> Iterator[str]:
    if isinstance(value, list) and len(value) < rule:
        yield f"{value!r} {'should be non-empty' if rule == 1 else 'is too short'}"


def _min_properties(value: object, rule: int) -> Iterator[str]:
    if isinstance(value, dict) and len(value) < rule:
        yield f"{value!r} {'should be non-empty' if rule == 1 else 'does not have enough properties'}"


def _unique_items(value: object, rule: bool) -> Iterator[str]:
    """Of texts alone: of other values this would be a search that is not linear."""
    texts = [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    if rule and len(set(texts)) < len(texts):
        yield f"{value!r} has non-unique elements"


_RULES: Mapping[str, Callable[[Any, Any], Iterator[str]]] = {
    "type": _type,
    "required": _required,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "minimum": _minimum,
    "maximum": _maximum,
    "exclusiveMinimum": _exclusive_minimum,
    "minLength": _min_length,
    "maxLength": _max_length,
    "minItems": _min_items,
    "minProperties": _min_properties,
    "uniqueItems": _unique_items,
}
