"""The type of a pytree: nested dicts, tuples or flax states with arrays as leaves.

JAX has the word and no public type for it: which structure is meant stands in the docstring of what takes or gives one.

    params: PyTree      # an nnx.State of the model's weights
"""

from __future__ import annotations

from typing import Any

PyTree = Any
