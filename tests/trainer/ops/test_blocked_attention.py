"""Attention in blocks against the layer's own attention with the full mask: values, gradients, memory, skipping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.models import layers
from engine.trainer.ops.blocked_attention import (
    EVERYTHING,
    MaskInputs,
    Tiling,
    TokenPositions,
    _key_blocks,
    blocked_attention,
)

BATCH, HEADS, KV_HEADS, HEAD_DIM = 2, 4, 2, 6


def _arrays(length: int, kv_heads: int = KV_HEADS, batch: int = BATCH, dtype: Any = jnp.float32) -> Any:
    """q, k, v."""
    draw = np.random.default_rng(0)
    shapes = [(batch, length, heads, HEAD_DIM) for heads in (HEADS, kv_heads, kv_heads)]
    return [jnp.asarray(draw.normal(size=shape), dtype) for shape in shapes]


def _packed(length: int, batch: int = BATCH) -> TokenPositions:
    """Rows of segments of 7 tokens (row 0), 11 (row 1), ..., the last tokens padding (segment 0)."""
    positions, segments = [], []
    for row in range(batch):
        index = np.arange(length)
        size = 7 + 4 * row
        positions.append(index % size)
        segments.append(np.where(index < length - 3, 1 + index // size, 0))
    return TokenPositions(jnp.asarray(positions, jnp.int32), jnp.asarray(segments, jnp.int32))


def _one_segment(length: int, batch: int = BATCH) -> TokenPositions:
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
    return TokenPositions(positions, jnp.ones_like(positions))


def _mask(places: TokenPositions, window: int) -> jax.Array:
    """bool[B, T, T], written out."""
    ago = places.positions[:, :, None] - places.positions[:, None, :]
    return (places.segment_ids[:, :, None] == places.segment_ids[:, None, :]) & (ago >= 0) & (ago < window)


def _capped(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, softcap: float) -> jax.Array:
    """Attention with a softcap, head by head."""
    k, v = (jnp.repeat(part, q.shape[2] // part.shape[2], axis=2) for part in (k, v))
    scores = softcap * jnp.tanh(jnp.einsum("btnh,bsnh->bnts", q, k) / softcap)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


def _value_and_grads(function: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
    weights = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), jnp.float32)

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        result = function(q, k, v)
        return jnp.sum(result.astype(jnp.float32) * weights), result

    return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)


def _assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other.astype(jnp.float32), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("length", "block", "key_block", "window", "kv_heads", "packed"),
    [
        (32, 8, 8, None, 2, True),
        (29, 8, 5, None, 1, False),  # ragged in both, multi-query
        (29, 64, 64, 9, 4, True),  # one tile, full attention
        (40, 8, 16, 9, 2, False),
        (29, 16, 4, 1, 2, True),  # only itself
    ],
)
def test_it_is_the_layers_attention(
    length: int, block: int, key_block: int, window: int | None, kv_heads: int, packed: bool
) -> None:
    """Any tiling, ragged or not, with and without window and packing: values and gradients to 1e-5."""
    arrays, places = _arrays(length, kv_heads), (_packed if packed else _one_segment)(length)
    mask = _mask(places, window or EVERYTHING)
    ours = _value_and_grads(
        lambda q, k, v: blocked_attention(q, k, v, places, window=window, block=block, key_block=key_block), *arrays
    )
    _assert_close(ours, _value_and_grads(lambda q, k, v: layers.attention(q, k, v, mask), *arrays))


def test_softcap_and_a_traced_window() -> None:
    """Gemma 2: scores are capped before the mask, and the window may be traced by a loop over layers."""
    arrays, places = _arrays(29), _packed(29)

    @jax.jit
    def ours(window: jax.Array) -> Any:
        def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return blocked_attention(q, k, v, places, window=window, softcap=1.5, block=8)

        return _value_and_grads(attend, *arrays)

    for window in (4, EVERYTHING):
        mask = _mask(places, window)
        expected = _value_and_grads(lambda q, k, v, mask=mask: _capped(q, k, v, mask, 1.5), *arrays)
        _assert_close(ours(jnp.int32(window)), expected)


def test_bfloat16_is_float32_rounded() -> None:
    """bfloat16 in, bfloat16 out, sums in float32: within two steps of the largest number."""
    places = _packed(29)
    arrays = _arrays(29, dtype=jnp.bfloat16)
    function = lambda q, k, v: blocked_attention(q, k, v, places, block=8)  # noqa: E731
    ours = _value_and_grads(function, *arrays)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(ours)} == {"bfloat16"}
    wide = _value_and_grads(function, *(part.astype(jnp.float32) for part in arrays))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(wide), strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=2.0**-7 * float(jnp.max(jnp.abs(other))))


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    """Its gradients are zeros too: an empty sum gives no NaN."""
    q, k, v = _arrays(8)
    places = _one_segment(8)
    elsewhere = TokenPositions(places.positions, places.segment_ids + 1)
    function = lambda q, k, v: blocked_attention(q, k, v, places, elsewhere, block=4)  # noqa: E731
    for leaf in jax.tree.leaves(_value_and_grads(function, q, k, v)):
        assert not jnp.any(leaf)


def test_tiles_out_of_reach_are_skipped() -> None:
    """The key blocks of each query block: causal, in the window, of the same segments, over all rows together."""

    def reach(places: TokenPositions, window: int) -> list[tuple[int, int]]:
        firsts, lasts = _key_blocks(MaskInputs(places, places, jnp.int32(window)), Tiling(None, 8, 8))
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

    assert reach(_one_segment(32), EVERYTHING) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert reach(_one_segment(32), 9) == [(0, 1), (0, 2), (1, 3), (2, 4)]
    assert reach(_one_segment(32), 10) == [(0, 1), (0, 2), (0, 3), (1, 4)]
    index = jnp.arange(32, dtype=jnp.int32)[None]
    halves = TokenPositions(index % 16, 1 + index // 16)
    assert reach(halves, EVERYTHING) == [(0, 1), (0, 2), (2, 3), (2, 4)]
    both = TokenPositions(*(jnp.concatenate(parts) for parts in zip(halves, _one_segment(32, 1), strict=True)))
    assert reach(both, EVERYTHING) == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_no_scores_of_all_queries_with_all_keys() -> None:
    """Compiled for 2048 tokens with gradients, memory is below a tenth of one [N, T, T]; plain attention is above it."""
    length = 2048
    arrays, places = _arrays(length, batch=1), _one_segment(length, 1)
    whole = HEADS * length * length * 4

    def room(function: Any) -> int:
        def total(*arrays: jax.Array) -> jax.Array:
            return jnp.sum(function(*arrays))

        compiled = jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(*arrays).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert room(lambda q, k, v: blocked_attention(q, k, v, places, block=128)) < whole / 10
    assert room(lambda q, k, v: layers.attention(q, k, v, _mask(places, EVERYTHING))) > whole
