"""The bars of compiled memory for Gemma 2B to 9B, by the TPU and GPU compilers, without the device.

Slow (minutes a row on two cores), and only if the compilers are installed: `make compilers`, then `make test-all`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.preflight.exact import VARIABLE, compilers_folder

REPOSITORY = Path(__file__).parents[3]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _benchmark() -> Any:
    specification = importlib.util.spec_from_file_location("memory_benchmark", REPOSITORY / "benchmarks" / "memory.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


MEMORY = _benchmark()


@pytest.fixture
def compilers(real_environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the person's shell names, or the checkout's own."""
    if named := real_environment.get(VARIABLE):
        monkeypatch.setenv(VARIABLE, named)
    folder = compilers_folder(REPOSITORY)
    if folder is None:
        pytest.skip("the compilers of TPUs and GPUs are not installed: make compilers")
    return folder


@pytest.mark.parametrize("step", MEMORY.STEPS, ids=lambda step: step.name)
def test_the_bar_is_met(step, compilers):
    """Peak bytes of one device, by the compiler, at or below the bar."""
    row = MEMORY.row(step, compilers, fresh=False)
    assert row["value"] is not None, row["says"]
    assert row["value"] <= step.bar
