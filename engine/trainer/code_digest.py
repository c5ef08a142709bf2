"""A digest of the code that decides a training's numbers, deaf to comments, docstrings and layout.

In: the modules it begins with. Out: SHA-256 over the syntax trees of these and of all they import from the trainer. What
makes tokens and packing plans is not among them: those are bound by their content.

    numbers_digest()     # of the train step, the models, the order of the data, the placement
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from engine.canonical import digest_json

PACKAGE, HERE = "engine.trainer.", Path(__file__).parent
ROOTS = tuple(f"{PACKAGE}{name}" for name in ("train_step", "models", "batches", "device", "fitting"))


@cache
def numbers_digest() -> str:
    """For a checkpoint's identity: the same code gives the same numbers, on the same libraries and devices."""
    return digest_json({name: _tree_text(path) for name, path in sorted(modules(ROOTS).items())})


def modules(roots: tuple[str, ...]) -> dict[str, Path]:
    """Name -> file of these modules and of every trainer module they import, directly or not."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting += _imports(path)
    return found


def _path(name: str) -> Path | None:
    """The file of a module; None for a name that is none (what is imported from a module)."""
    if not name.startswith(PACKAGE):
        return None
    stem = HERE.joinpath(*name.removeprefix(PACKAGE).split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(PACKAGE):
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _tree_text(path: Path) -> str:
    return code_text(path.read_text(encoding="utf-8"))


def code_text(source: str) -> str:
    """What of a module's source is executed.

    >>> code_text("# why\\ndef f():\\n    '''what'''\\n    return  1") == code_text("def f(): return 1")
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)
