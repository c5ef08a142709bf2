"""Stochastic rounding: right on average, a function of key and index only, leaving non-finite values unchanged."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.optim.rules import slice_key
from engine.trainer.optim.stochastic_rounding import round_stochastically

BETWEEN = 1.0 + 1 / 512  # a quarter of the way from 1 to the next bfloat16


def _ups(key: jax.Array, shape: tuple[int, ...] = (200, 500)) -> np.ndarray:
    """Which of many equal values were rounded up."""
    return np.asarray(round_stochastically(jnp.full(shape, BETWEEN, jnp.float32), key)) > 1.0


def test_it_is_right_on_average() -> None:
    """Each value goes to one of its two bfloat16 neighbours; the mean of many is the value, negative ones too."""
    values = jnp.full((100_000,), BETWEEN, jnp.float32)
    for sign in (1.0, -1.0):
        rounded = round_stochastically(sign * values, jax.random.key(0)).astype(jnp.float32)
        assert set(np.unique(sign * rounded).tolist()) == {1.0, 1.0 + 1 / 128}
        assert float(sign * rounded.mean()) == pytest.approx(BETWEEN, abs=3e-5)  # 3 standard errors


def test_what_bfloat16_can_hold_stays() -> None:
    """Exact values, infinities and NaN of either sign are unchanged."""
    kept = jnp.asarray([0.0, -0.0, -2.5, 1.0078125, np.inf, -np.inf], jnp.float32)
    for seed in range(20):
        np.testing.assert_array_equal(round_stochastically(kept, jax.random.key(seed)).astype(jnp.float32), kept)
        nans = jax.lax.bitcast_convert_type(jnp.asarray([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], jnp.uint32), jnp.float32)
        assert jnp.isnan(round_stochastically(nans, jax.random.key(seed))).all()


def test_a_block_of_rows_rounds_as_within_the_matrix() -> None:
    """The bits depend on the index: rows 40 to 60 alone are rounded as within the matrix."""
    values = jax.random.normal(jax.random.key(1), (100, 30))
    whole = round_stochastically(values, jax.random.key(0))
    block = round_stochastically(values[40:60], jax.random.key(0), rows=jnp.arange(40, 60, dtype=jnp.int32))
    assert jnp.array_equal(block, whole[40:60])


def test_steps_leaves_layers_and_neighbours_are_independent() -> None:
    """A quarter is rounded up everywhere; a sixteenth in any two of: steps, leaves, layers, rows, columns."""
    step = [jax.random.fold_in(jax.random.key(42), number) for number in (0, 1)]
    first = _ups(slice_key(step[0], "layers.q", 0))
    others = [
        _ups(slice_key(step[1], "layers.q", 0)),
        _ups(slice_key(step[0], "layers.k", 0)),
        _ups(slice_key(step[0], "layers.q", 1)),
    ]
    pairs = [(first, other) for other in others] + [(first[1:], first[:-1]), (first[:, 1:], first[:, :-1])]
    for one, other in pairs:
        assert one.mean() == pytest.approx(0.25, abs=0.005)  # 3.6 standard errors
        assert (one & other).mean() == pytest.approx(1 / 16, abs=0.003)  # 3.9 standard errors
    assert first.mean(axis=0).std() == pytest.approx(np.sqrt(0.25 * 0.75 / 200), rel=0.15)
    assert first.mean(axis=1).std() == pytest.approx(np.sqrt(0.25 * 0.75 / 500), rel=0.2)
