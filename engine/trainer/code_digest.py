"""Digests of code: of what decides a training run's numbers, and of what makes a cached file.

In: modules. Out: SHA-256 over the syntax trees of their code. Comments, docstrings, layout, import lines and the names
of the modules do not count: a file that moves, or imports from another place, refuses no checkpoint and rebuilds no
cache. What an import brings in counts by its own code.

    numbers_digest()               # of the train step, the models, the order of the data, the placement, and all they import
    code_digest("engine.trainer.input_pipeline.packing")    # of these modules alone
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from engine.canonical import digest_json

PACKAGE, HERE = "engine.trainer.", Path(__file__).parent
ROOTS = tuple(
    f"{PACKAGE}{name}" for name in ("train_step", "models", "input_pipeline.batches", "device", "remat_policy")
)


@cache
def numbers_digest() -> str:
    """For a checkpoint's identity: the same code gives the same numbers, on the same libraries and devices."""
    return _digest(modules(ROOTS).values())


@cache
def code_digest(*names: str) -> str:
    """Of these imported modules: what their code made is made again when the code is another."""
    return _digest(Path(sys.modules[name].__file__ or "") for name in names)


def _digest(paths: Iterable[Path]) -> str:
    """Sorted by content, since names and folders do not count."""
    return digest_json(sorted(code_text(path.read_text(encoding="utf-8")) for path in paths))


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


def code_text(source: str) -> str:
    """What of a module's source is executed, its imports left out.

    >>> code_text("import os  # why\\ndef f():\\n    '''what'''\\n    return  1") == code_text("def f(): return 1")
    True
    """
    return ast.dump(_Executed().visit(ast.parse(source)))


class _Executed(ast.NodeTransformer):
    """Removes imports, blocks for type checkers only, and docstrings."""

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing is left of it."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Nothing is left of it."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """``if TYPE_CHECKING:`` is never executed."""
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return None
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Docstrings go first: what is left of a body may begin with another string."""
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] if isinstance(first.value.value, str) else node.body
        return super().generic_visit(node)
