"""Presets, schemas and eval sets that ship with the engine are sound, every one of them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
PRESETS = sorted((REPOSITORY / "runspecs").glob("*.yaml"))
EXAMPLES = sorted((REPOSITORY / "runspecs" / "examples").glob("*.yaml"))  # tests/gallery has their laws
SCHEMAS = sorted((REPOSITORY / "schemas").rglob("*.json"))
EVAL_SETS = sorted(
    [*(REPOSITORY / "evalsets").rglob("*.jsonl"), *REPOSITORY.glob("runspecs/examples/evalsets/*.jsonl")]
)
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _runspec(*words: str) -> tuple[int, dict[str, Any]]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([*words, "--json"])
    return code, json.loads(said.getvalue())


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def test_the_presets_are_there() -> None:
    """The quickstart and the runbook as a spec ship with the engine."""
    assert {"runspecs/quickstart.yaml", "runspecs/m36.yaml"} <= {_name(path) for path in PRESETS}


@pytest.mark.parametrize("path", PRESETS, ids=_name)
def test_every_preset_is_valid(path: Path) -> None:
    """`runspec validate` finds nothing, not even a warning."""
    assert _runspec("validate", _name(path)) == (0, {"ok": True, "diagnostics": []})


@pytest.mark.parametrize("path", PRESETS, ids=_name)
def test_every_preset_can_be_planned(path: Path) -> None:
    """`runspec plan` knows every step of it, in the order of the file, and says why each would run."""
    code, document = _runspec("plan", _name(path))
    assert code == 0
    assert document["steps"]
    assert all(step["reason"] for step in document["steps"])


@pytest.mark.parametrize("path", [*PRESETS, *EXAMPLES], ids=_name)
def test_every_preset_and_example_carries_the_modeline(path: Path) -> None:
    """The first line points editors to the schema, by a path that leads there."""
    found = MODELINE.fullmatch(path.read_text(encoding="utf-8").split("\n")[0])
    assert found
    assert (path.parent / found[1]).resolve() == REPOSITORY / "schemas" / "runspec.schema.json"


@pytest.mark.parametrize("path", EVAL_SETS, ids=_name)
def test_every_eval_set_passes_its_own_check(path: Path) -> None:
    """`runspec evalset check` accepts what ships."""
    code, document = _runspec("evalset", "check", _name(path))
    assert (code, document["ok"]) == (0, True)


def _objects(schema: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every subschema of a schema, with its address."""
    if isinstance(schema, list):
        for index, child in enumerate(schema):
            yield from _objects(child, f"{where}[{index}]")
        return
    if not isinstance(schema, dict):
        return
    yield where, schema
    for key in ("properties", "definitions", "patternProperties"):
        for name, child in schema.get(key, {}).items():
            yield from _objects(child, f"{where}.{name}")
    for key in ("items", "additionalProperties", "not", "if", "then", "else", "allOf", "anyOf", "oneOf"):
        if key in schema:
            yield from _objects(schema[key], f"{where}.{key}")


@pytest.mark.parametrize("path", SCHEMAS, ids=_name)
def test_every_schema_is_a_draft_07_schema(path: Path) -> None:
    """It says so (editors' YAML servers ignore newer drafts), and it is one."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("path", SCHEMAS, ids=_name)
def test_every_key_of_a_schema_is_explained(path: Path) -> None:
    """Each property, at any depth, has a title and a description (a reference: at its target)."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    mute = []
    for where, found in _objects(schema, path.stem):
        if where.endswith((".if", ".not")):  # a condition on keys that are explained elsewhere
            continue
        for name, key in found.get("properties", {}).items():
            target = key
            if isinstance(key, dict) and key.get("$ref", "").startswith("#/definitions/"):
                target = schema["definitions"][key["$ref"].rsplit("/", 1)[1]]
            if not (isinstance(target, dict) and target.get("title") and target.get("description")):
                mute.append(f"{where}.{name}")
    assert mute == []


@pytest.mark.parametrize("path", SCHEMAS, ids=_name)
def test_no_schema_lets_unknown_keys_through(path: Path) -> None:
    """Every object that names its keys says what of others; what a person writes has none."""
    written = path.name.startswith("runspec") or path.parent.name == "steps"
    schema = json.loads(path.read_text(encoding="utf-8"))
    conditional = (".if", ".then", ".else", ".not", ".allOf", ".anyOf")
    lax = [
        where
        for where, found in _objects(schema, path.stem)
        if "properties" in found
        and ("additionalProperties" not in found or (written and found["additionalProperties"] is not False))
        and not any(part in where for part in conditional)
    ]
    assert lax == []
