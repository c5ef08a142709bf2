"""Every `>>>` example of the engine is run: what a docstring shows is what happens."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "engine"
PROMPT = ">>> "


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ENGINE.parent).with_suffix("").parts).removesuffix(".__init__")


WITH_EXAMPLES = {
    _name(path): text.count(PROMPT)
    for path in sorted(ENGINE.rglob("*.py"))
    if "_assets" not in path.parts and PROMPT in (text := path.read_text(encoding="utf-8"))
}


def examples_of(name: str) -> tuple[int, int, str]:
    """(examples that were run, those that failed, what doctest says of them) of one module."""
    runner, said = doctest.DocTestRunner(verbose=False), io.StringIO()
    for found in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name):
        runner.run(found, out=said.write)
    return runner.tries, runner.failures, said.getvalue()


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_every_example_is_run_and_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many examples are run as the text of the module has, and each gives what it shows."""
    monkeypatch.chdir(tmp_path)
    run, failed, said = examples_of(name)
    assert failed == 0, said
    assert run == WITH_EXAMPLES[name], f"doctest finds {run} of the {WITH_EXAMPLES[name]} examples in {name}"


def test_an_example_that_lies_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong figure counts as a failure, and what doctest says names it."""
    (tmp_path / "liar.py").write_text('"""Says\n\n>>> 1 + 1\n3\n>>> 1 + 2\n3\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    run, failed, said = examples_of("liar")
    assert (run, failed) == (2, 1)
    assert "Expected:\n    3\nGot:\n    2" in said
