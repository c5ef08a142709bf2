"""Matrices of 8-bit integers with a scale an output, and their products: a quarter of float32's memory.

In: a matrix [out, in] in any float dtype; activations [M, in]. Out: :class:`Int8Matrix`; [M, out].

    >>> import jax.numpy as jnp
    >>> matrix = quantize(jnp.array([[1.0, -0.5], [0.0, 0.25]]))
    >>> matrix.values.tolist(), int8_matmul(jnp.array([[1.0, 1.0]]), matrix).round(2).tolist()
    ([[127, -64], [0, 127]], [[0.5, 0.25]])

Weights are rounded to 255 steps, symmetric around 0, with a scale for each output (row), so that an error is at most half
a step: 1/254 of the row's largest weight (Dettmers et al. 2022, arXiv 2208.07339, call it vector-wise). Nothing is
turned into floats for the product, which on a CPU would write and read all weights again at each token: activations are
split in two integers of 8 bits, x = s (128 high + low), which keeps 15 bits of a row's largest number (more than bfloat16's
8), and both parts are multiplied as integers. Their sums are exact, so that a result does not depend on an order of summing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

LARGEST = 127  # of an 8-bit integer, symmetric
BASE = 128  # the high part of an activation counts this many of the low one


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Matrix:
    """``values`` i8[out, in] times ``scale`` f32[out]. ``matrix[rows]`` gives rows in float32, ``matrix[...]`` itself."""

    values: jax.Array
    scale: jax.Array

    def __getitem__(self, rows: Any) -> Any:
        if rows is Ellipsis:
            return self
        return self.values[rows].astype(jnp.float32) * self.scale[rows][..., None]


def quantize(matrix: jax.Array) -> Int8Matrix:
    """[out, in] -> rounded to the nearest of 255 steps of each row."""
    wide = matrix.astype(jnp.float32)
    scale = _scale(wide, LARGEST)
    return Int8Matrix(jnp.round(wide / scale).astype(jnp.int8), scale[:, 0])


def int8_matmul(x: jax.Array, matrix: Int8Matrix, out: DTypeLike | None = None) -> jax.Array:
    """x [M, in] times the transposed matrix [out, in] -> [M, out] in x's dtype or ``out``."""
    wide = x.astype(jnp.float32)
    scale = _scale(wide, LARGEST * BASE)
    steps = jnp.round(wide / scale)  # [M, in], up to 127 * 128 in size
    high = jnp.round(steps / BASE)
    parts = jnp.concatenate([high, steps - high * BASE]).astype(jnp.int8)  # [2M, in], the low ones from -64 to 64
    numbers = ((1,), (1,)), ((), ())
    sums = jax.lax.dot_general(parts, matrix.values, numbers, preferred_element_type=jnp.int32).astype(jnp.float32)
    high, low = jnp.split(sums, 2)  # 2 x [M, out]
    return ((high * BASE + low) * scale * matrix.scale[None, :]).astype(out or x.dtype)


def _scale(wide: jax.Array, largest: int) -> jax.Array:
    """f32[M, 1]: the size of a step, such that ``largest`` of them are the row's largest number; 1 for a row of zeros."""
    top = jnp.max(jnp.abs(wide), axis=1, keepdims=True)
    return jnp.where(top > 0.0, top, float(largest)) / largest
