"""Each layer by itself against the numpy implementation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.models import layers


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_rms_norm_equals_the_plain_formula(reference: SimpleNamespace) -> None:
    """The norm divides by the root mean square and multiplies by 1 + weight."""
    x, weight = normal(5, 16), normal(16, seed=1)
    ours = layers.rms_norm(x, weight, 1e-6)
    np.testing.assert_allclose(ours, reference.norm(np.float64(x), np.float64(weight), 1e-6), atol=1e-6)


def test_rms_norm_in_bf16_rounds_once_at_the_end(reference: SimpleNamespace) -> None:
    """A bf16 norm is the f32 result rounded once: no intermediate result is rounded."""
    x, weight = normal(64, 16).astype(jnp.bfloat16), normal(16, seed=1).astype(jnp.bfloat16)
    exact = layers.rms_norm(x.astype(jnp.float32), weight.astype(jnp.float32), 1e-6)
    assert jnp.array_equal(layers.rms_norm(x, weight, 1e-6), exact.astype(jnp.bfloat16))


def test_rotation_equals_the_plain_formula(reference: SimpleNamespace) -> None:
    """Pairs are half-split, and angles are position times theta^(-2i/H)."""
    x = normal(1, 7, 3, 6)
    positions = jnp.array([[0, 1, 2, 0, 1, 300, 8000]], jnp.int32)
    ours = layers.rotate(x, *layers.rope_tables(positions, 6, 10000.0))
    for head in range(3):
        expected = reference.rotate(np.float64(x[0, :, head]), np.asarray(positions[0]), 10000.0)
        np.testing.assert_allclose(ours[0, :, head], expected, atol=2e-4)  # f32 angles near 8000 are exact to 5e-4 rad


def test_rotation_tells_late_positions_apart_in_bf16() -> None:
    """Positions 256 and 257 differ although bf16 cannot represent 257: the angles are f32."""
    cos, sin = layers.rope_tables(jnp.array([[256, 257]], jnp.int32), 6, 10000.0)
    turned = layers.rotate(jnp.ones((1, 2, 1, 6), jnp.bfloat16), cos, sin)
    assert not jnp.array_equal(turned[0, 0], turned[0, 1])


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (4, 2), (4, 4), (1, 1)])
def test_attention_equals_head_by_head(reference: SimpleNamespace, heads: int, kv_heads: int) -> None:
    """Multi-query, grouped and full attention equal the loop over heads."""
    q, k, v = normal(1, 5, heads, 6), normal(1, 9, kv_heads, 6, seed=1), normal(1, 9, kv_heads, 6, seed=2)
    mask = jax.random.bernoulli(jax.random.key(3), 0.6, (1, 5, 9)).at[:, :, 0].set(True)
    expected = reference.attention(*(np.float64(part[0]) for part in (q, k, v)), np.asarray(mask[0]))
    np.testing.assert_allclose(layers.attention(q, k, v, mask)[0], expected, atol=1e-6)


def test_attention_of_a_row_that_sees_nothing_is_finite() -> None:
    """A fully masked query gives numbers, not NaN, forwards and backwards."""
    q, k, mask = normal(1, 2, 1, 4), normal(1, 3, 1, 4), jnp.zeros((1, 2, 3), bool)
    grad = jax.grad(lambda q: layers.attention(q, k, k, mask).sum())(q)
    assert jnp.isfinite(layers.attention(q, k, k, mask)).all()
    assert jnp.isfinite(grad).all()


@pytest.mark.parametrize("length", [64, *(pytest.param(length, marks=pytest.mark.slow) for length in (65, 300))])
def test_attention_in_pieces_is_attention(length: int) -> None:
    """Result and gradients, with a soft cap, packed rows and a window; later tokens have no effect, not even NaN."""
    q, k, v = normal(2, length, 4, 8), normal(2, length, 2, 8, seed=1), normal(2, length, 2, 8, seed=2)
    segments = jnp.broadcast_to(jnp.arange(length) // 40, (2, length))
    places = jnp.arange(length)
    near = places[:, None] - places[None, :] < 30
    mask = layers.causal_mask(segments, 2, length) & near[None]

    def weighed(attend: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda q, k, v: jnp.sum(jnp.cos(attend(q, k, v, mask, softcap=20.0)))

    expected = layers.attention(q, k, v, mask, softcap=20.0)
    np.testing.assert_allclose(layers.causal_attention(q, k, v, mask, softcap=20.0), expected, atol=1e-5)
    theirs, ours = (
        jax.grad(weighed(attend), argnums=(0, 1, 2))(q, k, v) for attend in (layers.attention, layers.causal_attention)
    )
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    if length == 300:
        poisoned = layers.causal_attention(q, k.at[:, 128:].set(jnp.nan), v, mask)[:, :128]
        assert bool(jnp.isfinite(poisoned).all()), "of the keys ahead of a piece none is multiplied"


def test_a_masked_key_has_no_weight_however_large_its_score() -> None:
    """A masked score of 40,000 has no effect beside an unmasked one of -40,000."""
    q, k = jnp.full((1, 1, 1, 4), 100.0), jnp.array([-100.0, 100.0])[None, :, None, None] * jnp.ones((1, 2, 1, 4))
    v = jnp.array([3.0, 7.0])[None, :, None, None] * jnp.ones((1, 2, 1, 4))
    assert (layers.attention(q, k, v, jnp.array([[[True, False]]])) == 3.0).all()


def test_mlp_uses_the_tanh_gelu(reference: SimpleNamespace) -> None:
    """The gated MLP equals the tanh formula, and differs from the exact gelu by more than the tolerance."""
    x, gate, up, down = normal(6, 8), normal(8, 12, seed=1), normal(8, 12, seed=2), normal(12, 8, seed=3)
    wide = [np.float64(part) for part in (x, gate, up, down)]
    expected = reference.gelu(wide[0] @ wide[1]) * (wide[0] @ wide[2]) @ wide[3]
    exact = (jax.nn.gelu(x @ gate, approximate=False) * (x @ up)) @ down
    np.testing.assert_allclose(layers.gated_mlp(x, {"gate": gate, "up": up, "down": down}), expected, atol=2e-5)
    assert np.abs(exact - expected).max() > 1e-3


def test_mask_is_causal_inside_a_segment() -> None:
    """A token attends to itself and earlier tokens of its segment, with any segment ids."""
    segments = jnp.array([[1, 1, 2, 2, 0]])
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert layers.causal_mask(segments, 1, 5)[0].astype(int).tolist() == expected


def test_mask_without_segments_is_the_triangle(tokens_and_positions: Callable[..., object]) -> None:
    """No segment ids: every row is one segment."""
    assert jnp.array_equal(layers.causal_mask(None, 2, 4)[1], jnp.tril(jnp.ones((4, 4), bool)))
