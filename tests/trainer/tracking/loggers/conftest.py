"""Runs for tools to log, without JAX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.trainer.tracking.loggers import RunFacts

CONFIG = {"num_train_steps": 12, "learning_rate": 1e-5, "lora_targets": ("q_proj", "v_proj"), "max_grad_norm": None}


@pytest.fixture
def facts(tmp_path: Path) -> Callable[[str], RunFacts]:
    """What a tool is told of the run of this test."""
    return lambda name: RunFacts("m36_v1", "0123456789ab", CONFIG, tmp_path / name)
