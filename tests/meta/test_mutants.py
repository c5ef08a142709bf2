"""The script that counts which faults the tests notice: what is noticed, what survives, and what is left alone."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Its mutants: `<` -> `<=`, and None, which any use of the answer notices.
OLDER = '''"""Who is older."""


def is_younger(age: int, other: int) -> bool:
    """Whether the first is."""
    return age < other
'''
LAX = "from engine.older import is_younger\n\n\ndef test_it():\n    assert is_younger(1, 2)\n"
STRICT = LAX + "    assert not is_younger(2, 2)\n"


@pytest.fixture
def mutants(repository: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run the script over a project of one module with these tests."""

    def run(tests: str | None, *words: str) -> subprocess.CompletedProcess[str]:
        for folder in ("engine", "tests"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "engine" / "__init__.py").touch()
        (tmp_path / "engine" / "older.py").write_text(OLDER)
        if tests is not None:
            (tmp_path / "tests" / "test_older.py").write_text(tests)
        script = [sys.executable, str(repository / "tests" / "mutants.py"), "--root", str(tmp_path)]
        module = ["--module", "engine.older", "--tests", "test_older.py"]
        return subprocess.run([*script, *module, *words], capture_output=True, text=True, check=False, timeout=120)

    return run


def test_a_fault_that_no_test_notices_is_reported(mutants: Callable[..., Any]) -> None:
    """The survivor is named by file, line, and what was changed; the bar is missed."""
    done = mutants(LAX)
    assert done.returncode == 1, done.stderr
    heading, row, survivor = done.stdout.rstrip("\n").split("\n")
    assert heading.split() == ["module", "mutants", "killed", "rate"]
    assert row.split() == ["engine.older", "2", "1", "50.0", "%", "bar:", "at", "least", "90", "%,", "missed"]
    assert survivor == "  engine/older.py:6  return age < other  ->  return age <= other"


def test_faults_that_are_noticed_are_counted(mutants: Callable[..., Any]) -> None:
    """Every one of them killed: the row says so, and the exit code is 0."""
    done = mutants(STRICT, "--json")
    assert done.returncode == 0, done.stderr
    row = {"name": "mutants killed, engine.older", "value": 100.0, "unit": "%", "bar": 90.0, "peer": None}
    assert json.loads(done.stdout) == [row]


def test_a_module_without_tests_keeps_every_fault(mutants: Callable[..., Any]) -> None:
    """No test, nothing killed."""
    done = mutants(None, "--json")
    assert (done.returncode, json.loads(done.stdout)[0]["value"]) == (1, 0.0)


def test_tests_that_fail_by_themselves_prove_nothing(mutants: Callable[..., Any]) -> None:
    """A test that fails without a fault would kill every mutant: the script ends and shows it."""
    done = mutants(LAX + "    assert is_younger(2, 1)\n")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "fail without any fault" in done.stderr


def test_the_tree_is_left_as_it_is(mutants: Callable[..., Any], tmp_path: Path) -> None:
    """Faults are written into copies: the project has the bytes it had."""
    mutants(STRICT)
    assert (tmp_path / "engine" / "older.py").read_text() == OLDER
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("line", "faulty"),
    [
        ("x = a == b", {"x = a != b"}),
        ("x = a + 1", {"x = a - 1", "x = a + 2", "x = a + 0"}),
        ("x = a and b", {"x = a or b"}),
        ("x = not a", {"x = a"}),
        ("x = a if b else c", {"x = a if not b else c"}),
        ("x = 'a'", {"x = '~a'"}),
        ("x = True", {"x = False"}),
        ("x[0] = a", {"pass", "x[1] = a", "x[-1] = a"}),
        ("f(a, b, key=c)", {"pass", "f(b, a, key=c)", "f(a, b)", "a"}),
        ("x = min(a)", {"x = max(a)", "x = a"}),
        ("x = a[b:]", {"x = a[:]"}),
        ("for x in a: x.f()", {"for x in (): x.f()", "for x in a: pass", "for x in a: x"}),
        ("lambda x=None: x", {"pass", "lambda x=0: x"}),
        ("import a", set()),
        ("'a text that is used nowhere'", set()),
        ("assert a > 1", set()),
        ("x: Literal[1]", set()),
        ("@f(1)\ndef g() -> Literal[1]: pass", set()),
    ],
)
def test_what_is_changed(mutations: Any, line: str, faulty: set[str]) -> None:
    """Each kind of fault is made, and nothing that only a reader sees."""
    assert {mutant.text for mutant in mutations.mutants_of(line)} == {ast.unparse(ast.parse(text)) for text in faulty}


def test_the_example_of_the_mutations_holds(mutations: Any) -> None:
    """What their docstring shows is what comes out."""
    assert doctest.testmod(mutations) == (0, 1)


@pytest.fixture(scope="session")
def mutations(repository: Path) -> Any:
    """tests/mutations.py."""
    specification = importlib.util.spec_from_file_location("mutations", repository / "tests" / "mutations.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["mutations"] = module  # a dataclass looks its module up
    specification.loader.exec_module(module)
    return module
