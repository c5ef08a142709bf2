"""Every `>>>` example of the platform is run and true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = [
    path for path in sorted(HERE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8") and path != Path(__file__)
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_examples_are_true(path: Path) -> None:
    """As many as the text has."""
    module = importlib.import_module(".".join(path.relative_to(HERE.parents[2]).with_suffix("").parts))
    done = doctest.testmod(module)
    assert (done.failed, done.attempted > 0) == (0, True)
