"""The house is built so that one can walk through it: floors, no circles, rooms that are not full, short files, types."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from parts import structure
from parts.source import Module, read_modules

Modules = Mapping[str, Module]


def test_every_part_has_a_floor(modules: Modules) -> None:
    """A new part of the engine says on which floor it stands before it is merged."""
    assert structure.without_a_floor(modules) == set()


def test_no_part_imports_from_a_higher_floor(modules: Modules) -> None:
    """Ground, protocol, islands, machinery, steps, pipeline, commands, command line: imports go down."""
    assert structure.arrows_up(modules) == []


def test_no_circles_not_even_for_types(modules: Modules) -> None:
    """No two modules import each other, directly or not, inside functions and under TYPE_CHECKING included."""
    assert structure.circles(modules) == []


@pytest.mark.parametrize("top", structure.FOLDERS)
def test_no_folder_is_full(project_files: list[Path], repository: Path, top: str) -> None:
    """At most 20 files in one folder: more are not found by looking."""
    counts = structure.files_by_folder(project_files, repository, top)
    assert {name: count for name, count in counts.items() if count > structure.MOST_FILES_IN_A_FOLDER} == {}


def test_types_say_something(modules: Modules) -> None:
    """`Any` stands where nothing can be said, at most ten times in a thousand lines."""
    assert structure.any_in_1000_lines(modules) <= structure.MOST_ANY_IN_1000_LINES


def test_imports_stand_at_the_top(modules: Modules) -> None:
    """Imports inside functions are for what is slow to load or may be missing, and are few."""
    found = structure.local_imports(modules)
    assert len(found) <= structure.MOST_LOCAL_IMPORTS, "\n".join(found)


def test_files_and_functions_are_short(modules: Modules) -> None:
    """Half of the files have at most 130 lines, and nine functions in ten at most 20."""
    assert statistics.median(structure.lines_of_files(modules)) <= structure.MOST_LINES_OF_THE_MEDIAN_FILE
    assert structure.p90(structure.lines_of_functions(modules)) <= structure.MOST_LINES_OF_NINE_FUNCTIONS_IN_TEN


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[..., Modules]:
    """An engine of these files: name of the module -> its text."""

    def make(**texts: str) -> Modules:
        (tmp_path / "engine").mkdir()
        (tmp_path / "engine" / "__init__.py").touch()
        for name, text in texts.items():
            (tmp_path / "engine" / f"{name}.py").write_text(text)
        return read_modules(tmp_path)

    return make


def test_an_arrow_up_is_found(engine_of: Callable[..., Modules]) -> None:
    """From inside a function and for types alone too; an arrow down or along a floor is none."""
    modules = engine_of(
        errors="def f():\n    from engine.cli import main\n",
        data="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from engine import steps\nimport engine.scoring\n",
        scoring="from engine.errors import f\n",
        steps="", cli="import engine.errors\n", attic="import engine.cli\n",
    )  # fmt: skip
    assert structure.without_a_floor(modules) == {"attic"}
    assert structure.arrows_up(modules) == [
        "engine.data:3 (islands) imports engine.steps (steps)",
        "engine.errors:2 (ground) imports engine.cli (command line)",
    ]


def test_a_circle_is_found(engine_of: Callable[..., Modules]) -> None:
    """Through three modules, one of its arrows for types alone; those that only lead to it are in none."""
    modules = engine_of(
        a="import engine.b\n", b="def f():\n    import engine.c\n", d="import engine.a\n",
        c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from engine.a import x\n",
    )  # fmt: skip
    assert structure.circles(modules) == [["engine.a", "engine.b", "engine.c"]]


def test_figures_are_what_they_say(engine_of: Callable[..., Modules]) -> None:
    """Two `Any` in four lines, one import inside a function, a function of two lines."""
    modules = engine_of(a="from typing import Any\nx: dict[str, Any]\ndef f(y: Any):\n    import os\n")
    assert structure.any_in_1000_lines(modules) == 500
    assert structure.local_imports(modules) == ["engine.a:4"]
    assert (structure.lines_of_files(modules), structure.lines_of_functions(modules)) == ([0, 4], [2])


def test_files_are_counted_where_they_lie(tmp_path: Path) -> None:
    """In their own folder, not in those above it, and only below the folder that is asked for."""
    files = [tmp_path / name for name in ("tests/a.py", "tests/b.py", "tests/x/c.py", "notes/d.md", "e.md")]
    assert structure.files_by_folder(files, tmp_path, "tests") == {"tests": 2, "tests/x": 1}
