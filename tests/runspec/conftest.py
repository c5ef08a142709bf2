"""Makes the table of golden cases importable, and a good project to change."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cases() -> ModuleType:
    """tests/runspec/cases.py."""
    return _load("cases")


@pytest.fixture
def project(tmp_path: Path, cases: ModuleType) -> Path:
    """A project folder; the good spec is runspecs/spec.yaml in it."""
    for name in (".runspec", "runspecs", "evalsets"):
        (tmp_path / name).mkdir()
    (tmp_path / "evalsets" / "items.jsonl").write_text("{}\n")
    (tmp_path / "runspecs" / "spec.yaml").write_text(cases.GOOD)
    return tmp_path
