"""Every schema file and its keys: Markdown for ``docs/reference/schemas.md``.

In: ``schemas/``. Out: a table of the files, then one table of keys for each file that is read or written by the engine as
data or evidence; the keys of a run-spec and of steps are on the page ``spec.md``.

    schemas()       # "| file | what it describes |…"
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
ELSEWHERE = ("runspec", "steps/")  # their keys are in spec.md


def schemas() -> str:
    """The table of files, then the keys of each."""
    files = {path.relative_to(SCHEMAS).as_posix(): _read(path) for path in sorted(SCHEMAS.rglob("*.json"))}
    rows = [f"| `schemas/{name}` | {_about(schema)} |" for name, schema in files.items()]
    parts = ["\n".join(["| file | describes |", "|---|---|", *rows])]
    for name, schema in files.items():
        if not name.startswith(ELSEWHERE):
            table = ["| key | type | required | meaning |", "|---|---|---|---|", *_keys(schema, schema)]
            parts += [f"## {name.removesuffix('.schema.json')}", "\n".join(table)]
    return "\n\n".join(parts)


def _read(path: Path) -> Mapping[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _about(schema: Mapping[str, Any]) -> str:
    return _cell(str(schema.get("description") or schema.get("title", "")))


def _keys(root: Mapping[str, Any], schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A row a key, those of nested objects with their dotted name; of a list's objects with ``[]``."""
    for key, written in schema.get("properties", {}).items():
        entry = _resolved(root, written)
        required = "yes" if key in schema.get("required", ()) else "–"
        yield f"| `{prefix}{key}` | {_type(entry)} | {required} | {_cell(entry.get('description', ''))} |"
        inner = _resolved(root, entry.get("items", {})) if "items" in entry else entry
        if "properties" in inner:
            yield from _keys(root, inner, f"{prefix}{key}{'[]' * ('items' in entry)}.")


def _resolved(root: Mapping[str, Any], entry: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(entry.get("$ref", "")).removeprefix("#/definitions/")
    return {**root["definitions"][name], **entry} if name else entry


def _type(entry: Mapping[str, Any]) -> str:
    if "const" in entry:
        return f"`{json.dumps(entry['const'])}`"
    if "enum" in entry:
        return ", ".join(f"`{json.dumps(value)}`" for value in entry["enum"])
    kinds = entry.get("type", "any")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
