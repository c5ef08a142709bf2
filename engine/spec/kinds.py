"""What the spec has to know of a step's kind, and the top-level schema, as values."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Protocol

from engine.assets import asset


class Kind(Protocol):
    """The part of :class:`engine.steps.Handler` that a spec is checked by."""

    @property
    def kind(self) -> str:
        """What ``uses`` names it by."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Draft-07 schema of its ``with``."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Artifact types it needs."""

    @property
    def makes(self) -> str:
        """The artifact type it makes."""

    @property
    def looks_ahead(self) -> tuple[str, ...]:
        """Kinds of later steps it must know."""


Kinds = Mapping[str, Kind]


@functools.cache
def base_schema() -> Mapping[str, Any]:
    """The top-level schema; ``with`` is any mapping in it (kinds are dispatched on ``uses`` in code)."""
    text = asset("schemas", "runspec.base.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def schema_document(kinds: Kinds, step: str | None = None) -> dict[str, Any]:
    """What ``runspec schema [STEP]`` prints: for editors, with ``with`` chosen by ``uses``. Raises KeyError."""
    if step is not None:
        return dict(kinds[step].schema)
    schema: dict[str, Any] = json.loads(json.dumps(base_schema()))
    items = schema["properties"]["steps"]["items"]
    items["properties"]["uses"]["enum"] = sorted(kinds)
    items["allOf"] = [
        {
            "if": {"properties": {"uses": {"const": name}}, "required": ["uses"]},
            "then": {"properties": {"with": {key: value for key, value in kind.schema.items() if key[0] != "$"}}},
        }
        for name, kind in sorted(kinds.items())
    ]
    schema["$id"] = "runspec.schema.json"
    return schema
