"""Freed memory is kept only where it is plentiful; where it is, a program's temporaries are not taken anew."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from engine.trainer import host_memory
from engine.trainer_process.process import trainer_environment

GIB = 1 << 30

PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
from engine.trainer.host_memory import keep_freed_memory

def step(x):
    return jnp.sum(jnp.sin(x[None, :] * x[:, None]) @ jnp.cos(x[None, :] + x[:, None]))

x = jnp.ones(2048)
compiled = jax.jit(step).lower(x).compile()
assert compiled.memory_analysis().temp_size_in_bytes > 1 << 24
print(keep_freed_memory(compiled, limit=1 << 40 if sys.argv[1] == "keep" else None))
for _ in range(3):
    compiled(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    compiled(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def compiled(*, arguments: int, temporaries: int) -> Any:
    memory = SimpleNamespace(
        argument_size_in_bytes=arguments, output_size_in_bytes=arguments, alias_size_in_bytes=arguments,
        temp_size_in_bytes=temporaries,
    )  # fmt: skip
    return SimpleNamespace(memory_analysis=lambda: memory)


@pytest.mark.parametrize(
    ("limit", "kept"), [(None, False), (9 * GIB, False), (10 * GIB - 1, False), (10 * GIB, True), (20 * GIB, True)]
)
def test_only_where_there_is_twice_as_much(limit: int | None, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 GiB of state and 1 of temporaries: kept from 2 x (2 + 3) GiB on."""
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *values: calls.append(values) or 1)
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda _: library)
    step = compiled(arguments=GIB, temporaries=GIB)
    assert host_memory.keep_freed_memory(step, limit=limit) is kept
    assert bool(calls) is kept


def test_a_c_library_without_mallopt_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert host_memory.keep_freed_memory(compiled(arguments=1, temporaries=1), limit=GIB) is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_temporaries_are_not_taken_from_the_kernel_again() -> None:
    """Page faults of one run of a program, in a process with the trainer's environment."""
    faults = {}
    for wanted in ("keep", "give back"):
        environment = {**trainer_environment(), "GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}  # small pages count best
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, wanted], env=environment, capture_output=True, text=True, check=True
        )
        kept, faults[wanted] = done.stdout.split()
        assert kept == str(wanted == "keep")
    assert int(faults["keep"]) * 3 < int(faults["give back"]), faults
