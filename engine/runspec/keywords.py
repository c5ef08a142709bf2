"""Our keywords in JSON Schemas, all named ``x-...``: what an argument affects, and the names they had before.

In: a schema. Out: a schema with today's keywords only, or an answer about one argument. Draft-07 ignores keywords
that it does not know; editors do too. :mod:`engine.runspec.rules` checks those that relate keys.

    >>> renamed({"properties": {"most": {"unit": "words", "watches": True}}})
    ({'properties': {'most': {'x-unit': 'words', 'x-affects': ['tracking']}}}, {'unit': 'x-unit', 'watches': 'x-affects'})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.canonical import JsonObject
from engine.runspec.kinds import Schema, properties

# What x-affects can list. An argument without it can affect everything.
EFFECTS = frozenset({"state", "program", "packing_plan", "batch_shape", "files", "tracking"})

_RENAMED = {
    "unit": "x-unit",
    "alsoCalled": "x-aliases",
    "asks": "x-requires",
    "holds": "x-contains",
    "endsBy": "x-ends-by",
    "usual": "x-typical",
    "below": "x-less-than",
    "atMost": "x-at-most",
    "divides": "x-divides",
    "isMultipleOf": "x-multiple-of",
    "multiples": "x-multiples",
    "onlyWith": "x-only-with",
    "onlyWithAny": "x-only-with-any",
    "onlyAbove": "x-only-above",
    "neededWith": "x-needed-with",
    "names": "x-names",
    "enumHint": "x-enum-hint",
    "patternHint": "x-pattern-hint",
    "extras": "x-extras",
}
# Old keyword: true -> the effects that say the same.
_EFFECTS_OF = {"watches": ["tracking"], "resumable": ["files"]}

_SCHEMA = frozenset({"items", "additionalProperties", "additionalItems", "contains", "propertyNames",
                     "not", "if", "then", "else"})  # fmt: skip
_SCHEMAS = frozenset({"properties", "patternProperties", "definitions", "dependencies"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "items"})


def changes_state(argument: Schema) -> bool:
    """Whether the argument can change trained weights or metrics: an interrupted run with another value starts again."""
    return "state" in argument.get("x-affects", ("state",))


def only_tracked(argument: Schema) -> bool:
    """Whether the argument affects what is observed and nothing else: it is no part of the fingerprint."""
    return list(argument.get("x-affects", ())) == ["tracking"]


def effects_problem(schema: Schema) -> str | None:
    """The first effect that does not exist, as a sentence; a misspelt "state" would let a run resume wrongly."""
    arguments: Mapping[str, object] = properties(schema)
    for key, argument in arguments.items():
        effects = argument.get("x-affects", ()) if isinstance(argument, Mapping) else ()
        unknown = [str(effect) for effect in effects if effect not in EFFECTS]
        if unknown:
            return f'x-affects of "{key}" lists {", ".join(unknown)}; it can list {", ".join(sorted(EFFECTS))}'
    return None


def renamed(schema: Schema) -> tuple[Schema, dict[str, str]]:
    """The schema with today's keywords, and old keyword -> new keyword for those that it used."""
    used: dict[str, str] = {}
    return _translated(schema, used), used


def _translated(schema: Any, used: dict[str, str]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    result: JsonObject = {}
    for keyword, value in dict[str, Any](schema).items():
        today = "x-affects" if keyword in _EFFECTS_OF else _RENAMED.get(keyword, keyword)
        if today != keyword:
            used[keyword] = today
        if keyword not in _EFFECTS_OF:
            result[today] = _parts(keyword, value, used)
        elif value is True:
            result.setdefault(today, _EFFECTS_OF[keyword])
    return result


def _parts(keyword: str, value: Any, used: dict[str, str]) -> Any:
    """The value of a keyword, with the schemas inside it translated; anything else is left alone."""
    if keyword in _SCHEMAS and isinstance(value, Mapping):
        return {name: _translated(part, used) for name, part in value.items()}
    if keyword in _LISTS and isinstance(value, list):
        return [_translated(part, used) for part in value]
    return _translated(value, used) if keyword in _SCHEMA else value


def named(pairs: Mapping[str, str]) -> str:
    """For a message: ``unit (now x-unit), usual (now x-typical)``."""
    return ", ".join(f"{old} (now {new})" for old, new in pairs.items())
