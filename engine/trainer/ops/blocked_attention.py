"""Attention in blocks, for sequences whose [T, T] scores have no room: exact, with a running softmax.

In: q [B, T, N, H] already scaled, k and v [B, S, K, H], positions and segment ids of queries and keys. Out: what
:func:`engine.trainer.models.layers.attention` gives under the mask

    same segment, and 0 <= position of the query - position of the key < window

of which no more than one tile [B, N, block, key_block] exists at a time, forwards or backwards. Kept for the way back
are q, k, v, the result and one float32 a query and head (its log sum); tiles are computed again (Rabe and Staats 2021,
arXiv 2112.05682; Dao et al. 2022, arXiv 2205.14135).

Tiles in which nothing can be seen are not computed: for each block of queries the loop runs over the key blocks from the
first to the last that its positions and segments can reach. Causality alone halves the work; sliding windows and packed
sequences leave less. The bounds come from the data and are the union over the rows of the batch.

    mixed = blocked_attention(q, k, v, TokenPositions(positions, segment_ids), window=jnp.int32(4096), softcap=50.0)

A query that sees nothing gives zeros. Legend: B batch, T query, S key, N heads, K kv heads, G = N / K, H head dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

EVERYTHING = 1 << 30  # a window that no sequence is longer than
BLOCK = 512  # queries, and keys, a tile: 8 MiB of scores for the 8 heads of Gemma 2B
LOWEST = -2.3819763e38  # below every score, finite so that differences are


class TokenPositions(NamedTuple):
    """Where tokens stand: i32[B, T] each. Positions rise within a segment; segments are not negative."""

    positions: jax.Array
    segment_ids: jax.Array


class Tiling(NamedTuple):
    """What is static: softcap (c in c tanh(score / c)) or None, queries and keys a tile."""

    softcap: float | None
    block: int
    key_block: int


def blocked_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    places: TokenPositions,
    key_places: TokenPositions | None = None,
    *,
    window: jax.Array | int | None = None,
    softcap: float | None = None,
    block: int = BLOCK,
    key_block: int | None = None,
) -> jax.Array:
    """[B, T, N, H] in q's dtype; scores, softmax and all sums in float32.

    ``key_places`` are the queries' unless told. ``window`` may be traced, so that layers with and without one share
    a loop; it counts the query itself (1: sees only itself). Lengths need not divide into blocks.
    """
    key_places = places if key_places is None else key_places
    tiling = Tiling(softcap, min(block, q.shape[1]), min(key_block or block, k.shape[1]))
    length = q.shape[1]
    # Ends that are filled up have segments of their own: nothing sees them, and they see nothing.
    q, places = _fill(q, tiling.block), _fill_places(places, tiling.block, -1)
    k, v = _fill(k, tiling.key_block), _fill(v, tiling.key_block)
    key_places = _fill_places(key_places, tiling.key_block, -2)
    reach = jnp.asarray(EVERYTHING if window is None else window, jnp.int32)
    return _attend(q, k, v, (places, key_places, reach), tiling)[:, :length]


def spread_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    places: TokenPositions,
    mesh: Any,
    *,
    window: jax.Array | int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """:func:`blocked_attention` on a mesh of axes fsdp and tp: each device goes over its own rows, and its own heads.

    Left to itself the compiler has every device do all rows: the bounds of the loops depend on the data of all of them.
    Here they are each device's own, and nothing is sent but the gradients of kv heads that several devices have. The batch
    must divide by fsdp; heads are dealt out along tp where every device then has all queries of its kv heads.
    """
    rows, heads = mesh.shape["fsdp"], mesh.shape["tp"]
    if q.shape[0] % rows:
        raise ValueError(f"a batch of {q.shape[0]} rows over {rows} devices")
    kv_heads = k.shape[2]
    dealt = q.shape[2] % heads == 0 and (kv_heads % heads == 0 or kv_heads == 1)
    query = jax.P("fsdp", None, "tp" if dealt else None, None)
    key = jax.P("fsdp", None, "tp" if dealt and kv_heads % heads == 0 else None, None)

    def own(q: jax.Array, k: jax.Array, v: jax.Array, places: TokenPositions, reach: jax.Array) -> jax.Array:
        return blocked_attention(q, k, v, places, window=reach, softcap=softcap)

    reach = jnp.asarray(EVERYTHING if window is None else window, jnp.int32)
    specs = (query, key, key, jax.P("fsdp"), jax.P())
    spread = jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=query, check_vma=False)
    mixed: jax.Array = spread(q, k, v, places, reach)
    return mixed


Sight = tuple[TokenPositions, TokenPositions, jax.Array]  # places of queries, places of keys, window


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, sight: Sight, tiling: Tiling) -> jax.Array:
    return _forward(q, k, v, sight, tiling)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, sight: Sight, tiling: Tiling) -> tuple[jax.Array, jax.Array]:
    """(result [B, T, N, H], log sums f32[B, T, N])."""
    firsts, lasts = _reach(sight, tiling)
    kv_heads = k.shape[2]

    def queries(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = index * tiling.block
        tile_q = _grouped(_take(q, start, tiling.block), kv_heads)  # [B, K, G, t, H]

        def keys(number: jax.Array, sums: Any) -> Any:
            highest, total, mixed = sums
            at = number * tiling.key_block
            tile_k, tile_v = (_take(part, at, tiling.key_block) for part in (k, v))  # [B, s, K, H]
            seen = _seen(sight, start, at, tiling)
            scores = jnp.where(seen, _scores(tile_q, tile_k, tiling.softcap)[0], LOWEST)  # [B, K, G, t, s]
            top = jnp.maximum(highest, jnp.max(scores, axis=-1))
            weights = jnp.where(seen, jnp.exp(scores - top[..., None]), 0.0)
            shrink = jnp.exp(highest - top)  # what came before was relative to a lower maximum
            mixed = mixed * shrink[..., None] + _mix(weights.astype(v.dtype), tile_v)
            return top, total * shrink + jnp.sum(weights, axis=-1), mixed

        low = jnp.full(tile_q.shape[:-1], LOWEST, jnp.float32)
        zeros = jnp.zeros(tile_q.shape, jnp.float32)
        highest, total, mixed = jax.lax.fori_loop(firsts[index], lasts[index], keys, (low, zeros[..., 0], zeros))
        total = jnp.where(total > 0.0, total, 1.0)
        result, log_sums = carry
        result = _put(result, _flat(mixed / total[..., None]).astype(q.dtype), start)
        return result, _put(log_sums, _flat((highest + jnp.log(total))[..., None])[..., 0], start)

    start = jnp.zeros_like(q), jnp.zeros(q.shape[:-1], jnp.float32)
    found: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, q.shape[1] // tiling.block, queries, start)
    return found


def _attend_forward(q: jax.Array, k: jax.Array, v: jax.Array, sight: Sight, tiling: Tiling) -> tuple[jax.Array, Any]:
    result, log_sums = _forward(q, k, v, sight, tiling)
    return result, (q, k, v, sight, result, log_sums)


def _attend_backward(tiling: Tiling, kept: Any, by_result: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, sight, result, log_sums = kept
    firsts, lasts = _reach(sight, tiling)
    kv_heads = k.shape[2]
    # The part of the softmax's gradient that is the same for all keys of a query.
    common = jnp.sum(by_result.astype(jnp.float32) * result.astype(jnp.float32), axis=-1, keepdims=True)

    def queries(index: jax.Array, carry: Any) -> Any:
        start = index * tiling.block
        tile_q, tile_by, tile_log, tile_common = (
            _grouped(_take(part, start, tiling.block), kv_heads) for part in (q, by_result, log_sums[..., None], common)
        )

        def keys(number: jax.Array, sums: Any) -> Any:
            by_tile_q, by_k, by_v = sums
            at = number * tiling.key_block
            tile_k, tile_v = (_take(part, at, tiling.key_block) for part in (k, v))
            scores, slope = _scores(tile_q, tile_k, tiling.softcap)
            weights = jnp.where(_seen(sight, start, at, tiling), jnp.exp(scores - tile_log), 0.0)
            by_weights = _product("bkgth,bskh->bkgts", tile_by, tile_v)
            by_scores = weights * (by_weights - tile_common)
            by_scores = (by_scores if slope is None else by_scores * slope).astype(q.dtype)
            by_k = _add(by_k, _product("bkgts,bkgth->bskh", by_scores, tile_q), at)
            by_v = _add(by_v, _product("bkgts,bkgth->bskh", weights.astype(q.dtype), tile_by), at)
            return by_tile_q + _product("bkgts,bskh->bkgth", by_scores, tile_k), by_k, by_v

        by_q, by_k, by_v = carry
        none = jnp.zeros(tile_q.shape, jnp.float32)
        by_tile_q, by_k, by_v = jax.lax.fori_loop(firsts[index], lasts[index], keys, (none, by_k, by_v))
        return _put(by_q, _flat(by_tile_q).astype(q.dtype), start), by_k, by_v

    start = jnp.zeros_like(q), jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    by_q, by_k, by_v = jax.lax.fori_loop(0, q.shape[1] // tiling.block, queries, start)
    return by_q, by_k.astype(k.dtype), by_v.astype(v.dtype), None


_attend.defvjp(_attend_forward, _attend_backward)


def _seen(sight: Sight, start: jax.Array, at: jax.Array, tiling: Tiling) -> jax.Array:
    """bool[B, 1, 1, t, s]: which keys of the tile which queries see."""
    places, key_places, window = sight
    mine = [_take(part, start, tiling.block)[:, :, None] for part in places]  # positions, segments [B, t, 1]
    theirs = [_take(part, at, tiling.key_block)[:, None, :] for part in key_places]  # [B, 1, s]
    ago = mine[0] - theirs[0]
    return ((mine[1] == theirs[1]) & (ago >= 0) & (ago < window))[:, None, None]


def _reach(sight: Sight, tiling: Tiling) -> tuple[jax.Array, jax.Array]:
    """For each block of queries the first key block in which a key may be seen, and the one after the last."""
    places, key_places, window = sight

    def spans(part: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        blocks = part.reshape(part.shape[0], -1, size)
        return jnp.min(blocks, axis=-1), jnp.max(blocks, axis=-1)  # [B, blocks] each

    def meet(low: jax.Array, high: jax.Array, other_low: jax.Array, other_high: jax.Array) -> jax.Array:
        return (low[:, :, None] <= other_high[:, None, :]) & (other_low[:, None, :] <= high[:, :, None])

    first, last = spans(places.positions, tiling.block)
    key_spans = spans(key_places.positions, tiling.key_block)
    near = meet(first - (window - 1), last, *key_spans)
    same = meet(*spans(places.segment_ids, tiling.block), *spans(key_places.segment_ids, tiling.key_block))
    seen = jnp.any(near & same, axis=0)  # [query blocks, key blocks]
    count = seen.shape[1]
    firsts = jnp.argmax(seen, axis=1).astype(jnp.int32)
    lasts = count - jnp.argmax(seen[:, ::-1], axis=1).astype(jnp.int32)
    return firsts, jnp.where(jnp.any(seen, axis=1), lasts, firsts)


def _scores(tile_q: jax.Array, tile_k: jax.Array, softcap: float | None) -> tuple[jax.Array, jax.Array | None]:
    """[B, K, G, t, H], [B, s, K, H] -> scores f32[B, K, G, t, s] and, with a softcap, their slope."""
    plain = _product("bkgth,bskh->bkgts", tile_q, tile_k)
    if softcap is None:
        return plain, None
    bent = jnp.tanh(plain / softcap)
    slope: jax.Array = 1.0 - jnp.square(bent)
    return softcap * bent, slope


def _mix(weights: jax.Array, tile_v: jax.Array) -> jax.Array:
    """[B, K, G, t, s], [B, s, K, H] -> f32[B, K, G, t, H]."""
    return _product("bkgts,bskh->bkgth", weights, tile_v)


def _product(formula: str, one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.einsum(formula, one, other, preferred_element_type=jnp.float32)


def _grouped(tile: jax.Array, kv_heads: int) -> jax.Array:
    """[B, t, N, ?] -> [B, K, G, t, ?]."""
    batch, length, heads, width = tile.shape
    return tile.reshape(batch, length, kv_heads, heads // kv_heads, width).transpose(0, 2, 3, 1, 4)


def _flat(tile: jax.Array) -> jax.Array:
    """[B, K, G, t, ?] -> [B, t, N, ?]."""
    batch, kv_heads, groups, length, width = tile.shape
    return tile.transpose(0, 3, 1, 2, 4).reshape(batch, length, kv_heads * groups, width)


def _take(whole: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """``size`` tokens [B, size, ...] from ``start``."""
    tile: jax.Array = jax.lax.dynamic_slice_in_dim(whole, start, size, axis=1)
    return tile


def _put(whole: jax.Array, tile: jax.Array, start: jax.Array) -> jax.Array:
    written: jax.Array = jax.lax.dynamic_update_slice_in_dim(whole, tile, start, axis=1)
    return written


def _add(whole: jax.Array, tile: jax.Array, start: jax.Array) -> jax.Array:
    return _put(whole, _take(whole, start, tile.shape[1]) + tile, start)


def _fill(part: jax.Array, block: int) -> jax.Array:
    """[B, T, ...] filled up with zeros to whole blocks."""
    missing = -part.shape[1] % block
    return jnp.pad(part, ((0, 0), (0, missing), *[(0, 0)] * (part.ndim - 2))) if missing else part


def _fill_places(places: TokenPositions, block: int, segment: int) -> TokenPositions:
    """Filled up with the last position, so that a block's span does not grow, and a segment of their own."""
    missing = (0, 0), (0, -places.positions.shape[1] % block)
    segments = jnp.pad(places.segment_ids, missing, constant_values=segment)
    return TokenPositions(jnp.pad(places.positions, missing, mode="edge"), segments)
