"""The product of a gated MLP: its gradient beside autodiff's of the plain formula, and what a train step holds for it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.ops.gelu import gelu_product


def plain(gate: jax.Array, up: jax.Array) -> jax.Array:
    """The formula that jax differentiates itself."""
    return jax.nn.gelu(gate, approximate=True) * up


def draw(dtype: str, scale: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """gate, up and the gradient of the product, [64, 48]."""
    keys = jax.random.split(jax.random.key(3), 3)
    gate, up, by_out = (jax.random.normal(key, (64, 48), jnp.float32) for key in keys)
    return (scale * gate).astype(dtype), up.astype(dtype), by_out.astype(dtype)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_value_and_gradients_are_those_of_autodiff(scale: float) -> None:
    """float32: the same value to the bit, gradients to rounding; small, usual and saturated gates."""
    gate, up, by_out = draw("float32", scale)
    (ours, back), (theirs, theirs_back) = jax.vjp(gelu_product, gate, up), jax.vjp(plain, gate, up)
    np.testing.assert_array_equal(ours, theirs)
    for mine, expected in zip(back(by_out), theirs_back(by_out), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=2e-6 * scale)


def test_gradients_in_bfloat16_are_as_near_to_the_truth() -> None:
    """Beside float32's of the same numbers: no further away than twice what plain autodiff is in bfloat16."""
    gate, up, by_out = draw("bfloat16", 1.0)
    truth = jax.vjp(plain, *(x.astype(jnp.float32) for x in (gate, up)))[1](by_out.astype(jnp.float32))
    ours, theirs = jax.vjp(gelu_product, gate, up)[1](by_out), jax.vjp(plain, gate, up)[1](by_out)
    for mine, expected, exact in zip(ours, theirs, truth, strict=True):
        assert mine.dtype == jnp.bfloat16
        error, allowed = (float(jnp.max(jnp.abs(x.astype(jnp.float32) - exact))) for x in (mine, expected))
        assert error <= 2 * allowed


def test_a_gate_beyond_all_numbers_stays_what_it_is() -> None:
    """A non-finite activation reaches the loss: no gradient hides it."""
    gate = jnp.array([jnp.inf, jnp.nan], jnp.float32)
    value, back = jax.vjp(gelu_product, gate, jnp.ones(2))
    assert not np.isfinite(value).any()
    assert not np.isfinite(back(jnp.ones(2))[1]).any()


def test_the_backward_pass_holds_only_its_operands() -> None:
    """What is kept for it are gate and up themselves; plain autodiff keeps more."""
    gate, up, _ = draw("float32", 1.0)

    def held(function: Callable[[jax.Array, jax.Array], jax.Array]) -> list[jax.Array]:
        return [leaf for leaf in jax.tree.leaves(jax.vjp(function, gate, up)[1]) if leaf.shape == gate.shape]

    kept = held(gelu_product)
    assert len(kept) == 2
    np.testing.assert_array_equal(kept, [gate, up])
    assert len(held(plain)) > 2
