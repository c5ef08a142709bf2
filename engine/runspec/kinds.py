"""What the run-spec reader must know of a kind of step, and the schemas as values."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from typing import Protocol

from engine.assets import asset
from engine.canonical import JsonMapping, JsonObject

Schema = JsonMapping


class StepKind(Protocol):
    """The part of :class:`engine.steps.Handler` that checks of a spec need."""

    @property
    def kind(self) -> str:
        """Its name under ``uses``."""

    @property
    def schema(self) -> Schema:
        """Draft-07 schema of its ``with``."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Artifact types it needs."""

    @property
    def makes(self) -> str:
        """The artifact type it makes."""

    @property
    def looks_ahead(self) -> tuple[str, ...]:
        """Kinds of later steps whose arguments it needs."""


Kinds = Mapping[str, StepKind]


@functools.cache
def base_schema() -> Schema:
    """The top-level schema; ``with`` is any mapping in it (kinds are dispatched on ``uses`` in code)."""
    text = asset("schemas", "runspec.base.schema.json").read_text(encoding="utf-8")
    schema: JsonObject = json.loads(text)
    return schema


def properties(schema: Schema) -> Mapping[str, Schema]:
    """The keys a schema knows; {} where it names none."""
    named = schema.get("properties")
    return named if isinstance(named, Mapping) else {}


def step_schema() -> Schema:
    """The schema of one entry of ``steps``."""
    items: Schema = base_schema()["properties"]["steps"]["items"]
    return items


def schema_document(kinds: Kinds, step: str | None = None) -> JsonObject:
    """What ``runspec schema [STEP]`` prints, for editors: ``with`` is chosen by ``uses``. Raises KeyError."""
    if step is not None:
        return copy.deepcopy(dict(kinds[step].schema))
    document = copy.deepcopy(dict(base_schema()))
    document["$id"] = "runspec.schema.json"
    items = document["properties"]["steps"]["items"]
    items["properties"]["uses"]["enum"] = sorted(kinds)
    items["allOf"] = [_branch(name, kind.schema) for name, kind in sorted(kinds.items())]
    return document


def _branch(name: str, schema: Schema) -> JsonObject:
    """``if uses is NAME then with is its schema``; ``with`` itself is required where an argument is."""
    arguments = {key: copy.deepcopy(value) for key, value in schema.items() if not key.startswith("$")}
    then: JsonObject = {"properties": {"with": arguments}}
    if schema.get("required"):
        then["required"] = ["with"]
    return {"if": {"properties": {"uses": {"const": name}}, "required": ["uses"]}, "then": then}
