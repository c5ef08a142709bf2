"""Laws of our keywords in JSON Schemas: their names, what they list, and that the old names are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.runspec.keywords import EFFECTS, changes_state, effects_problem, only_tracked, renamed
from engine.steps.registry import HANDLERS

REPOSITORY = Path(__file__).parents[2]
SCHEMAS = sorted((REPOSITORY / "schemas").rglob("*.json"))
ARGUMENTS = HANDLERS["train_sft"].schema["properties"]


def entries(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema itself and every schema inside it."""
    yield schema
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    inner += [part for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word, ())]
    inner += [schema.get(word) for word in ("if", "then", "else")]
    for part in inner:
        if isinstance(part, Mapping):
            yield from entries(part)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_no_shipped_schema_has_an_old_keyword(path: Path) -> None:
    """Translating a schema of ours changes nothing."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert renamed(schema) == (schema, {})


def test_every_argument_of_the_training_step_says_what_it_affects() -> None:
    """Its list has known effects only, each once, and is never empty."""
    for name, entry in ARGUMENTS.items():
        assert set(entry["x-affects"]) <= EFFECTS, name
        assert len(set(entry["x-affects"])) == len(entry["x-affects"]) > 0, name


def test_an_argument_without_the_keyword_can_change_everything() -> None:
    """A plug-in needs to write nothing."""
    assert changes_state({})
    assert not only_tracked({})


@pytest.mark.parametrize(
    ("effects", "changes", "tracks"),
    [(["state"], True, False), (["state", "tracking"], True, False), (["files"], False, False),
     (["tracking"], False, True), (["files", "tracking"], False, False), ([], False, False)],
)  # fmt: skip
def test_what_a_list_of_effects_means(effects: list[str], changes: bool, tracks: bool) -> None:
    """Without "state" an interrupted step resumes; "tracking" alone is no part of the fingerprint."""
    entry = {"x-affects": effects}
    assert (changes_state(entry), only_tracked(entry)) == (changes, tracks)


def test_an_effect_that_does_not_exist_is_named() -> None:
    """A typing error in the list must not pass for "changes no state"."""
    assert effects_problem({"properties": {"most": {"x-affects": ["state", "files"]}, "more": {}}}) is None
    assert effects_problem({"properties": {"most": {"x-affects": ["sate"]}}}) == (
        'x-affects of "most" lists sate; it can list batch_shape, files, packing_plan, program, state, tracking'
    )


def test_old_keywords_are_translated_at_every_depth() -> None:
    """Keywords only: a property with the name of a keyword is left alone."""
    old = {
        "properties": {
            "unit": {"type": "integer", "unit": "rows", "atMost": "below"},
            "below": {"items": {"alsoCalled": ["under"]}, "default": {"unit": 1}, "watches": True},
            "more": {"anyOf": [{"names": "metric"}, {"type": "null"}], "resumable": True, "watches": False},
        },
        "required": ["unit"],
    }
    schema, used = renamed(old)
    assert schema == {
        "properties": {
            "unit": {"type": "integer", "x-unit": "rows", "x-at-most": "below"},
            "below": {"items": {"x-aliases": ["under"]}, "default": {"unit": 1}, "x-affects": ["tracking"]},
            "more": {"anyOf": [{"x-names": "metric"}, {"type": "null"}], "x-affects": ["files"]},
        },
        "required": ["unit"],
    }
    assert set(used) == {"unit", "atMost", "alsoCalled", "watches", "names", "resumable"}


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_every_keyword_of_ours_is_documented(path: Path, repository: Path) -> None:
    """Every x- keyword has a row in the list for authors of step schemas."""
    documented = (repository / "docs" / "reference" / "schema-words.md").read_text(encoding="utf-8")
    ours = {
        word for entry in entries(json.loads(path.read_text(encoding="utf-8"))) for word in entry if word[:2] == "x-"
    }
    assert {word for word in ours if f"`{word}`" not in documented} == set()
