"""Every `>>>` example of the engine is run: what a docstring shows is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from parts.examples import run_examples, written_examples
from parts.source import read_modules

WRITTEN = written_examples(read_modules(Path(__file__).resolve().parents[2]))


@pytest.mark.parametrize("name", WRITTEN)
def test_every_example_is_run_and_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many examples are run as the text of the module has, and each gives what it shows."""
    monkeypatch.chdir(tmp_path)
    done = run_examples(name)
    assert done.n_failed == 0, done.output
    assert done.n_run == WRITTEN[name], f"doctest finds {done.n_run} of the {WRITTEN[name]} examples in {name}"


def test_an_example_that_lies_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong figure counts as a failure, and what doctest says names it."""
    (tmp_path / "liar.py").write_text('"""Says\n\n>>> 1 + 1\n3\n>>> 1 + 2\n3\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    done = run_examples("liar")
    assert (done.n_run, done.n_failed) == (2, 1)
    assert "Expected:\n    3\nGot:\n    2" in done.output


def test_an_example_where_doctest_does_not_look_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a comment it is written and never run: the counts differ."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "hidden.py").write_text('"""Says\n\n>>> 1 + 1\n2\n"""\n# >>> 1 + 2\n')
    monkeypatch.syspath_prepend(tmp_path / "engine")
    assert written_examples(read_modules(tmp_path)) == {"engine.hidden": 2}
    assert run_examples("hidden").n_run == 1
