"""Error codes: one meaning each, and a reference that is complete both ways."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import RunspecError

CODE = re.compile(r"[YSDTMKEPVRXLUG]\d{3}|V\d{2}")
ROW = re.compile(r"^\| `([A-Z]\d{2,3})` \| (.+?) \| (.+?) \|$", re.MULTILINE)
# What a letter stands for.
HEADINGS = {
    "Y": "YAML text",
    "S": "the run-spec",
    "D": "data and eval sets",
    "T": "the trainer",
    "M": "models and weights",
    "K": "scoring",
    "E": "evidence",
    "P": "the package",
    "V": "verification",
    "R": "runs, the store and locks",
    "X": "the environment and extras",
    "L": "job files",
    "G": "Kaggle",
    "U": "use of the command line",
}

EXCEPTIONS = {kind.__name__ for kind in RunspecError.__subclasses__()}
# Parts that are one part to a person: what they type, and what answers.
COMMAND_LINE = {"cli", "commands", "doctor", "project"}
OF_VERIFY_PY = "engine.evidence.standalone.command"  # the command line of verify.py, with the codes of `runspec verify`


# The readers of JSONL put a code together: the family of the file (rows, eval sets) and a number that is a
# constant in capitals at the top of these modules. The numbers of jsonl.py mean the same in both families.
COMPOSED = {
    "engine.data.jsonl": ("D1", "D2"),
    "engine.data.rows": ("D1",),
    "engine.data.row_reader": ("D1",),
    "engine.data.chat_rows": ("D1",),
    "engine.data.check": ("D1",),
    "engine.data.evalset": ("D2",),
}


def _numbers(module: Any) -> set[int]:
    """`MISSING, WRONG_TYPE = 20, 21` and `MORE = 99` at the top of a module."""
    found = set()
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            found |= {value for value in ast.literal_eval(node.value) if isinstance(value, int)}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MORE":
            found.add(ast.literal_eval(node.value))
    return found


def _codes(module: Any) -> set[str]:
    """What a module can print: string constants that are a whole code, and codes it puts together."""
    composed = {f"{family}{number:02d}" for family in COMPOSED.get(module.name, ()) for number in _numbers(module)}
    return composed | {
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value)
    }


def _reference(repository: Path) -> list[tuple[str, str, str]]:
    return ROW.findall((repository / "docs" / "reference" / "errors.md").read_text(encoding="utf-8"))


def test_every_code_is_in_the_reference(modules: Mapping[str, Any], repository: Path) -> None:
    """docs/reference/errors.md has a row for every code that the engine can print."""
    used = set().union(*(_codes(module) for module in modules.values()))
    assert sorted(used - {code for code, _, _ in _reference(repository)}) == []


def test_the_reference_has_no_dead_codes(modules: Mapping[str, Any], repository: Path) -> None:
    """docs/reference/errors.md has no row for a code that the engine never prints."""
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
    text = (repository / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
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
            owners.setdefault(code, set()).add(
                "command line" if module.part in COMMAND_LINE or module.name == OF_VERIFY_PY else module.part
            )
    assert {code: sorted(parts) for code, parts in owners.items() if len(parts) > 1} == {}


def test_a_code_has_one_exit_code(modules: Mapping[str, Any]) -> None:
    """A code is always raised as the same kind of error: two kinds would be two meanings."""
    kinds: dict[str, set[str]] = {}
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name, code = ast.unparse(node.func), node.args[0].value
                if name in EXCEPTIONS and isinstance(code, str) and CODE.fullmatch(code):
                    kinds.setdefault(code, set()).add(name)
    assert {code: sorted(names) for code, names in kinds.items() if len(names) > 1} == {}
