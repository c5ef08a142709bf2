"""A CPU's temporaries stay in the process between train steps, where memory is plentiful.

In: a compiled step and the bytes that the run may take. Out: whether freed memory is kept from here on.

    keep_freed_memory(step, limit=limit_bytes(jax.local_devices()[0]))

XLA allocates the temporaries of a program anew each time it runs, and glibc gives so large an array back to the kernel
at its end: at the next step the kernel clears every page again, a tenth of a train step of the benchmarks' model in
bfloat16. glibc can be told to keep what is freed. What was kept has holes then, into which small arrays go, so that the
next temporaries may need other room: up to three times their size was seen. So memory is kept only where that much
more would still be less than half of the limit. What a step computes does not change.

Needs the one arena of ``glibc.malloc.arena_max=1`` (:func:`engine.trainer_process.process.trainer_environment`): arenas
of threads take large arrays from the kernel in any case.

Source: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
"""

from __future__ import annotations

import ctypes
from typing import Any

from jax.stages import Compiled

from engine.trainer.remat_policy import peak_bytes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
MORE = 3  # temporaries that may lie in the heap beside those in use


def keep_freed_memory(step: Compiled, *, limit: int | None) -> bool:
    """For a step of CPU devices: keep what is freed, if there is room; ``limit``: bytes a device, None: unknown."""
    memory: Any = step.memory_analysis()
    if limit is None or peak_bytes(step, "cpu") + MORE * memory.temp_size_in_bytes > limit // 2:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt  # glibc's; other C libraries have none
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
