"""The machines a run can be priced for, and what each of them has.

>>> TARGETS["kaggle-t4x2"].devices
2
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """``limit_bytes_per_device`` is what a program may use; None on ``cpu``: this machine's memory.

    ``machine`` is its name for the trainer's compilers (engine.trainer.cost.machines).
    """

    name: str
    devices: int
    limit_bytes_per_device: int | None
    disk_bytes: int | None
    about: str
    machine: str


# Kaggle keeps 20 GB of /kaggle/working. A T4 reports 15,655,829,504 bytes to XLA; one v5e chip 15.75 GiB, as
# its compiler says when a program does not fit. A P100 has 16 GB of which about 15.9 GiB are left.
_KAGGLE_DISK_BYTES = 20_000_000_000
TARGETS: Mapping[str, PlanTarget] = {
    target.name: target
    for target in (
        PlanTarget("cpu", 1, None, None, "this machine, without an accelerator", "cpu"),
        PlanTarget("kaggle-t4", 1, 15_655_829_504, _KAGGLE_DISK_BYTES, "one NVIDIA T4", "t4"),
        PlanTarget("kaggle-t4x2", 2, 15_655_829_504, _KAGGLE_DISK_BYTES, "two NVIDIA T4", "t4x2"),
        PlanTarget("kaggle-p100", 1, int(15.9 * GIB), _KAGGLE_DISK_BYTES, "one NVIDIA P100", "p100"),
        PlanTarget("kaggle-v5e-8", 8, int(15.75 * GIB), _KAGGLE_DISK_BYTES, "eight TPU v5e chips", "v5e-8"),
    )
}


def machine_memory_bytes() -> int | None:
    """This machine's memory, or the container's share of it where that is smaller; None where unknown."""
    try:
        total: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        total = None
    try:
        limit = int(CGROUP_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup here, or it says "max"
        return total
    return limit if total is None else min(limit, total)
