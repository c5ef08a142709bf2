"""The project as data: its files, and every module of the engine parsed once, with what it imports.

In: the root of a checkout or of a source archive. Out: :class:`Module` by dotted name, and the files that belong to the
project. The tests in tests/meta and `structure.py` read the project through these alone.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.pipeline import git

TEXT_SUFFIXES = {
    "", ".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".j2", ".jinja", ".cfg", ".ini",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One imported name: ``target`` is the module, or module.name where that may be a module too."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """One file of the engine."""

    name: str
    path: Path
    text: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def part(self) -> str:
        """``engine.data.rows`` -> ``data``; ``engine`` itself -> ``engine``."""
        return self.name.split(".")[1] if "." in self.name else "engine"


def _is_typing_only(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _walk(node: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_typing_only(child.test):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), True)
            for statement in child.orelse:
                yield from _walk(ast.Module([statement], []), typing_only)
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, typing_only
        yield from _walk(child, typing_only)


def _imports(tree: ast.Module, name: str, is_package: bool, known: frozenset[str]) -> Iterator[Import]:
    """Every import of a module, those inside functions and under TYPE_CHECKING included."""
    package = name if is_package else name.rpartition(".")[0]
    for node, typing_only in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                target = f"{base}.{alias.name}"
                yield Import(target if target in known else base, node.lineno, typing_only)


def read_modules(root: Path) -> dict[str, Module]:
    """Dotted name -> module, for all of ``engine`` below ``root``."""
    paths = {}
    for path in sorted((root / "engine").rglob("*.py")):
        relative = path.relative_to(root).with_suffix("")
        if "_assets" not in relative.parts:
            parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
            paths[".".join(parts)] = path
    known = frozenset(paths)
    made = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, str(path))
        imports = tuple(_imports(tree, name, path.name == "__init__.py", known))
        made[name] = Module(name, path, text, tree, imports)
    return made


def project_files(root: Path) -> list[Path]:
    """Every file that belongs to the project: what git tracks or would track, or all of a source archive."""
    if (root / ".git").exists():
        listed = git.ask(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        files = [root / os.fsdecode(name) for name in listed.split(b"\0") if name]
    else:
        files = [path for path in root.rglob("*") if path.is_file() and not {".venv", ".venv-parity"} & set(path.parts)]
    return sorted(path for path in files if path.is_file())
