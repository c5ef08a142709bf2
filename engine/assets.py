"""Paths of the shipped schemas, templates, presets, eval sets and documents: in the checkout, or inside the wheel.

>>> asset("schemas", "runspec.schema.json").name
'runspec.schema.json'
"""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("schemas", "templates", "runspecs", "evalsets", "docs")

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries these folders as engine/_assets/ (pyproject: wheel.sources); a checkout has them
# beside the package.
_ROOT = _PACKAGE / "_assets" if (_PACKAGE / "_assets").is_dir() else _PACKAGE.parent


def asset(folder: str, *parts: str) -> Path:
    """The path of a shipped file or folder, say ``asset("schemas", "steps", "score.schema.json")``."""
    if folder not in FOLDERS:
        raise ValueError(f"no such asset folder: {folder}")
    return _ROOT.joinpath(folder, *parts)
