"""Attention to a key-value cache in blocks: what generation reads and writes.

In: keys and values of new tokens, the cache's arrays, queries [B, T, N, H]. Out: the arrays with the new ones, the
attention's result.

    >>> block_sizes(300)
    [128, 128, 256]

Legend: B batch, T query, S slot, N heads, K kv heads, G = N/K query heads per kv head, H head dim.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from engine.trainer.models.layers import MASKED, soft_cap

FIRST_BLOCK = 128


class KeyValueCache(NamedTuple):
    """Keys and values of past tokens, by layer and by block of slots; slot s of a row holds its position s.

    k[layer][block] is [B, K, H, S], v[layer][block] [B, K, S, H]: the layouts that decoding's matmuls need (with k as
    [B, S, K, H] they take twice the time on CPU). Each block is an array of its own, so that it is read without a copy,
    and blocks that no row has reached are not read at all; see :func:`block_sizes`.
    """

    k: tuple[tuple[jax.Array, ...], ...]
    v: tuple[tuple[jax.Array, ...], ...]


def block_sizes(length: int) -> list[int]:
    """Slots of each block of a cache for ``length`` positions: each block after the first doubles the cache.

    Where a block begins depends only on its index, so that a row's sums have the same order in a cache of any size.

    >>> block_sizes(100), block_sizes(300), sum(block_sizes(8192))
    ([128], [128, 128, 256], 8192)
    """
    sizes = [FIRST_BLOCK]
    while sum(sizes) < length:
        sizes.append(sum(sizes))
    return sizes


class CacheBlock(NamedTuple):
    """Slots start … start + size - 1 of each row, and the positions of the queries that attend to them."""

    start: int
    size: int
    positions: jax.Array  # i32[B, T]
    rows: jax.Array | None  # i32[B]: the cache's row of each query; None: all rows, in order

    def write(self, k: jax.Array, v: jax.Array, keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Write k and v [B, T, K, H] to their slots of this block's keys [B, K, H, S] and values [B, K, S, H]."""
        rows = jnp.arange(k.shape[0], dtype=jnp.int32) if self.rows is None else self.rows
        inside = jnp.logical_and(self.positions >= self.start, self.positions < self.start + self.size)
        slots = jnp.where(inside, self.positions - self.start, self.size)  # [B, T]; beyond the end is dropped
        keys = keys.at[rows[:, None], :, :, slots].set(k.astype(keys.dtype), mode="drop")
        values = values.at[rows[:, None], :, slots].set(v.astype(values.dtype), mode="drop")
        return keys, values

    def mask(self, window: int | None) -> jax.Array:
        """bool[B, T, S]: a query at p attends to slots up to p, with a ``window`` to the last of them."""
        slots = self.start + jnp.arange(self.size, dtype=jnp.int32)
        back = self.positions[:, :, None] - slots[None, None, :]
        return back >= 0 if window is None else jnp.logical_and(back >= 0, back < window)

    def reached(self) -> jax.Array:
        """bool[]: whether any query attends to this block."""
        return jnp.any(self.positions >= self.start)


def cache_blocks(length: int, positions: jax.Array, rows: jax.Array | None) -> list[CacheBlock]:
    """The blocks of a cache for ``length`` positions, for queries at ``positions`` i32[B, T]."""
    sizes = block_sizes(length)
    return [CacheBlock(sum(sizes[:index]), size, positions, rows) for index, size in enumerate(sizes)]


def cached_attention(
    q: jax.Array,
    cache: Sequence[tuple[CacheBlock, jax.Array, jax.Array]],
    *,
    window: int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """:func:`engine.trainer.models.layers.attention` of q [B, T, N, H] to a cache, block by block: keys [B, K, H, S], values [B, K, S, H] -> as q.

    Matmuls are in the cache's dtype.

    The softmax is updated from block to block (Milakov & Gimelshein 2018, arXiv 1805.02867). A block with nothing for a
    query to attend to does not change a bit of its sums: the maximum stays, so that the sums are multiplied by
    exp(0) = 1, and zeros are added. So a row does not depend on the lengths of others, and a block that no query has
    reached is skipped.
    """
    batch, queries, heads, head_dim = q.shape
    kv_heads = cache[0][1].shape[1]
    shape = (batch, kv_heads, heads // kv_heads, queries)  # B, K, G, T
    grouped = q.reshape(batch, queries, *shape[1:3], head_dim).transpose(0, 2, 3, 1, 4)  # [B, K, G, T, H]
    grouped = grouped.reshape(batch, kv_heads, -1, head_dim)  # [B, K, G*T, H]

    def add(
        block: CacheBlock, keys: jax.Array, values: jax.Array, so_far: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, ...]:
        highest, total, mixed = so_far  # f32[B, K, G, T], the same, [B, K, G*T, H]
        if block.rows is not None:
            keys, values = keys[block.rows], values[block.rows]
        scores = jnp.matmul(grouped.astype(keys.dtype), keys, preferred_element_type=jnp.float32)  # [B, K, G*T, S]
        scores = soft_cap(scores, softcap).reshape(*shape, -1)
        mask = block.mask(window)[:, None, None, :, :]
        scores = jnp.where(mask, scores, MASKED)  # [B, K, G, T, S]
        higher = jnp.maximum(highest, jnp.max(scores, axis=-1))
        weights = jnp.where(mask, jnp.exp(scores - higher[..., None]), 0.0)
        rescale = jnp.exp(highest - higher)
        flat = weights.astype(values.dtype).reshape(batch, kv_heads, -1, block.size)
        more = jnp.matmul(flat, values, preferred_element_type=jnp.float32)  # [B, K, G*T, H]
        mixed = mixed * rescale.reshape(batch, kv_heads, -1, 1) + more
        return higher, total * rescale + jnp.sum(weights, axis=-1), mixed

    so_far: tuple[jax.Array, ...] = (
        jnp.full(shape, MASKED, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros(grouped.shape, jnp.float32),
    )
    for block, keys, values in cache:
        if block.start == 0:
            so_far = add(block, keys, values, so_far)
            continue
        so_far = jax.lax.cond(block.reached(), functools.partial(add, block, keys, values), lambda sums: sums, so_far)
    _, total, mixed = so_far
    total = jnp.where(total == 0.0, 1.0, total)  # a query that attends to nothing belongs to no row
    mixed = mixed.reshape(*shape, head_dim) / total[..., None]  # [B, K, G, T, H]
    return mixed.transpose(0, 3, 1, 2, 4).astype(q.dtype).reshape(batch, queries, heads, head_dim)
