"""Laws of the house that are read from the source: sizes, docstrings, exceptions, what no file may hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60

# Put together from halves, so that this file does not hold what it looks for.
LEFT_TO_DO = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
HOME_PATH = re.compile(r"(?<![\w.~-])/(?:ho" + r"me|ro" + r"ot|Us" + r"ers|wo" + r"rk)/\w")
INDEX_ADDRESS = re.compile(r"index-" + r"url|find-" + r"links|https?://[\w.]*py" + r"pi", re.IGNORECASE)
SECRET = re.compile(r"\bhf_[A-Za-z0-9]{30,}|\bghp_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY")


def _functions(module: Any) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_files_are_short(modules: Mapping[str, Any]) -> None:
    """No module of the engine has more than 400 lines."""
    lines = {name: module.text.count("\n") for name, module in modules.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FILE} == {}


def test_functions_are_short(modules: Mapping[str, Any]) -> None:
    """No function of the engine has more than 60 lines, its docstring included."""
    long = [
        f"{module.name}:{node.lineno} {node.name}"
        for module in modules.values()
        for node in _functions(module)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ]
    assert long == []


def test_every_module_says_what_it_is(modules: Mapping[str, Any]) -> None:
    """Every module of the engine begins with a docstring."""
    assert [name for name, module in modules.items() if not ast.get_docstring(module.tree)] == []


def _swallows(handler: ast.ExceptHandler) -> bool:
    """A handler for everything that does nothing."""
    everything = handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")
    does_nothing = all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )
    return handler.type is None or (everything and does_nothing)


def test_no_exception_is_swallowed(modules: Mapping[str, Any]) -> None:
    """No bare `except:`, no `except Exception` that does nothing, no `suppress(Exception)`."""
    found = []
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler) and _swallows(node):
                found.append(f"{module.name}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                everything = {"Exception", "BaseException"} & {ast.unparse(what) for what in node.args}
                found += [f"{module.name}:{node.lineno}"] if everything else []
    assert found == []


def test_what_swallows_is_recognised() -> None:
    """The check sees a bare except and an idle one, and leaves a narrow or a working one alone."""
    code = "try: f()\nexcept {}: {}"
    kinds = [(":", "x = 1"), ("Exception", "pass"), ("OSError", "pass"), ("Exception", "log()")]
    handlers = [
        ast.parse(code.format(*kind).replace(" ::", ":")).body[0].handlers[0]  # type: ignore[attr-defined]
        for kind in kinds
    ]
    assert [_swallows(handler) for handler in handlers] == [True, True, False, False]


def _hits(texts: Mapping[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts.items()
        for number, line in enumerate(text.split("\n"), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_to_do(texts: Mapping[str, str]) -> None:
    """No file carries a note of work left undone."""
    assert _hits(texts, LEFT_TO_DO) == []


def test_no_path_of_one_machine(texts: Mapping[str, str]) -> None:
    """No file names an absolute path below somebody's home."""
    assert _hits(texts, HOME_PATH) == []


def test_no_address_of_a_package_index(texts: Mapping[str, str]) -> None:
    """Which index packages come from is the machine's setting, never the project's."""
    assert _hits(texts, INDEX_ADDRESS) == []


def test_no_secret(texts: Mapping[str, str]) -> None:
    """Nothing that looks like a real token or a private key is in the project."""
    assert _hits(texts, SECRET) == []


def test_no_large_file(project_files: list[Path]) -> None:
    """No file of the project is over 1 MB: heavy things are made, not kept."""
    assert [path.name for path in project_files if path.stat().st_size > 1_000_000] == []


def test_the_readme_shows_every_folder(repository: Path, project_files: list[Path]) -> None:
    """The tree in the README has a line for every top-level folder, and for no other."""
    folders = {path.relative_to(repository).parts[0] for path in project_files if path.parent != repository}
    # submission_runs is born with the first run
    folders |= {"submission_runs"}
    readme = (repository / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^([.\w]+)/ {2,}\S", readme, re.MULTILINE))
    assert shown == folders


def test_every_folder_of_the_engine_is_a_package(repository: Path) -> None:
    """A folder with modules has an `__init__` that lists its public names."""
    folders = {path.parent for path in (repository / "engine").rglob("*.py") if "_assets" not in path.parts}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_tests_are_no_packages(repository: Path) -> None:
    """Tests are imported by path (importmode=importlib): only a plug-in's own `src/` holds packages."""
    found = (repository / "tests").rglob("__init__.py")
    assert [path for path in found if "src" not in path.parts] == []


def test_no_two_classes_have_one_name(modules: Mapping[str, Any]) -> None:
    """A public class is found by its name: two of one name would be two meanings of one word."""
    homes: dict[str, list[str]] = {}
    for module in modules.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module.name)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
