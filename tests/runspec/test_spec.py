"""Laws of the spec: what YAML means, defaults, overrides, positions, schemas, and that nothing crashes it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.protocol.device_memory import Allocator
from engine.runspec import check_spec, find_root, load_spec, schema_document
from engine.runspec.document import parse
from engine.runspec.kinds import base_schema
from engine.runspec.nodes import SpecSource, plain
from engine.steps.registry import HANDLERS
from engine.trainer_process.jobs import train_job
from tests.examples import examples

REPOSITORY = Path(__file__).parent.parent.parent


def load(project: Path, *overrides: str) -> Any:
    return load_spec(project / "runspecs" / "spec.yaml", list(overrides), kinds=HANDLERS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1.0e-5", 1e-5), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-3", -3), ("+3", 3), ("007", 7),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("1_000", "1_000"), ("0x10", 16), ("0o10", 8), ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"), ('"1"', "1"), ("'true'", "true"), ("1e", "1e"), ("1.2.3", "1.2.3"), ("", ""),
        ("[1, no]", [1, "no"]), ("{a: 1e-5}", {"a": 1e-5}), ("=", "="), ("1e-5 # rate", 1e-5),
    ],
)  # fmt: skip
def test_a_value_is_read_as_people_mean_it(text: str, value: Any) -> None:
    """YAML 1.2 with the surprises of 1.1 taken out."""
    tree = parse(text, SpecSource("spec.yaml", (text,)))
    found = plain(tree) if tree is not None else ""
    assert found == value
    assert type(found) is type(value)


def test_defaults_fill_every_argument_and_declared_keeps_what_was_written(project: Path) -> None:
    """Effective arguments have every key of the schema; declared ones only the person's."""
    step = load(project).step("train")
    assert set(step.args) == set(HANDLERS["train_sft"].schema["properties"])
    assert step.args["optimizer"] == "adamw"
    assert dict(step.declared) == {"num_train_steps": 10, "seq_len": 128}


def test_defaults_are_not_shared_between_two_specs(project: Path) -> None:
    """Changing one spec's mutable default leaves the next one alone."""
    load(project).step("smoke").args["reduce"]["dtype"] = "bfloat16"
    assert load(project).step("smoke").args["reduce"] == {}


def test_overrides_are_typed_and_recorded_and_leave_declared_alone(project: Path) -> None:
    """By step id, section and top level; '=' inside a value is part of it."""
    spec = load(
        project,
        "train.num_train_steps=50",
        "train.learning_rate=1e-4",
        "device=cpu",
        "notes=a=b",
        "smoke.reduce.dtype=bfloat16",
    )
    assert spec.step("train").args["num_train_steps"] == 50
    assert spec.step("train").args["learning_rate"] == 1e-4
    assert spec.step("train").declared["num_train_steps"] == 10
    assert spec.step("smoke").args["reduce"] == {"dtype": "bfloat16"}
    assert (spec.device, spec.notes) == ("cpu", "a=b")
    assert next((override.path, override.value) for override in spec.overrides) == ("train.num_train_steps", 50)


def test_an_allocator_reaches_the_jobs_whole(project: Path, cases: ModuleType) -> None:
    """Keys left out have JAX's own values; without the section JAX gets no settings."""
    path, places = project / "runspecs" / "spec.yaml", dict.fromkeys(("dataset", "work", "out", "cache"), project)

    def said() -> Any:
        spec = load(project)
        return train_job(spec, spec.step("train").args, render="reasoning@v1", **places).allocator

    assert said() is None
    path.write_text(cases.GOOD.replace("version: 1\n", "version: 1\nallocator: {fraction: 0.9}\n", 1))
    assert said() == Allocator("bfc", preallocate=True, fraction=0.9)


def test_comments_and_key_order_do_not_change_the_arguments(project: Path, cases: ModuleType) -> None:
    """Only the digest of the text notices them."""
    before = load(project)
    path = project / "runspecs" / "spec.yaml"
    path.write_text(
        cases.GOOD.replace(
            "      num_train_steps: 10\n      seq_len: 128\n",
            "      seq_len: 128   # short\n      num_train_steps: 10\n",
        )
    )
    after = load(project)
    assert after.steps[2].args == before.steps[2].args
    assert after.digest != before.digest


@pytest.mark.parametrize("marker", [".runspec", ".git", "pyproject.toml"])
def test_the_project_is_the_nearest_marked_folder(tmp_path: Path, marker: str) -> None:
    """Whatever the marker."""
    (tmp_path / "a" / "runspecs").mkdir(parents=True)
    (tmp_path / "a" / marker).mkdir()
    assert find_root(tmp_path / "a" / "runspecs" / "x.yaml") == tmp_path / "a"


def test_the_committed_editor_schema_is_the_generated_one() -> None:
    """``runspec schema > schemas/runspec.schema.json`` has been run."""
    committed = json.loads((REPOSITORY / "schemas" / "runspec.schema.json").read_text(encoding="utf-8"))
    assert committed == schema_document(HANDLERS)


def test_the_editor_schema_accepts_the_presets_and_refuses_a_wrong_argument() -> None:
    """It dispatches ``with`` on ``uses``, as the engine does."""
    from ruamel.yaml import YAML

    schema = schema_document(HANDLERS)
    jsonschema.Draft7Validator.check_schema(schema)
    for path in sorted((REPOSITORY / "runspecs").rglob("*.yaml")):
        value = YAML(typ="safe").load(path)
        value["steps"] = [step for step in value["steps"] if step["uses"] in HANDLERS]  # one has a plug-in's step
        jsonschema.validate(value, schema)
        value["steps"][0]["with"] = {"nonsense": 1}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, schema)


@pytest.mark.parametrize(
    "schema", [base_schema(), *(kind.schema for kind in HANDLERS.values())], ids=lambda schema: schema["title"]
)
def test_every_key_is_described_and_every_number_has_a_unit_or_is_one_of_a_kind(schema: Any) -> None:
    """Title and description everywhere; a unit where a number measures something."""
    unitless = {"version", "seed"}

    def check(properties: Any) -> None:
        for key, entry in properties.items():
            assert entry.get("title"), key
            assert entry.get("description"), key
            types = entry.get("type", [])
            if {"integer", "number"} & ({types} if isinstance(types, str) else set(types)) and key not in unitless:
                assert entry.get("x-unit"), key
            check(entry.get("properties", {}))

    check(schema["properties"])


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_give_findings_never_a_traceback(project: Path, data: bytes) -> None:
    """Free-form input."""
    path = project / "runspecs" / "any.yaml"
    path.write_bytes(data)
    assert check_spec(path, kinds=HANDLERS)


_VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
                       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5)  # fmt: skip


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_gives_findings_or_a_spec(project: Path, cases: ModuleType, data: st.DataObject) -> None:
    """Every key of a good spec in turn is given a value of any type."""
    from ruamel.yaml import YAML

    value = YAML(typ="safe").load(cases.GOOD)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            collect(node[key])

    collect(value)
    node, key = data.draw(st.sampled_from(places))
    node[key] = data.draw(_VALUES)
    path = project / "runspecs" / "mutated.yaml"
    path.write_text(json.dumps(value))
    findings = check_spec(path, kinds=HANDLERS)
    if any(finding.severity == "error" for finding in findings):
        with pytest.raises(InputInvalid):
            load_spec(path, kinds=HANDLERS)
    else:
        assert load_spec(path, kinds=HANDLERS).steps


def test_a_path_through_a_link_that_leaves_the_project_is_refused(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A link counts as its target."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "items.jsonl").write_text("{}\n")
    (project / "evalsets" / "items.jsonl").unlink()
    (project / "evalsets" / "items.jsonl").symlink_to(outside / "items.jsonl")
    with pytest.raises(InputInvalid, match="leads out of the project through a link"):
        load(project)
