"""How much of a device's memory a run may take, and when a program fits into it: one rule for the plan and the trainer.

In: a device's memory, and the run-spec's ``allocator``. Out: bytes.

    >>> run_bytes(16_000, "gpu"), run_bytes(16_000, "gpu", Allocator(fraction=0.3)), run_bytes(16_000, "tpu")
    (14400, 4800, 16000)

On a GPU JAX takes a share of the memory at its start and never more. Its own default, 0.75, suits a GPU that other
programs use too (https://docs.jax.dev/en/latest/gpu_memory_allocation.html, read 2026-11-29). Training has the GPU for
itself: what must stay free is the driver's context, the libraries' code and NCCL's buffers, together below 1 GiB; a
tenth of the smallest card here is 1.5 GiB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

JAX_FRACTION, FRACTION = 0.75, 0.9
# JAX's variables of it, the newer name first; both at once are an error of JAX.
FRACTION_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
USABLE_SHARE = 0.96  # of what the run may take: gaps between buffers take the rest
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Allocator:
    """How JAX takes a GPU's memory."""

    kind: Literal["bfc", "platform", "cuda_async"] = "bfc"
    preallocate: bool = True
    fraction: float = FRACTION


def run_bytes(device_bytes: int, platform: str, allocator: Allocator | None = None) -> int:
    """What a run may take of one device. None: the default allocator. TPUs and CPUs have none: the whole memory.

    ``platform`` asks the driver for each array and knows no share: the whole memory too.
    """
    share = memory_fraction(platform, allocator)
    return device_bytes if share is None else int(device_bytes * share)


def memory_fraction(platform: str, allocator: Allocator | None = None) -> float | None:
    """The share that an allocator takes; None where there is no such limit."""
    allocator = allocator or Allocator()
    return allocator.fraction if platform == "gpu" and allocator.kind != "platform" else None


def declared_fraction(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """JAX's variable of the share, if the environment sets it: its name and value."""
    return next(((name, environ[name]) for name in FRACTION_VARIABLES if environ.get(name)), None)


def fits(needed_bytes: int, limit_bytes: int) -> bool:
    """Whether a program that needs so much runs in what the run may take.

    >>> fits(95, 100), fits(97, 100)
    (True, False)
    """
    return needed_bytes <= USABLE_SHARE * limit_bytes


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
