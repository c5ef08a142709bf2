"""How many train steps are compiled: one for all that has the same shapes, whatever its numbers and wherever it starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

Train = Callable[..., list[dict[str, Any]]]

# Other numbers of the same optimizer.
NUMBERS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 1e-3, "lr_schedule": "linear"},
    {"lr_schedule": "constant", "warmup_steps": 0},
    {"num_train_steps": 4, "weight_decay": 0.0, "max_grad_norm": None},
    {"adam_b1": 0.8, "adam_b2": 0.95, "adam_eps": 1e-6, "seed": 7},
)
METHODS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adafactor": {"optimizer": "adafactor", "dtype": "bfloat16"},
    "lora": {"method": "lora", "lora_rank": 2, "lora_dropout": 0.1},
    "in backward": {"optimizer": "adafactor", "update": "in_backward", "max_grad_norm": None},
}


@pytest.fixture
def programs(tmp_path: Path, jax_cache: Path) -> Any:
    """The number of train steps in a compilation cache of this test's own."""
    folder = tmp_path / "programs"
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    yield lambda: len(list(folder.glob("jit_step-*-cache")))
    jax.config.update("jax_compilation_cache_dir", str(jax_cache / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("method", METHODS)
def test_one_train_step_is_compiled(
    make_job: Callable[..., Any], train_here: Train, programs: Callable[[], int], method: str
) -> None:
    """A smoke run of two steps, its resume, the training, and training runs with other numbers: one program."""
    short = {"num_train_steps": 6, "save_every_steps": 2, **METHODS[method]}
    train_here(make_job("smoke", **short) | {"stop_at": 2})
    assert programs() == 1
    job = make_job("whole", **short)
    train_here(job, 3)
    assert [event["event"] for event in train_here(job)][1] == "restored"
    for number, changes in enumerate(NUMBERS):
        train_here(make_job(f"other {number}", **{**short, **changes, **METHODS[method]}))
    assert programs() == 1


def test_another_optimizer_is_another_program(
    make_job: Callable[..., Any], train_here: Train, programs: Callable[[], int]
) -> None:
    """What changes the program is counted: the count above is not blind."""
    for name in ("adamw", "adafactor"):
        train_here(make_job(name, num_train_steps=2, optimizer=name))
    assert programs() == 2
