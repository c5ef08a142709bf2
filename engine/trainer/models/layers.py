"""The pure parts that Gemma-like families share: norm, rotary positions, attention, gated MLP.

What goes in and comes out: arrays, with the usual legend: B batch, T query, S key, D model,
N heads, K kv heads, G = N/K query heads per kv head, H head dim, F ffn. Nothing here holds state or
depends on a configuration.

    >>> import jax.numpy as jnp
    >>> rms_norm(jnp.ones((1, 4)), jnp.zeros(4), 1e-6).round(3).tolist()
    [[1.0, 1.0, 1.0, 1.0]]

Sources: Zhang & Sennrich 2019 (RMSNorm), Su et al. 2021 (rotary positions, half-split as Hugging Face
stores it, not interleaved), Shazeer 2019/2020 (multi-query attention, GeGLU).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from engine.trainer.ops.gelu import gelu_product
from engine.trainer.ops.matmul import MatmulRule, contract, dot, matmul, matmul_turned

PIECE, MOST_PIECES = 64, 4  # attention processes the queries of a sequence in pieces

# Finite, so that a row with nothing to attend to gives a uniform average and never NaN; low enough
# that exp() of it is exactly 0 in f32 beside any real score.
MASKED = -2.3819763e38


class Matrices(dict[str, jax.Array]):
    """A layer's weights by name; ``matmul``: how they are multiplied; ``turned``: matrices are [out, in], not [in, out]."""

    matmul: MatmulRule | None = None
    turned: bool = False


PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """x [..., D] over its root mean square, times (1 + weight [D]); computed in f32 and cast last.

    Gemma stores the weight without the 1 and multiplies in f32 before the cast
    (transformers' GemmaRMSNorm: "(x * w).to(float16)", unlike Llama's "x.to(float16) * w").
    """
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)  # [..., 1]
    gain = 1.0 + weight.astype(jnp.float32)  # [D]
    gain = jax.lax.expand_dims(gain, range(x.ndim - 1))  # [1, ..., D]
    return (wide * scale * gain).astype(x.dtype)


def rope_tables(positions: jax.Array, head_dim: int, theta: float, factor: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """cos and sin f32[B, T, H/2] for int positions [B, T], each position divided by ``factor``.

    Always in f32: bf16 has 8 bits of mantissa and cannot distinguish position 256 from 257.
    """
    exponents = jnp.arange(head_dim // 2, dtype=jnp.int32).astype(jnp.float32) * (2.0 / head_dim)
    inverse = 1.0 / jnp.power(jnp.float32(theta), exponents) / factor  # [H/2]
    angles = positions.astype(jnp.float32)[:, :, None] * inverse[None, None, :]  # [B, T, H/2]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotate each pair (x[i], x[i + H/2]) of x [B, T, N, H] by its angle; f32 inside, x's dtype out."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)  # 2 x [B, T, N, H/2]
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]  # [B, T, 1, H/2]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)  # [B, T, N, H]


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """cap * tanh(x / cap): nearly x where |x| is small, never beyond ±cap; x itself without a cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    *,
    softcap: float | None = None,
    rule: MatmulRule | None = None,
) -> jax.Array:
    """softmax(softcap(q k^T)) v with q [B, T, N, H] already scaled, k and v [B, S, K, H], bool mask [B, T, S].

    The G = N/K query heads of one kv head are stacked in one matmul with it: k and v are never repeated. Scores and
    softmax are f32. The division by the softmax's sum comes after the second matmul, where it is over H numbers a query
    instead of S (7 % of a train step on CPU).
    """
    batch, queries, heads, head_dim = q.shape
    keys, kv_heads = k.shape[1:3]
    groups = heads // kv_heads
    grouped = q.reshape(batch, queries, kv_heads, groups, head_dim).transpose(0, 2, 3, 1, 4)  # [B, K, G, T, H]
    grouped = grouped.reshape(batch, kv_heads, groups * queries, head_dim)  # [B, K, G*T, H]
    columns, values = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)  # [B, K, H, S], [B, K, S, H]
    scores = _matmul(grouped, columns, rule)  # [B, K, G*T, S]
    scores = soft_cap(scores, softcap).reshape(batch, kv_heads, groups, queries, keys)
    scores = jnp.where(mask[:, None, None, :, :], scores, MASKED)
    highest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - highest)  # [B, K, G, T, S], at most 1
    total = jnp.sum(weights, axis=-1, keepdims=True)  # [B, K, G, T, 1]
    flat = weights.astype(v.dtype).reshape(batch, kv_heads, groups * queries, keys)
    mixed = _matmul(flat, values, rule)  # [B, K, G*T, H]
    mixed = mixed.reshape(batch, kv_heads, groups, queries, head_dim) / total
    mixed = mixed.transpose(0, 3, 1, 2, 4).astype(q.dtype)  # [B, T, K, G, H]
    return mixed.reshape(batch, queries, heads, head_dim)  # [B, T, N, H]


def _matmul(left: jax.Array, right: jax.Array, rule: MatmulRule | None) -> jax.Array:
    """A matmul of attention in float32 sums, with operands as they are or by the rule."""
    return contract(left, right, (-1, -2)) if rule is None else dot(left, right, rule)


def causal_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    *,
    softcap: float | None = None,
    rule: MatmulRule | None = None,
) -> jax.Array:
    """Causal :func:`attention` of entire sequences, q [B, T, N, H], k and v [B, T, K, H], mask [B, T, T].

    Queries are processed in up to MOST_PIECES pieces, each with the keys up to its own last query: most scores that the
    mask would hide are never computed, with 4 pieces three eighths of all scores.
    """
    length = q.shape[1]
    size = PIECE * -(-length // (PIECE * MOST_PIECES))
    if size >= length:
        return attention(q, k, v, mask, softcap=softcap, rule=rule)
    mixed = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        own = mask[:, start:stop, :stop]
        mixed.append(attention(q[:, start:stop], k[:, :stop], v[:, :stop], own, softcap=softcap, rule=rule))
    return jnp.concatenate(mixed, axis=1)


def project(x: jax.Array, w: Mapping[str, jax.Array], name: str) -> jax.Array:
    """x [M, in] times the layer's matrix ``name`` [in, out] -> [M, out], plus its low-rank adapter if it has one.

    The adapter ``name.a`` [in, r], ``name.b`` [r, out] adds lora.scale (x a) b, in f32 (see
    :mod:`engine.trainer.lora.adapters`); with ``lora.key`` each entry of its x is kept with probability lora.keep.
    """
    multiply = matmul_turned if getattr(w, "turned", False) else matmul
    out = multiply(x, w[name], getattr(w, "matmul", None))
    if f"{name}.a" not in w:
        return out
    wide = x.astype(jnp.float32)
    if "lora.key" in w:
        key = jax.random.fold_in(w["lora.key"], PROJECTIONS.index(name))
        kept = jax.random.bernoulli(key, w["lora.keep"], wide.shape)
        wide = jnp.where(kept, wide / w["lora.keep"], 0.0)
    added = (wide @ w[f"{name}.a"]) @ w[f"{name}.b"] * w["lora.scale"]  # [M, r] between
    # Cast to the dtype of ``out``: otherwise XLA would round ``out`` where it keeps more bits without an adapter, and
    # adding 0 would change bits.
    return out + added.astype(out.dtype)


def qkv(
    x: jax.Array, w: Mapping[str, jax.Array], rope: tuple[jax.Array, jax.Array], head_dim: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x [M, D] -> q [B, T, N, H], k and v [B, T, K, H]; B and T are those of the rotary tables [B, T, H/2]."""
    batch, length = rope[0].shape[:2]
    q, k, v = (project(x, w, name).reshape(batch, length, -1, head_dim) for name in ("q", "k", "v"))
    return q, k, v


def gated_mlp(x: jax.Array, w: Mapping[str, jax.Array]) -> jax.Array:
    """gelu_tanh(x gate) * (x up), projected back by down; x [M, D], gate and up [D, F], down [F, D].

    x has its batch and time axes flattened (M = B*T): XLA's CPU backend runs the backward of a 3-D
    matmul at half the speed of the 2-D one. Gemma was trained with the tanh form of gelu,
    although its config says "gelu" (transformers issue 29402).
    """
    hidden = gelu_product(project(x, w, "gate"), project(x, w, "up"))  # [M, F]
    return project(hidden, w, "down")  # [M, D]


def causal_mask(segment_ids: jax.Array | None, batch: int, length: int) -> jax.Array:
    """bool[B, T, T]: a token attends to itself and earlier tokens of its own segment.

    >>> causal_mask(jnp.array([[1, 1, 2]]), 1, 3)[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    causal = jnp.tril(jnp.ones((length, length), dtype=bool))[None, :, :]  # [1, T, T]
    if segment_ids is None:
        return jnp.broadcast_to(causal, (batch, length, length))
    same = segment_ids[:, :, None] == segment_ids[:, None, :]  # [B, T, T]
    return jnp.logical_and(same, causal)


# --- attention to a key-value cache in blocks ---

FIRST_BLOCK = 128


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
    """:func:`attention` of q [B, T, N, H] to a cache, block by block: keys [B, K, H, S], values [B, K, S, H] -> as q.

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
