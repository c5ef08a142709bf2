"""8-bit matrices: the error of a weight and of a product is bounded, and does not depend on other rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.ops.matmul import matmul_turned
from engine.trainer.ops.quantized import int8_matmul, quantize


def normal(key: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(key), shape, jnp.float32)


def test_a_weight_is_off_by_half_a_step_at_most() -> None:
    """A step is 1/127 of the largest weight of its row; the largest itself is exact, as is a row of zeros."""
    matrix = normal(0, 40, 64).at[3].set(0.0)
    found = quantize(matrix)
    assert found.values.dtype == jnp.int8
    assert found.values.nbytes + found.scale.nbytes < matrix.nbytes * 0.27
    error = np.abs(np.asarray(found[jnp.arange(40, dtype=jnp.int32)] - matrix))
    largest = np.abs(np.asarray(matrix)).max(axis=1, keepdims=True)
    assert np.all(error <= 0.5 / 127 * largest * (1 + 1e-5))
    assert np.all(error[3] == 0)


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e20])
def test_a_product_is_that_of_the_rounded_weights(size: float) -> None:
    """Activations keep 15 bits of the row's largest: the product is within 2^-15 of that times the sum of the weights."""
    x, matrix = normal(1, 5, 256).at[2].set(0.0) * size, quantize(normal(2, 30, 256))
    exact = np.asarray(x, np.float64) @ np.asarray(matrix[jnp.arange(30, dtype=jnp.int32)], np.float64).T
    found = np.asarray(int8_matmul(x, matrix), np.float64)
    weights = np.abs(np.asarray(matrix[jnp.arange(30, dtype=jnp.int32)], np.float64)).sum(axis=1)
    bound = np.abs(np.asarray(x)).max(axis=1)[:, None] * weights[None, :] * 2.0**-15
    assert np.all(np.abs(found - exact) <= bound + 1e-6 * np.abs(exact))
    assert np.all(found[2] == 0)


def test_a_row_is_the_same_to_the_bit_beside_others() -> None:
    """In another place, beside other rows a million times as large: a row's scale is its own."""
    x, matrix = normal(3, 9, 128), quantize(normal(4, 50, 128))
    whole = np.asarray(matmul_turned(x, matrix))
    assert np.array_equal(whole[::-1], matmul_turned(x[::-1], matrix))
    assert np.array_equal(whole[4], matmul_turned((x * 1e6).at[4].set(x[4]), matrix)[4])


def test_dtypes_follow_the_activations() -> None:
    """bfloat16 in, bfloat16 out; float32 where it is asked for."""
    x, matrix = normal(5, 2, 32).astype(jnp.bfloat16), quantize(normal(6, 8, 32))
    assert matmul_turned(x, matrix).dtype == jnp.bfloat16
    assert matmul_turned(x, matrix, out=jnp.float32).dtype == jnp.float32
