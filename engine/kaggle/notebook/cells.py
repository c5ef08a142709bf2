"""The template of the notebook -> its cells -> the text of an .ipynb, the same bytes every time.

In: the values of a notebook. Out: nbformat 4.5 without outputs. ``templates/kaggle/notebook.py.j2`` has the cells one after the other; it is
cut before it is rendered, so that no value can begin a cell.

    document(cells({"run_version": "m36_v1", …}))
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.assets import asset
from engine.canonical import JsonMapping
from engine.kaggle.session.edits import TABLE, TITLES, digest_of_cell, digest_of_cells

MARKDOWN = "[markdown]"
_HEAD = re.compile(r"^# %% (\S+)\n", re.MULTILINE)
# Hides the text of the engine where the notebook is only read: Kaggle, Jupyter, Colab.
_HIDDEN = {"_kg_hide-input": True, "cellView": "form", "jupyter": {"source_hidden": True}}


@dataclass(frozen=True, slots=True)
class Cell:
    """``kind``: markdown, or the name of the code cell."""

    kind: str
    source: str


def cells(values: JsonMapping) -> list[Cell]:
    """Render the template. Code cells are named; the first of them has the digests of all."""
    rendered = [
        Cell(kind, _render(text, {**values, "titles": TITLES, "cells_line": TABLE + "{}"})) for kind, text in _blocks()
    ]
    digests = cell_digests(rendered)
    line = TABLE + _literal(digests)
    return [Cell(cell.kind, cell.source.replace(f"\n{TABLE}{{}}\n", f"\n{line}\n", 1)) for cell in rendered]


def cell_digests(made: list[Cell]) -> dict[str, str]:
    """Name -> digest of each code cell."""
    return {cell.kind: digest_of_cell(cell.source) for cell in made if cell.kind != MARKDOWN}


def digest_of(made: list[Cell]) -> str:
    """What ``outcome.json`` calls notebook_sha256_of_cells where nobody has changed a cell."""
    return digest_of_cells(cell_digests(made))


def document(made: list[Cell]) -> str:
    """The cells as nbformat 4.5. No ``kaggle`` key in the metadata: Kaggle would choose an image by it."""
    rows = [_row(number, cell) for number, cell in enumerate(made)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"cells": rows, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def _row(number: int, cell: Cell) -> dict[str, object]:
    source = cell.source.splitlines(keepends=True)
    if cell.kind == MARKDOWN:
        return {"cell_type": "markdown", "id": f"text-{number}", "metadata": {}, "source": source}
    metadata = _HIDDEN if cell.kind == "engine" else {}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell.kind,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def _blocks() -> list[tuple[str, str]]:
    text = asset("templates", "kaggle", "notebook.py.j2").read_text(encoding="utf-8")
    parts = _HEAD.split(text)[1:]
    return list(zip(parts[::2], (part.strip("\n") for part in parts[1::2]), strict=True))


def _render(text: str, values: Mapping[str, object]) -> str:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"literal": _literal, "long_literal": _long_literal}
    return environment.from_string(text).render(**values).strip("\n")


def _literal(value: object) -> str:
    """A value as Python reads it: of JSON's types only.

    >>> _literal({"a": [None, True, "x'"]})
    '{\\'a\\': [None, True, "x\\'"]}'
    """
    return repr(value)


def _long_literal(text: str) -> str:
    """A text of many lines, to be read and edited: between three quotation marks where nothing in it stands against that.

    >>> print(_long_literal("a: 1\\n"))
    r'''a: 1
    '''
    >>> print(_long_literal("a: '''\\n\\\\"))
    ("a: '''\\n"
     '\\\\')
    """
    if "'''" not in text and not text.endswith(("'", "\\")) and "\r" not in text and "\0" not in text:
        return f"r'''{text}'''"
    return "(" + "\n ".join(map(repr, text.splitlines(keepends=True))) + ")"
