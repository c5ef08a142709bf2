"""Stochastic rounding to bfloat16; the random bits are a pure function of a key and an index.

In: float32 values and a key of (seed, step, weight). Out: bfloat16. Each value is rounded to one of its two neighbours,
with a probability proportional to the distance to the other, so that it is right on average.

    >>> import jax, jax.numpy as jnp
    >>> quarter = jnp.full(8, 1.0 + 1 / 512, jnp.float32)  # a quarter of the way from 1 to the next bfloat16
    >>> sorted(set(round_stochastically(quarter, jax.random.key(0)).astype(jnp.float32).tolist()))
    [1.0, 1.0078125]

Why: bfloat16 has 8 bits. An update below 0.2 % of its weight would be rounded away at every step, and training at
small learning rates would stall (Zamirai et al. 2020, arXiv 2010.06192).

Why not ``jax.random.bits``: it would make an array of random numbers as large as the weights (2 GiB for Gemma's
embedding), in a loop of its own on CPU. A hash of the index is a handful of integer operations that the compiler fuses
into the write, and gives the same bits however the weights are split into blocks or sharded.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

KEPT_BITS = 0xFFFF0000  # sign, exponent and the 7 stored bits of the fraction: what bfloat16 has of a float32


def round_stochastically(values: jax.Array, key: jax.Array, *, rows: jax.Array | None = None) -> jax.Array:
    """f32[R, ...] -> bf16[R, ...]: noise below one bfloat16 step is added, then the lower 16 bits are truncated.

    ``rows`` u32[R] or i32[R]: indices of the leading axis in the full weight (by default 0..R-1): a block of rows is
    rounded as it would be within the full weight. Infinities stay; a NaN stays a NaN; values beyond the largest
    bfloat16 may become infinite, as they do in plain rounding.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    noise = _hash(_indices(values.shape, rows), key) >> 16
    truncated = (bits + noise) & jnp.uint32(KEPT_BITS)
    # Noise added to a NaN of all ones would overflow into the sign and leave a finite number.
    truncated = jnp.where(jnp.isfinite(values), truncated, bits)
    return jax.lax.bitcast_convert_type(truncated, jnp.float32).astype(jnp.bfloat16)


def _indices(shape: tuple[int, ...], rows: jax.Array | None) -> jax.Array:
    """u32 of ``shape``: the index of each number in the flattened weight (modulo 2^32)."""
    if not shape:
        return jnp.zeros(shape, jnp.uint32)
    indices = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        if axis == 0 and rows is not None:
            along = jax.lax.broadcast_in_dim(rows.astype(jnp.uint32), shape, (0,))
        indices = indices + along * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return indices


def _hash(indices: jax.Array, key: jax.Array) -> jax.Array:
    """u32 -> u32, each bit depending on every bit of index and key: two rounds of MurmurHash3's finalizer (Appleby)."""
    first, second = jax.random.key_data(key)
    mixed = _mix(indices ^ first)
    return _mix(mixed + second)


def _mix(h: jax.Array) -> jax.Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
