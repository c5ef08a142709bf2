"""Stochastic rounding to bfloat16, its randomness a pure function of a key and a place.

In: float32 values and a key of (seed, step, weight). Out: bfloat16, each value going to one of its two neighbours
with the probability of its distance to the other, so that it is right on average.

    >>> import jax, jax.numpy as jnp
    >>> quarter = jnp.full(8, 1.0 + 1 / 512, jnp.float32)  # a quarter of the way from 1 to the next bfloat16
    >>> sorted(set(round_stochastically(quarter, jax.random.key(0)).astype(jnp.float32).tolist()))
    [1.0, 1.0078125]

Why: bfloat16 keeps 8 bits. An update below 0.2 % of its weight would be rounded away at every step, and training at
small learning rates would stand still (Zamirai et al. 2020, arXiv 2010.06192).

Why not ``jax.random.bits``: it would make an array of random numbers as large as the weights (2 GiB for Gemma's
embedding), in a loop of its own on CPU. A hash of the place is a handful of integer operations that the compiler
fuses into the write, and gives the same bits however the weights are cut into blocks or over devices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

KEPT_BITS = 0xFFFF0000  # sign, exponent and the 7 stored bits of the fraction: what bfloat16 has of a float32


def round_stochastically(values: jax.Array, key: jax.Array, *, rows: jax.Array | None = None) -> jax.Array:
    """f32[R, ...] -> bf16[R, ...]: noise below one bfloat16 step is added, then the lower 16 bits are cut off.

    ``rows`` u32[R] or i32[R] are the places of the leading axis in the whole weight (0..R-1 unless told): a block
    of rows rounds as it would within the whole. Infinities stay; a NaN stays a NaN; values beyond the largest
    bfloat16 may become infinite, as they do in plain rounding.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    noise = _hash(_places(values.shape, rows), key) >> 16
    cut = (bits + noise) & jnp.uint32(KEPT_BITS)
    # Added to a NaN of all ones the noise would run over into the sign and leave a number.
    cut = jnp.where(jnp.isfinite(values), cut, bits)
    return jax.lax.bitcast_convert_type(cut, jnp.float32).astype(jnp.bfloat16)


def _places(shape: tuple[int, ...], rows: jax.Array | None) -> jax.Array:
    """u32 of ``shape``: the index of each number in the flattened weight (modulo 2^32)."""
    if not shape:
        return jnp.zeros(shape, jnp.uint32)
    places = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        if axis == 0 and rows is not None:
            along = jax.lax.broadcast_in_dim(rows.astype(jnp.uint32), shape, (0,))
        places = places + along * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return places


def _hash(places: jax.Array, key: jax.Array) -> jax.Array:
    """u32 -> u32, every bit of place and key reaching every bit: two rounds of MurmurHash3's finalizer (Appleby)."""
    first, second = jax.random.key_data(key)
    mixed = _mix(places ^ first)
    return _mix(mixed + second)


def _mix(h: jax.Array) -> jax.Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
