"""docs/reference/errors.md names every code that the part can raise, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import engine.data
from engine.data import chat_rows, evalset, jsonl, row_reader, rows
from engine.data import check as checks

ROOT = Path(__file__).resolve().parents[2]


def numbers(module):
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, int) and value < 100}


def test_the_table_of_codes_is_complete_and_has_nothing_else():
    """The rows below the letter D are the codes that readers, checks and builders can raise."""
    folder = Path(engine.data.__file__).parent
    literal = {code for path in folder.rglob("*.py") for code in re.findall(r'"(D\d{3})"', path.read_text())}
    shared = numbers(jsonl) - {jsonl.MAX_DEPTH}
    expected = literal | {f"D{family}{number:02d}" for family in (1, 2) for number in shared}
    own_rows = (
        numbers(rows) | numbers(row_reader) | numbers(chat_rows) | {value for value in numbers(checks) if value >= 40}
    )
    expected |= {f"D1{number}" for number in own_rows} | {f"D2{number}" for number in numbers(evalset)}
    table = (ROOT / "docs" / "reference" / "errors.md").read_text().split("## D:")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(D\d{3})`", table, re.MULTILINE)) == expected
