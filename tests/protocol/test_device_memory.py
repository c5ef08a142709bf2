"""What a run may take of a device: one rule for the plan and the trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.protocol import device_memory
from engine.protocol.device_memory import (
    FRACTION,
    Allocator,
    declared_fraction,
    fits,
    machine_memory_bytes,
    memory_fraction,
    run_bytes,
)

T4 = 15_655_829_504


@pytest.mark.parametrize(
    ("platform", "allocator", "expected"),
    [
        ("gpu", None, 14_090_246_553),  # nine tenths: the default of a run, not JAX's three quarters
        ("gpu", Allocator(), 14_090_246_553),
        ("gpu", Allocator(fraction=0.3), 4_696_748_851),
        ("gpu", Allocator("cuda_async", fraction=0.5), 7_827_914_752),
        ("gpu", Allocator("bfc", preallocate=False, fraction=1.0), T4),
        ("gpu", Allocator("platform", fraction=0.3), T4),  # it asks the driver: no share limits it
        ("tpu", Allocator(fraction=0.3), T4),
        ("cpu", Allocator(fraction=0.3), T4),
    ],
)
def test_what_a_run_may_take(platform, allocator, expected):
    """The allocator's share of a GPU; TPUs and CPUs have no share."""
    assert run_bytes(T4, platform, allocator) == expected


def test_the_share_is_null_where_there_is_none():
    """A share is stated only where it limits something."""
    assert memory_fraction("gpu") == FRACTION == 0.9
    assert memory_fraction("gpu", Allocator("platform")) is None
    assert memory_fraction("tpu", Allocator(fraction=0.5)) is None


def test_a_program_fits_up_to_96_of_100():
    """Gaps between buffers take the rest."""
    assert fits(96, 100)
    assert not fits(97, 100)


def test_jax_s_variables_of_the_share():
    """The newer name first; an empty value is none."""
    old, new = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".5"}, {"XLA_CLIENT_MEM_FRACTION": ".7"}
    assert declared_fraction(old) == ("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    assert declared_fraction(old | new) == ("XLA_CLIENT_MEM_FRACTION", ".7")
    assert declared_fraction({"XLA_CLIENT_MEM_FRACTION": ""}) is None


def test_a_container_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Memory is the smaller of the machine's and the container's; `max` means no limit."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(device_memory, "CGROUP_LIMIT", limit)
    total = machine_memory_bytes()
    limit.write_text("1048576\n")
    assert machine_memory_bytes() == 1_048_576
    limit.write_text("max\n")
    assert machine_memory_bytes() == total
