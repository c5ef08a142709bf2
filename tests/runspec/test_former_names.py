"""A renamed key is an alias with a note, never a silent break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import render
from engine.runspec import check_spec, load_spec
from engine.steps import FunctionHandler, StepResult

SCHEMA = {
    "type": "object", "additionalProperties": False, "description": "grows",
    "properties": {
        "sun_hours": {"type": "integer", "default": 6, "x-former-names": ["sun", "light"], "x-unit": "hours"},
        "soil": {"type": "object", "default": {}, "additionalProperties": False,
                 "properties": {"ph": {"type": "number", "default": 7.0, "x-former-names": ["acidity"]}}},
    },
}  # fmt: skip
KINDS = {"grow": FunctionHandler("grow", 1, "grows", "apple", SCHEMA, lambda _: StepResult())}
SPEC = """\
# yaml-language-server: $schema=../schemas/runspec.schema.json
version: 1
run_version: v1
model: {{id: toy, init: random, tokenizer: chars, config: {{model_type: gemma, hidden_size: 8, intermediate_size: 8,
  num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 8}}}}
dataset: toy
eval_set: eval.jsonl
steps:
  - id: tree
    uses: grow
    with: {arguments}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """write("{sun: 3}"): a spec whose one step has these arguments."""
    (tmp_path / ".runspec").mkdir()
    (tmp_path / "eval.jsonl").write_text("{}\n")

    def make(arguments: str) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(arguments=arguments))
        return path

    return make


def arguments_of(path: Path, *overrides: str) -> tuple[dict[str, Any], list[str]]:
    """(effective arguments, codes of the warnings)."""
    warnings: list[Any] = []
    spec = load_spec(path, list(overrides), kinds=KINDS, on_former_name=warnings.append)
    return dict(spec.steps[0].args), [warning.code for warning in warnings]


def test_the_old_name_is_read_as_the_new_one(write: Callable[[str], Path]) -> None:
    """In a step, in a mapping inside it, and in an override; the same arguments as under the new names."""
    expected = ({"sun_hours": 3, "soil": {"ph": 5.5}}, [])
    assert arguments_of(write("{sun_hours: 3, soil: {ph: 5.5}}")) == expected
    assert arguments_of(write("{sun: 3, soil: {acidity: 5.5}}")) == (expected[0], ["S320", "S320"])
    assert arguments_of(write("{soil: {ph: 5.5}}"), "tree.light=3") == (expected[0], ["S320"])


def test_the_warning_names_the_new_key(write: Callable[[str], Path]) -> None:
    """With the line, the old key under the caret, and what to write."""
    path = write("{sun: 3}")
    (found,) = (finding for finding in check_spec(path, kinds=KINDS) if finding.code == "S320")
    assert render(found) == (
        'warning[S320]: "sun" is called "sun_hours" now; it is read as that\n'
        f"  --> {path}:11:12\n"
        "   |\n"
        "11 |     with: {sun: 3}\n"
        "   |            ^^^\n"
        "   = help: write sun_hours"
    )


def test_both_names_are_an_error(write: Callable[[str], Path]) -> None:
    """Which of the two values would count? The old name is unknown beside the new one."""
    findings = check_spec(write("{sun: 3, sun_hours: 4}"), kinds=KINDS)
    (found,) = (finding for finding in findings if finding.severity == "error")
    assert (found.code, found.hint) == ("S101", 'here it is called "sun_hours"')


def test_a_wrong_value_is_told_by_the_new_name_at_the_old_place(write: Callable[[str], Path]) -> None:
    """The rules of the new key hold."""
    findings = [finding for finding in check_spec(write("{light: dark}"), kinds=KINDS) if finding.severity == "error"]
    assert [(finding.code, finding.message) for finding in findings] == [
        ("S103", 'sun_hours must be a whole number, not the text "dark"')
    ]
