"""Whether a file is a notebook that was generated here, and what somebody has changed in it since.

In: a path. Out: the names of the cells that are not as they were written; nothing of outputs, which a run of it adds; None for any other file.

    >>> edited_since({"cells": [{"cell_type": "code", "source": "print(1)"}]}) is None
    True
"""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from pathlib import Path

from engine.canonical import JsonMapping
from engine.kaggle.session.edits import TABLE, TITLE, TITLES, digest_of_cell

MOST_BYTES = 64_000_000  # with the outputs of a run in it


def edited_in_file(path: Path) -> list[str] | None:
    """What cannot be read is no notebook of ours."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:  # opening a pipe would wait for its writer
            return None
        return edited_since(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def edited_since(document: object) -> list[str] | None:
    """By the digests in the first cell; a cell that was added counts, too, as ``a cell that was added``."""
    code = _code_of(document)
    written = next((table for table in map(_table, code) if table is not None), None)
    if written is None:
        return None
    found = {_name(source): digest_of_cell(source) for source in code}
    changed = [name for name, digest in written.items() if found.get(name) != digest]
    return changed + ["a cell that was added"] * any(_name(source) is None for source in code)


def _code_of(document: object) -> list[str]:
    cells = document.get("cells") if isinstance(document, dict) else None
    rows = [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    return [_source(cell) for cell in rows if cell.get("cell_type") == "code"]


def _source(cell: JsonMapping) -> str:
    source = cell.get("source")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _table(source: str) -> dict[str, str] | None:
    line = next((line for line in source.splitlines() if line.startswith(TABLE)), None)
    if line is not None:
        with suppress(ValueError, SyntaxError):
            table = ast.literal_eval(line.removeprefix(TABLE))
            return table if isinstance(table, dict) and table.keys() == TITLES.keys() else None
    return None


def _name(source: str) -> str | None:
    first = source.lstrip().partition("\n")[0].strip()
    return next((name for name, title in TITLES.items() if first == f"{TITLE}{title}"), None)
