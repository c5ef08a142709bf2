"""`make parity`: transformers and torch, live, on fresh random weights. Without torch nothing here is even collected.

The weights, tokens and prompts come from one seed, drawn anew each time, printed at both ends of the report and
repeated by ``SEED=…``. The figures that the tests find are printed as a table.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
HAS_TORCH = importlib.util.find_spec("torch") is not None

collect_ignore_glob = [] if HAS_TORCH else ["test_*.py"]

BASE_SEED = int(os.environ.get("SEED") or secrets.randbelow(10**6))
FIGURES: dict[str, dict[str, float]] = {}


def load(name: str) -> ModuleType:
    """A module of tests/fixtures, by its path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FIXTURES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


KINDS = load("kinds")


def pytest_report_header() -> str:
    """Printed before anything runs, so that a crash can be repeated too."""
    return f"parity: SEED={BASE_SEED}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures, and how to reproduce them."""
    if not FIGURES:
        return
    names = ("logits", "gradients", "packed", "adapters", "bf16 ours", "bf16 theirs")
    terminalreporter.write_sep("=", f"parity with transformers (SEED={BASE_SEED} make parity)")
    terminalreporter.write_line(f"{'largest difference':<20}" + "".join(f"{name:>14}" for name in names))
    for kind, found in FIGURES.items():
        terminalreporter.write_line(
            f"{kind:<20}" + "".join(f"{found.get(name, float('nan')):>14.2g}" for name in names)
        )


@pytest.fixture(scope="session", params=sorted(KINDS.KINDS | KINDS.LIVE))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of tests/fixtures/kinds.py, those too large for a file included."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def mapping(kind: str) -> dict[str, Any]:
    """Its config.json in transformers 4's style, four times as wide, with rows for our tokenizer's 260 tokens."""
    found: dict[str, Any] = KINDS.widened((KINDS.KINDS | KINDS.LIVE)[kind], 4) | {"vocab_size": 272}
    return found


@pytest.fixture(scope="session")
def seed(kind: str) -> int:
    """Another one for each kind."""
    return BASE_SEED * 100 + sorted(KINDS.KINDS | KINDS.LIVE).index(kind)


@pytest.fixture(scope="session")
def figures(kind: str) -> dict[str, float]:
    """The figures of this kind's tests, for the table."""
    return FIGURES.setdefault(kind, {})


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """tests/fixtures/oracle.py: the reference."""
    return load("oracle")


@pytest.fixture(scope="session")
def compare() -> ModuleType:
    """tests/fixtures/compare.py: our modules against recorded ones."""
    return load("compare")
