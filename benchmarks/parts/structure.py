"""How the engine is put together, as figures: floors, circles, folders, sizes, `Any`, imports inside functions.

In: the modules and files of :mod:`parts.source`. Out: what breaks a law, each with its place, and figures to hold beside
the bars. `benchmarks/structure.py` prints them, tests/meta/test_structure.py holds them.
"""

from __future__ import annotations

import ast
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from parts.source import Module

# From the ground up. A part imports from its own floor and from those below, never from one above; imports inside
# functions and for types alone count. tests/meta/test_imports.py has the law for single parts.
FLOORS: Mapping[str, frozenset[str]] = {
    "ground": frozenset(
        {
            "engine",
            "errors",
            "canonical",
            "temporary",
            "assets",
            "redact",
            "printable",
            "sandbox",
            "extras",
            "locks",
            "model_config",
            "os_errors",
            "file_kinds",
            "interrupt",
        }
    ),
    "protocol": frozenset({"protocol"}),
    "islands": frozenset({"data", "scoring", "runspec"}),
    "machinery": frozenset({"artifacts", "trainer_process", "trainer"}),
    "steps": frozenset({"steps"}),
    "pipeline": frozenset({"pipeline", "evidence", "preflight", "launch", "doctor", "gallery", "project", "display"}),
    "commands": frozenset({"commands"}),
    "command line": frozenset({"cli", "__main__", "streams"}),
}
FOLDERS = ("engine", "tests", "docs")

MOST_FILES_IN_A_FOLDER = 20
MOST_ANY_IN_1000_LINES = 10.0
MOST_LOCAL_IMPORTS = 60
MOST_LINES_OF_THE_MEDIAN_FILE, MOST_LINES_OF_A_FILE = 130, 400
MOST_LINES_OF_NINE_FUNCTIONS_IN_TEN = 20


def without_a_floor(modules: Mapping[str, Module]) -> set[str]:
    """Parts of the engine that the table does not name."""
    return {module.part for module in modules.values()} - frozenset().union(*FLOORS.values())


def arrows_up(modules: Mapping[str, Module]) -> list[str]:
    """Imports of a part from a higher floor. Parts without a floor are :func:`without_a_floor`'s to name."""
    height = {part: level for level, parts in enumerate(FLOORS.values()) for part in parts}
    names = list(FLOORS)
    found = []
    for module in modules.values():
        own = height.get(module.part)
        for imported in module.imports:
            target = modules.get(imported.target)
            other = height.get(target.part) if target else None
            if own is not None and other is not None and other > own:
                arrow = f"{module.name}:{imported.line} ({names[own]}) imports {imported.target} ({names[other]})"
                found.append(arrow)
    return found


def circles(modules: Mapping[str, Module]) -> list[list[str]]:
    """Groups of modules that import each other, directly or not, typing-only imports included."""
    graph = {
        name: {imported.target for imported in module.imports if imported.target in modules} - {name}
        for name, module in modules.items()
    }
    reached = {name: _reached(graph, name) for name in graph}
    groups = {frozenset({name, *(other for other in reached[name] if name in reached[other])}) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reached(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def files_by_folder(files: Iterable[Path], root: Path, top: str) -> Counter[str]:
    """Folder -> how many files lie directly in it, for ``top`` and all folders below it."""
    folders = (path.relative_to(root).parent for path in files)
    return Counter(folder.as_posix() for folder in folders if folder.parts[:1] == (top,))


def any_in_1000_lines(modules: Mapping[str, Module]) -> float:
    """How often a type is `Any`, which is none."""
    uses = sum(
        isinstance(node, ast.Name) and node.id == "Any" for module in modules.values() for node in ast.walk(module.tree)
    )
    return 1000 * uses / sum(lines_of_files(modules))


def local_imports(modules: Mapping[str, Module]) -> list[str]:
    """Import statements inside functions."""
    found = {
        (module.name, node.lineno)
        for module in modules.values()
        for function in functions(module)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return [f"{name}:{line}" for name, line in sorted(found)]


def functions(module: Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, those inside others too."""
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of_files(modules: Mapping[str, Module]) -> list[int]:
    """Lines of each module."""
    return [module.text.count("\n") for module in modules.values()]


def lines_of_functions(modules: Mapping[str, Module]) -> list[int]:
    """Lines of each function, its docstring included, its decorators left out."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1 for module in modules.values() for node in functions(module)
    ]


def p90(figures: Sequence[int]) -> float:
    """What nine in ten are at most."""
    return statistics.quantiles(figures, n=10)[-1]
