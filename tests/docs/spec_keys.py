"""Every key of a run-spec with type, default, unit, limits, example: tables made from the schemas.

In: the schemas that ship. Out: Markdown for ``docs/reference/spec.md``.

    sections()      # "## Top level", one table a section
    arguments()     # "### build_dataset", one table a step
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def sections() -> str:
    """The top level of a run-spec and each of its sections."""
    from engine.runspec.kinds import base_schema

    return "".join(_section("Top level", base_schema())).rstrip("\n")


def arguments() -> str:
    """What each built-in step takes under ``with``."""
    from engine.steps.registry import HANDLERS

    parts = []
    for name, handler in HANDLERS.items():
        schema = handler.schema
        parts += [f"### {name}\n\n{schema['description']}\n\n"]
        parts += _table(schema) if schema["properties"] else []
    return "".join(parts).rstrip("\n")


def _section(title: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}\n\n{schema['description']}\n\n"
    yield from _table(schema)
    for key, entry in schema["properties"].items():
        inner = entry.get("items", entry)
        if inner.get("properties"):
            name = "one entry of steps" if key == "steps" else key if title == "Top level" else f"{title}.{key}"
            yield from _section(name, inner)


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | type | default | unit and limits | meaning | example |\n|---|---|---|---|---|---|\n"
    for key, entry in _keys(schema):
        required = key in schema.get("required", ())
        default = "**required**" if required else f"`{_shown(entry['default'])}`" if "default" in entry else "–"
        cells = (f"`{key}`", _type(entry), default, _limits(entry), entry["description"], f"`{_example(key, entry)}`")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    yield "\n"


def _keys(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Keys of a section; those of a mapping inside a step's arguments with their dotted name."""
    for key, entry in schema["properties"].items():
        yield prefix + key, entry
        if entry.get("properties") and "$schema" in schema and str(schema.get("$id", "")).startswith("steps/"):
            yield from _keys({"properties": entry["properties"]}, f"{key}.")


def _type(entry: Mapping[str, Any]) -> str:
    if "const" in entry:
        return f"`{_shown(entry['const'])}`"
    if "enum" in entry:
        return ", ".join(f"`{_shown(one)}`" for one in entry["enum"])
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
             "object": "mapping", "array": "list", "null": "null"}  # fmt: skip
    types = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    return " or ".join(words[name] for name in types)


def _limits(entry: Mapping[str, Any]) -> str:
    from engine.runspec.messages import limits

    bounds = limits({key: value for key, value in entry.items() if key != "x-unit"})
    more = [f"below `{entry['x-less-than']}`"] if "x-less-than" in entry else []
    more += [f"shorter than `{entry['x-shorter-than']}`"] if "x-shorter-than" in entry else []
    more += [f"at most `{entry['x-at-most'].removeprefix('../')}`"] if "x-at-most" in entry else []
    more += (
        [f"`{entry['x-ends-by'][0]}` + this ends by `{entry['x-ends-by'][1].removeprefix('../')}`"]
        if "x-ends-by" in entry
        else []
    )
    more += [f"with {', '.join(f'`{name}`' for name in entry['x-contains'])}"] if "x-contains" in entry else []
    more += [f"divides `{entry['x-divides']}`"] if "x-divides" in entry else []
    more += [f"a multiple of `{entry['x-multiple-of']}`"] if "x-multiple-of" in entry else []
    more += [f"`{one}` a multiple of `{other}`" for one, other in entry.get("x-multiples", {}).items()]
    for word, say in (("x-only-with", "only with"), ("x-needed-with", "needed with")):
        more += [f"{say} `{key}: {' or '.join(map(_shown, values))}`" for key, values in entry.get(word, {}).items()]
    either = [f"`{key}: {_shown(one)}`" for key, values in entry.get("x-only-with-any", {}).items() for one in values]
    more += [f"only with {' or '.join(either)}"] if either else []
    more += [f"only with `{key}` above {low:g}" for key, low in entry.get("x-only-above", {}).items()]
    return "; ".join([part for part in (entry.get("x-unit", ""), bounds) if part] + more) or "–"


def _example(key: str, entry: Mapping[str, Any]) -> str:
    from engine.runspec.messages import example_line

    examples = {"string": "…", "integer": 1, "number": 0.1, "boolean": True}
    kind = entry.get("type")
    usable = entry if isinstance(kind, list) or kind not in examples else {"examples": [examples[kind]], **entry}
    if entry.get("default") is not None or entry.get("enum"):
        usable = entry
    return example_line(key, usable)


def _shown(value: Any) -> str:
    from engine.runspec.messages import described

    return described(value)
