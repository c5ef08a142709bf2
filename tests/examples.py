"""How many examples a property is tried on: all of them in `make test-all`, half of them in `make test`.

In: the number for `make test-all`. Out: the number for this run. `make test-all` is told apart by TEST_XLA_FLAGS, which it leaves empty
so that programs are compiled as a run compiles them.

    @settings(max_examples=examples(150))
"""

from __future__ import annotations

import os

# `make test`, or pytest by itself.
QUICK = os.environ.get("TEST_XLA_FLAGS") != ""


def examples(thorough: int) -> int:
    """``thorough``, or half of it in a quick run."""
    return (thorough + 1) // 2 if QUICK else thorough
