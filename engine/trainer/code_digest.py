"""Digests of code: of the code that decides a training run's numbers, and of the code that makes a cached file.

In: modules. Out: SHA-256 over the syntax trees of their code. Comments, docstrings, layout, import lines and the names
of the modules do not count: moving a file, or importing from another module, refuses no checkpoint and rebuilds no
cache. What an import brings in counts by its own code.

    numbers_digest()               # of the train step, the models, the order of the data, the placement, and all they import
    code_digest("engine.trainer.input_pipeline.packing")    # of these modules alone
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from engine.canonical import digest_json

# Where the code lies that decides numbers: the trainer, and the configurations that it and the plan read.
PACKAGES, ENGINE = ("engine.trainer.", "engine.model_config."), Path(__file__).parents[1]
ROOTS = tuple(
    f"engine.trainer.{name}" for name in ("train_step", "models", "input_pipeline.batches", "device", "remat_policy")
)


@cache
def numbers_digest() -> str:
    """For a checkpoint's identity: the same code gives the same numbers, on the same libraries and devices."""
    return _digest(modules(ROOTS).values())


@cache
def code_digest(*names: str) -> str:
    """Of these imported modules: what their code made is made again when the code has changed."""
    return _digest(Path(sys.modules[name].__file__ or "") for name in names)


def _digest(paths: Iterable[Path]) -> str:
    """Sorted by content, since names and folders do not count."""
    return digest_json(sorted(_read(path).text for path in paths))


def modules(roots: tuple[str, ...]) -> dict[str, Path]:
    """Name -> file of these modules and of every module of :data:`PACKAGES` that they import, directly or not."""
    paths: dict[str, Path] = {}
    pending = list(roots)
    while pending:
        name = pending.pop()
        path = _path(name)
        if name in paths or path is None:
            continue
        paths[name] = path
        pending += _read(path).imports
    return paths


def _path(name: str) -> Path | None:
    """The file of a module; None for a name that is not a module (a name imported from one)."""
    if not f"{name}.".startswith(PACKAGES):
        return None
    stem = ENGINE.joinpath(*name.split(".")[1:])
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


class _Code(NamedTuple):
    """Of a module: the executed part without its imports, and the names in :data:`PACKAGES` that it may import."""

    text: str
    imports: Sequence[str]


@cache
def _read(path: Path) -> _Code:
    """Parsed once, although both the search for modules and the digest need it: a trainer waits for this when it starts."""
    executed = _Executed()
    return _Code(ast.dump(executed.visit(ast.parse(path.read_bytes()))), executed.imports)


def code_text(source: str) -> str:
    """The executed part of a module's source, without its imports.

    >>> code_text("import os  # why\\ndef f():\\n    '''what'''\\n    return  1") == code_text("def f(): return 1")
    True
    """
    return ast.dump(_Executed().visit(ast.parse(source)))


class _Executed(ast.NodeTransformer):
    """Removes imports, blocks for type checkers only, and docstrings; ``imports``: what the removed imports may name."""

    def __init__(self) -> None:
        self.imports: list[str] = []

    def visit_Import(self, node: ast.Import) -> None:
        """Removes it."""
        self.imports += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Removes it."""
        if node.module and f"{node.module}.".startswith(PACKAGES):
            self.imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """``if TYPE_CHECKING:`` is never executed; what it imports counts all the same."""
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self.generic_visit(node)
            return None
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Removes the docstring first: the rest of a body may begin with another string. An expression has none of all these."""
        if isinstance(node, ast.expr):
            return node
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] if isinstance(first.value.value, str) else node.body
        return super().generic_visit(node)
