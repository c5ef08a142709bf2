"""The tutorials as data, and the terminal their commands are typed into."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def console() -> ModuleType:
    """The file beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location("docs_console", Path(__file__).with_name("console.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_console"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment() -> Mapping[str, str]:
    """A reader's environment: the ``runspec`` and ``python`` of these tests come first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
