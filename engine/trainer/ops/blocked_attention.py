"""Attention in blocks, for sequences whose [T, T] scores do not fit in memory: exact, with a running softmax.

In: q [B, T, N, H] already scaled, k and v [B, S, K, H], positions and segment ids of queries and keys. Out: the result of
:func:`engine.trainer.models.layers.attention` under the mask

    same segment, and 0 <= position of the query - position of the key < window

At most one tile [B, N, block, key_block] of scores exists at a time, in the forward and the backward pass. Saved for the
backward pass are q, k, v, the result and one float32 a query and head (its log sum); tiles are recomputed (Rabe and
Staats 2021, arXiv 2112.05682; Dao et al. 2022, arXiv 2205.14135).

Tiles that are masked entirely are not computed: for each block of queries the loop runs over the key blocks from the
first to the last that its positions and segments can reach. Causality alone halves the work; sliding windows and packed
sequences reduce it further. The bounds come from the data and are the union over the rows of the batch.

    mixed = blocked_attention(q, k, v, TokenPositions(positions, segment_ids), window=jnp.int32(4096), softcap=50.0)

A query with nothing to attend to gives zeros. Legend: B batch, T query, S key, N heads, K kv heads, G = N / K, H head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

EVERYTHING = 1 << 30  # a window longer than any sequence
BLOCK = 512  # queries, and keys, a tile: 8 MiB of scores for the 8 heads of Gemma 2B
KEY_BLOCKS = "attention_key_blocks"  # the name of the loops whose bounds depend on the data
LOWEST = -2.3819763e38  # below every score, and finite so that differences are finite

Mesh = jax.sharding.Mesh | jax.sharding.AbstractMesh
Pair = tuple[jax.Array, jax.Array]
Triple = tuple[jax.Array, jax.Array, jax.Array]


class TokenPositions(NamedTuple):
    """Position and segment of tokens: i32[B, T] each. Positions rise within a segment; segments are not negative."""

    positions: jax.Array
    segment_ids: jax.Array


class Tiling(NamedTuple):
    """The static parameters: softcap (c in c tanh(score / c)) or None, queries and keys a tile."""

    softcap: float | None
    block: int
    key_block: int


def blocked_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    query_positions: TokenPositions,
    key_positions: TokenPositions | None = None,
    *,
    window: jax.Array | int | None = None,
    softcap: float | None = None,
    block: int = BLOCK,
    key_block: int | None = None,
) -> jax.Array:
    """[B, T, N, H] in q's dtype; scores, softmax and all sums in float32.

    ``key_positions``: by default those of the queries. ``window`` may be traced, so that layers with and without one
    share a loop; it counts the query itself (1: only itself). Lengths need not be multiples of the blocks.
    """
    key_positions = query_positions if key_positions is None else key_positions
    tiling = Tiling(softcap, min(block, q.shape[1]), min(key_block or block, k.shape[1]))
    length = q.shape[1]
    # Padding at the end has segments of its own: it attends to nothing, and nothing attends to it.
    q, query_positions = _pad(q, tiling.block), _pad_positions(query_positions, tiling.block, -1)
    k, v = _pad(k, tiling.key_block), _pad(v, tiling.key_block)
    key_positions = _pad_positions(key_positions, tiling.key_block, -2)
    reach = jnp.asarray(EVERYTHING if window is None else window, jnp.int32)
    return _attend(q, k, v, MaskInputs(query_positions, key_positions, reach), tiling)[:, :length]


def sharded_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: TokenPositions,
    mesh: Mesh,
    *,
    window: jax.Array | int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """:func:`blocked_attention` on a mesh of axes fsdp and tp: each device processes its own rows and its own heads.

    Without this the compiler has every device process all rows: the bounds of the loops depend on the data of all of
    them. Here each device has its own bounds, and only the gradients of kv heads that several devices have are sent. The
    batch must be a multiple of fsdp; heads are sharded along tp where every device then has all queries of its kv heads.
    """
    rows, heads = mesh.shape["fsdp"], mesh.shape["tp"]
    if q.shape[0] % rows:
        raise ValueError(f"a batch of {q.shape[0]} rows over {rows} devices")
    kv_heads = k.shape[2]
    by_head = q.shape[2] % heads == 0 and (kv_heads % heads == 0 or kv_heads == 1)
    query = jax.P("fsdp", None, "tp" if by_head else None, None)
    key = jax.P("fsdp", None, "tp" if by_head and kv_heads % heads == 0 else None, None)

    def local(q: jax.Array, k: jax.Array, v: jax.Array, positions: TokenPositions, reach: jax.Array) -> jax.Array:
        return blocked_attention(q, k, v, positions, window=reach, softcap=softcap)

    reach = jnp.asarray(EVERYTHING if window is None else window, jnp.int32)
    specs = (query, key, key, jax.P("fsdp"), jax.P())
    sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=query, check_vma=False)
    mixed: jax.Array = sharded(q, k, v, positions, reach)
    return mixed


def mean_key_blocks(length: int, windows: Sequence[int | None]) -> float:
    """Key blocks that a block of queries takes, on average over a row that is one sequence and over the layers.

    >>> mean_key_blocks(2048, [None]), mean_key_blocks(2048, [None, 512])
    (2.5, 2.125)
    """
    block = min(BLOCK, length)
    count = -(-length // block)
    spans = [
        index + 1 - max(0, index * block - (window or EVERYTHING) + 1) // block
        for window in windows
        for index in range(count)
    ]
    return sum(spans) / len(spans)


class MaskInputs(NamedTuple):
    """What the mask of a tile is computed from."""

    queries: TokenPositions
    keys: TokenPositions
    window: jax.Array  # i32[]


Saved = tuple[jax.Array, jax.Array, jax.Array, MaskInputs, jax.Array, jax.Array]  # q, k, v, mask, result, log sums


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: MaskInputs, tiling: Tiling) -> jax.Array:
    return _forward(q, k, v, mask, tiling)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, mask: MaskInputs, tiling: Tiling) -> Pair:
    """(result [B, T, N, H], log sums f32[B, T, N])."""
    firsts, lasts = _key_blocks(mask, tiling)
    kv_heads = k.shape[2]

    def queries(index: jax.Array, carry: Pair) -> Pair:
        start = index * tiling.block
        tile_q = _grouped(_take(q, start, tiling.block), kv_heads)  # [B, K, G, t, H]

        def keys(number: jax.Array, sums: Triple) -> Triple:
            highest, total, mixed = sums
            at = number * tiling.key_block
            tile_k, tile_v = (_take(part, at, tiling.key_block) for part in (k, v))  # [B, s, K, H]
            allowed = _tile_mask(mask, start, at, tiling)
            scores = jnp.where(allowed, _scores(tile_q, tile_k, tiling.softcap)[0], LOWEST)  # [B, K, G, t, s]
            top = jnp.maximum(highest, jnp.max(scores, axis=-1))
            weights = jnp.where(allowed, jnp.exp(scores - top[..., None]), 0.0)
            rescale = jnp.exp(highest - top)  # the sums so far are relative to a lower maximum
            mixed = mixed * rescale[..., None] + _mix(weights.astype(v.dtype), tile_v)
            return top, total * rescale + jnp.sum(weights, axis=-1), mixed

        low = jnp.full(tile_q.shape[:-1], LOWEST, jnp.float32)
        zeros = jnp.zeros(tile_q.shape, jnp.float32)
        with jax.named_scope(KEY_BLOCKS):
            highest, total, mixed = jax.lax.fori_loop(firsts[index], lasts[index], keys, (low, zeros[..., 0], zeros))
        total = jnp.where(total > 0.0, total, 1.0)
        result, log_sums = carry
        result = _put(result, _flat(mixed / total[..., None]).astype(q.dtype), start)
        return result, _put(log_sums, _flat((highest + jnp.log(total))[..., None])[..., 0], start)

    start = jnp.zeros_like(q), jnp.zeros(q.shape[:-1], jnp.float32)
    result: Pair = jax.lax.fori_loop(0, q.shape[1] // tiling.block, queries, start)
    return result


def _attend_forward(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: MaskInputs, tiling: Tiling
) -> tuple[jax.Array, Saved]:
    result, log_sums = _forward(q, k, v, mask, tiling)
    return result, (q, k, v, mask, result, log_sums)


def _attend_backward(
    tiling: Tiling, saved: Saved, by_result: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, mask, result, log_sums = saved
    firsts, lasts = _key_blocks(mask, tiling)
    kv_heads = k.shape[2]
    # The part of the softmax's gradient that is the same for all keys of a query.
    common = jnp.sum(by_result.astype(jnp.float32) * result.astype(jnp.float32), axis=-1, keepdims=True)

    def queries(index: jax.Array, carry: Triple) -> Triple:
        start = index * tiling.block
        tile_q, tile_by, tile_log, tile_common = (
            _grouped(_take(part, start, tiling.block), kv_heads) for part in (q, by_result, log_sums[..., None], common)
        )

        def keys(number: jax.Array, sums: Triple) -> Triple:
            by_tile_q, by_k, by_v = sums
            at = number * tiling.key_block
            tile_k, tile_v = (_take(part, at, tiling.key_block) for part in (k, v))
            scores, slope = _scores(tile_q, tile_k, tiling.softcap)
            weights = jnp.where(_tile_mask(mask, start, at, tiling), jnp.exp(scores - tile_log), 0.0)
            by_weights = _matmul("bkgth,bskh->bkgts", tile_by, tile_v)
            by_scores = weights * (by_weights - tile_common)
            by_scores = (by_scores if slope is None else by_scores * slope).astype(q.dtype)
            by_k = _add(by_k, _matmul("bkgts,bkgth->bskh", by_scores, tile_q), at)
            by_v = _add(by_v, _matmul("bkgts,bkgth->bskh", weights.astype(q.dtype), tile_by), at)
            return by_tile_q + _matmul("bkgts,bskh->bkgth", by_scores, tile_k), by_k, by_v

        by_q, by_k, by_v = carry
        zeros = jnp.zeros(tile_q.shape, jnp.float32)
        with jax.named_scope(KEY_BLOCKS):
            by_tile_q, by_k, by_v = jax.lax.fori_loop(firsts[index], lasts[index], keys, (zeros, by_k, by_v))
        return _put(by_q, _flat(by_tile_q).astype(q.dtype), start), by_k, by_v

    start = jnp.zeros_like(q), jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    by_q, by_k, by_v = jax.lax.fori_loop(0, q.shape[1] // tiling.block, queries, start)
    return by_q, by_k.astype(k.dtype), by_v.astype(v.dtype), None


_attend.defvjp(_attend_forward, _attend_backward)


def _tile_mask(mask: MaskInputs, start: jax.Array, at: jax.Array, tiling: Tiling) -> jax.Array:
    """bool[B, 1, 1, t, s]: which queries of the tile attend to which keys."""
    query = [_take(part, start, tiling.block)[:, :, None] for part in mask.queries]  # positions, segments [B, t, 1]
    key = [_take(part, at, tiling.key_block)[:, None, :] for part in mask.keys]  # [B, 1, s]
    distance = query[0] - key[0]
    return ((query[1] == key[1]) & (distance >= 0) & (distance < mask.window))[:, None, None]


def _key_blocks(mask: MaskInputs, tiling: Tiling) -> Pair:
    """For each block of queries the first key block that it may attend to, and the one after the last."""
    queries, keys, window = mask

    def spans(part: jax.Array, size: int) -> Pair:
        blocks = part.reshape(part.shape[0], -1, size)
        return jnp.min(blocks, axis=-1), jnp.max(blocks, axis=-1)  # [B, blocks] each

    def overlap(low: jax.Array, high: jax.Array, other_low: jax.Array, other_high: jax.Array) -> jax.Array:
        return (low[:, :, None] <= other_high[:, None, :]) & (other_low[:, None, :] <= high[:, :, None])

    first, last = spans(queries.positions, tiling.block)
    key_spans = spans(keys.positions, tiling.key_block)
    near = overlap(first - (window - 1), last, *key_spans)
    same = overlap(*spans(queries.segment_ids, tiling.block), *spans(keys.segment_ids, tiling.key_block))
    needed = jnp.any(near & same, axis=0)  # [query blocks, key blocks]
    count = needed.shape[1]
    firsts = jnp.argmax(needed, axis=1).astype(jnp.int32)
    lasts = count - jnp.argmax(needed[:, ::-1], axis=1).astype(jnp.int32)
    return firsts, jnp.where(jnp.any(needed, axis=1), lasts, firsts)


def _scores(tile_q: jax.Array, tile_k: jax.Array, softcap: float | None) -> tuple[jax.Array, jax.Array | None]:
    """[B, K, G, t, H], [B, s, K, H] -> scores f32[B, K, G, t, s] and, with a softcap, their slope."""
    plain = _matmul("bkgth,bskh->bkgts", tile_q, tile_k)
    if softcap is None:
        return plain, None
    tanh = jnp.tanh(plain / softcap)
    slope: jax.Array = 1.0 - jnp.square(tanh)
    return softcap * tanh, slope


def _mix(weights: jax.Array, tile_v: jax.Array) -> jax.Array:
    """[B, K, G, t, s], [B, s, K, H] -> f32[B, K, G, t, H]."""
    return _matmul("bkgts,bskh->bkgth", weights, tile_v)


def _matmul(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)


def _grouped(tile: jax.Array, kv_heads: int) -> jax.Array:
    """[B, t, N, ?] -> [B, K, G, t, ?]."""
    batch, length, heads, width = tile.shape
    return tile.reshape(batch, length, kv_heads, heads // kv_heads, width).transpose(0, 2, 3, 1, 4)


def _flat(tile: jax.Array) -> jax.Array:
    """[B, K, G, t, ?] -> [B, t, N, ?]."""
    batch, kv_heads, groups, length, width = tile.shape
    return tile.transpose(0, 3, 1, 2, 4).reshape(batch, length, kv_heads * groups, width)


def _take(tokens: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """[B, T, ...] -> ``size`` tokens [B, size, ...] from ``start``."""
    tile: jax.Array = jax.lax.dynamic_slice_in_dim(tokens, start, size, axis=1)
    return tile


def _put(tokens: jax.Array, tile: jax.Array, start: jax.Array) -> jax.Array:
    written: jax.Array = jax.lax.dynamic_update_slice_in_dim(tokens, tile, start, axis=1)
    return written


def _add(tokens: jax.Array, tile: jax.Array, start: jax.Array) -> jax.Array:
    return _put(tokens, _take(tokens, start, tile.shape[1]) + tile, start)


def _pad(part: jax.Array, block: int) -> jax.Array:
    """[B, T, ...] padded with zeros to a multiple of ``block``."""
    missing = -part.shape[1] % block
    return jnp.pad(part, ((0, 0), (0, missing), *[(0, 0)] * (part.ndim - 2))) if missing else part


def _pad_positions(tokens: TokenPositions, block: int, segment: int) -> TokenPositions:
    """Padded with the last position, so that a block's span does not grow, and with ``segment``."""
    missing = (0, 0), (0, -tokens.positions.shape[1] % block)
    segments = jnp.pad(tokens.segment_ids, missing, constant_values=segment)
    return TokenPositions(jnp.pad(tokens.positions, missing, mode="edge"), segments)
