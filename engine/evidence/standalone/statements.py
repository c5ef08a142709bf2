"""The statements of a module, each with the names that it binds and those that it needs: what a slice is cut from.

In: the text of a module. Out: its statements at the top level. Names in annotations are not needed: nothing evaluates them
(``from __future__ import annotations``), except the few that ``dataclasses`` looks for.

    >>> module = read_statements('import os\\nA = 1\\ndef f() -> B:\\n    return A, os.path\\n')
    >>> [(sorted(s.binds), sorted(s.needs), sorted(s.attributes)) for s in module.statements]
    [(['os'], [], []), (['A'], [], []), (['f'], ['A', 'os'], [('os', 'path')])]
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

EVALUATED_ANNOTATIONS = frozenset({"ClassVar", "InitVar", "KW_ONLY"})


@dataclass(frozen=True, slots=True)
class Imported:
    """One name of an import: ``from module import name as bound``; of ``import module`` the name is None."""

    module: str
    name: str | None
    bound: str


@dataclass(slots=True)
class Statement:
    """One statement at the top level; ``first`` and ``last`` are its lines, from 1, the comments before it included."""

    first: int
    last: int
    binds: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    attributes: set[tuple[str, str]] = field(default_factory=set)  # (name, attribute): what is needed of a module
    imports: list[Imported] = field(default_factory=list)  # of an import statement: what it binds
    local_imports: list[Imported] = field(default_factory=list)  # inside functions
    is_effect: bool = False  # an expression, or an assignment into something: needed as soon as the module is


@dataclass(frozen=True, slots=True)
class ModuleText:
    """A module's lines, the lines of its docstring, and its statements."""

    lines: Sequence[str]
    docstring: tuple[int, int] | None
    statements: Sequence[Statement]


def read_statements(text: str) -> ModuleText:
    """Parse a module."""
    lines, body, docstring = text.split("\n"), ast.parse(text).body, None
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        docstring = (body[0].lineno, body[0].end_lineno or body[0].lineno)
        body = body[1:]
    statements = [_statement(node, lines) for node in body if not _is_for_types(node)]
    return ModuleText(lines, docstring, statements)


def _is_for_types(node: ast.stmt) -> bool:
    """Whether only a type checker reads it, or the reader of all names."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return isinstance(node, ast.Assign) and any(
        isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets
    )


def _statement(node: ast.stmt, lines: Sequence[str]) -> Statement:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    found = Statement(first, node.end_lineno or node.lineno)
    if isinstance(node, ast.Import | ast.ImportFrom):
        found.imports = list(imported_names(node))
        found.binds = {one.bound for one in found.imports}
        return found
    found.binds = set(_bound(node))
    found.is_effect = not found.binds
    _Needs(found).visit(node)
    return found


def imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[Imported]:
    """What an import statement binds. Relative imports are not used in the engine."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Imported(alias.name, None, alias.asname or alias.name.split(".")[0])
    elif not node.level:
        for alias in node.names:
            yield Imported(node.module or "", alias.name, alias.asname or alias.name)
    else:
        raise ValueError(f"line {node.lineno}: a relative import")


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds in its module; what functions and classes bind inside is theirs."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


class _Needs(ast.NodeVisitor):
    """Collects the names that are read when a statement runs, and those that its functions read."""

    def __init__(self, found: Statement) -> None:
        self.found = found

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.found.needs.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            self.found.attributes.add((node.value.id, node.attr))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """Its annotation is not evaluated."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for child in (*node.decorator_list, node.args, *node.body):
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.local_imports += imported_names(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found.local_imports += imported_names(node)

    def _annotation(self, node: ast.expr) -> None:
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        self.found.needs |= names & EVALUATED_ANNOTATIONS
