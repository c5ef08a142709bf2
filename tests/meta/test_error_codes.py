"""Error codes: one meaning each, and a reference that is complete both ways."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CODE = re.compile(r"[YSDTMKEPVRXU]\d{3}|V\d{2}")
ROW = re.compile(r"^\| `([A-Z]\d{2,3})` \| (.+?) \| (.+?) \|$", re.MULTILINE)
# What a letter stands for, and the parts of the engine that may use it.
HEADINGS = {
    "Y": "YAML text", "S": "the run-spec", "D": "data and eval sets", "T": "the trainer", "M": "models and weights",
    "K": "scoring", "E": "evidence", "P": "the package", "V": "verification", "R": "runs, the store and locks",
    "X": "the environment and extras", "U": "use of the command line",
}  # fmt: skip

# Parts that are one part to a person: what they type, and what answers.
COMMAND_LINE = {"cli", "commands", "doctor", "project"}


def _codes(module: Any) -> set[str]:
    """Code-shaped string constants of a module; docstrings are prose and do not count."""
    return {
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value)
    }


def _reference(repository: Path) -> list[tuple[str, str, str]]:
    return ROW.findall((repository / "docs" / "errors.md").read_text(encoding="utf-8"))


def test_every_code_is_in_the_reference(modules: Mapping[str, Any], repository: Path) -> None:
    """docs/errors.md has a row for every code that the engine can print."""
    used = set().union(*(_codes(module) for module in modules.values()))
    assert sorted(used - {code for code, _, _ in _reference(repository)}) == []


def test_the_reference_has_no_dead_codes(modules: Mapping[str, Any], repository: Path) -> None:
    """docs/errors.md has no row for a code that the engine never prints."""
    used = set().union(*(_codes(module) for module in modules.values()))
    assert sorted({code for code, _, _ in _reference(repository)} - used) == []


def test_each_code_is_explained_once(repository: Path) -> None:
    """A code has one row, and no two codes have the same meaning."""
    rows = _reference(repository)
    codes, meanings = [code for code, _, _ in rows], [meaning for _, meaning, _ in rows]
    assert sorted({code for code in codes if codes.count(code) > 1}) == []
    assert sorted({meaning for meaning in meanings if meanings.count(meaning) > 1}) == []


def test_the_reference_is_in_order_under_its_headings(repository: Path) -> None:
    """One heading for each letter, the codes below it rising."""
    text = (repository / "docs" / "errors.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    seen = {}
    for section in sections:
        found = [code for code, _, _ in ROW.findall(section)]
        if found:
            assert found == sorted(found)
            assert {code[0] for code in found} == {section[0]}
            seen[section[0]] = section.split("\n")[0]
    assert seen == {letter: f"{letter}: {HEADINGS[letter]}" for letter in seen}


def test_a_code_belongs_to_one_part(modules: Mapping[str, Any]) -> None:
    """Two parts of the engine never use one code: it would mean two things."""
    owners: dict[str, set[str]] = {}
    for module in modules.values():
        for code in _codes(module):
            owners.setdefault(code, set()).add("command line" if module.part in COMMAND_LINE else module.part)
    assert {code: sorted(parts) for code, parts in owners.items() if len(parts) > 1} == {}
