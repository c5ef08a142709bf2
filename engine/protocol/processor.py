"""What this computer's processor can do, as its kernel says.

In: nothing. Out: whether it multiplies bfloat16 numbers in units of its own.

    matmuls_in = "bfloat16" if multiplies_bfloat16() else "float32"
"""

from __future__ import annotations

import functools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # Linux; elsewhere nothing is known of the processor
BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16"})  # either is enough; measured with AMX


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether bfloat16 matmuls are faster than float32 ones here: AMX (Intel, 2023 on) or AVX512-BF16 (AMD Zen 4 on)."""
    return bool(BFLOAT16 & flags(CPUINFO))


def flags(cpuinfo: Path) -> frozenset[str]:
    """The features that the kernel lists for the first processor; none where there is no such list.

    >>> flags(Path("/nowhere"))
    frozenset()
    """
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "flags":
                    return frozenset(value.split())
    except OSError:
        pass
    return frozenset()
