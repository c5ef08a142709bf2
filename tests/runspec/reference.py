"""Makes docs/spec.md from the schemas: every key with type, default, unit, limits, example.

``python tests/runspec/reference.py`` writes it again; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "spec.md"

INTRODUCTION = """\
# The run-spec

Every key, with its type, default, unit and limits. This page is made from the schemas
(`python tests/runspec/reference.py`); editors get the same from `schemas/runspec.schema.json`, which the first line of
every spec names:

```yaml
# yaml-language-server: $schema=../schemas/runspec.schema.json
```

`runspec init quickstart` writes a spec to start from, `runspec validate SPEC` says everything that is wrong with one.

## How it is read

- **YAML 1.2.** `1e-5` is a number; `no`, `yes`, `on`, `off` and `2026-01-01` are text. `true` and `false` are the only
  booleans. A number in quotes is text. `.nan` and `.inf` are refused.
- Every key is known or is an error, which names the key that was meant or the section where it belongs.
- Refused: keys written twice, tags (`!!python/…`), merge keys (`<<`), several documents, tabs as indentation. Limits:
  1 MiB, 64 levels, 32 aliases, 20 000 values with the aliases written out.
- A key that is left out has its default. `num_train_steps: 1e3` is 1000, `learning_rate: 1` is 1.0.
- **Paths** are relative to the project (the nearest folder above the spec with `.runspec`, `.git` or `pyproject.toml`;
  else the spec's folder, or the one above a folder called `runspecs`), use forward slashes and stay inside it, links
  included. `model.path` alone may be a link that leads out: `ln -s /kaggle/input/gemma models/gemma`.
- **Steps run from top to bottom.** A step takes the nearest earlier artifact of each type it needs; `needs` names
  others, earlier ones only.

## Overrides

`runspec run SPEC train.num_train_steps=50 model.revision=flax device=cpu`

A step's argument is `id.key=value` (without `with`), a section's key `section.key=value`, a key of the top level
`key=value`. They are checked like the file, and recorded as overrides in the evidence. Text is taken as typed
(`notes=a: b`); anything else is read as YAML (`smoke.reduce={dtype: bfloat16}`). A dataset is given whole:
`'dataset={path: rows.jsonl, format: chat}'`.

"""

ANNOTATIONS = """\
## For authors of step schemas

Beside draft-07, a step's schema may carry these keywords; editors ignore them, the engine checks or shows them:

| keyword | meaning |
|---|---|
| `x-unit` | unit of a number, shown in messages |
| `x-pattern-hint`, `x-enum-hint` | what to write instead, where a `pattern` or `enum` refuses |
| `x-aliases` | names of the key in other tools, answered with "here it is called …" |
| `x-less-than`, `x-at-most` | the number is less than, or at most, that of another key |
| `x-ends-by` | `[first, last]`: a range of this length that starts at `first` ends at `last` or before |
| `x-contains` | the list contains all of these |
| `x-divides` | the other key's number is a multiple of this one |
| `x-multiple-of` | this number is a multiple of the other key's |
| `x-multiples` | `{a: b}`: where the key is written, `a` is a multiple of `b` |
| `x-only-with` | `{other: [values]}`: the key is allowed only there |
| `x-only-with-any` | the same, where one of several other keys is enough |
| `x-only-above` | `{other: number}`: the key is allowed only where the other is above that number |
| `x-needed-with` | `{other: [values]}`: the key is required there |
| `x-requires` | `{value: {other: [values]}}`: this value is allowed only there |
| `x-typical` | `{from, to, below, above}`: a value outside is a warning, with the reason under `below` or `above` |
| `x-names` | `metric` or `builder`: the text is the name of one |
| `x-extras` | `{value: extra}`: with this value the step needs that extra of the distribution |
| `x-affects` | list of what the key affects (below) |

Another key is one beside it (`num_train_steps`), one beside the mapping it is in (`../num_train_steps`), or a dotted
address from the top (`model.config.head_dim`).

What `x-affects` can list:

| effect | the key changes |
|---|---|
| `state` | trained weights or metrics |
| `program` | the memory of the compiled train step |
| `packing_plan` | how rows are packed into sequences |
| `batch_shape` | how many sequences a train step has, and where |
| `files` | what is written or kept |
| `tracking` | what is observed and reported |

A key without `x-affects` can change everything. An interrupted step resumes where only keys without `state` have other
values. A key that affects `tracking` alone is no part of the step's fingerprint.

The keywords had other names before; a step of an installed package may still use those. `runspec validate` and
`runspec steps` then warn with the new names (X204).
"""


def reference(base: Mapping[str, Any], steps: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    parts = [INTRODUCTION, *_section("Top level", base), "## Arguments of the steps (`with`)\n\n"]
    for name, schema in steps.items():
        parts += [f"### {name}\n\n{schema['description']}\n\n"]
        parts += _table(schema) if schema["properties"] else ["It has no arguments.\n\n"]
    return "".join([*parts, ANNOTATIONS])


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


def build() -> str:
    """The page for the schemas that ship."""
    from engine.runspec.kinds import base_schema
    from engine.steps.registry import HANDLERS

    return reference(base_schema(), {name: handler.schema for name, handler in HANDLERS.items()})


if __name__ == "__main__":
    sys.path.insert(0, str(REFERENCE.parents[1]))
    REFERENCE.write_text(build(), encoding="utf-8")
