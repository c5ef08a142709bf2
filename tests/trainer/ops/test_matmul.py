"""Matmuls in another dtype: as exact as the dtype for numbers of any size, and the device's own choice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.trainer.ops.matmul import matmul, resolve_matmul_dtype
from tests.examples import examples

HALF_BITS = 2.0**-11  # what rounding to float16 changes at the most


def device(platform: str, capability: str | None = None) -> Any:
    extra = {} if capability is None else {"compute_capability": capability}
    return SimpleNamespace(platform=platform, **extra)


@pytest.mark.parametrize(
    ("declared", "dtype", "where", "expected"),
    [
        ("auto", "bfloat16", device("tpu"), None),
        ("auto", "bfloat16", device("gpu", "9.0"), None),
        ("auto", "bfloat16", device("gpu", "8.0"), None),
        ("auto", "bfloat16", device("gpu", "7.5"), "float16"),
        ("auto", "bfloat16", device("gpu", "7.0"), "float16"),
        ("auto", "bfloat16", device("gpu", "6.0"), "float32"),
        ("auto", "bfloat16", device("cpu"), "float32"),
        ("auto", "float32", device("gpu", "7.5"), None),
        ("auto", "float32", device("cpu"), None),
        ("bfloat16", "bfloat16", device("gpu", "7.5"), None),
        ("float16", "float32", device("gpu", "7.5"), "float16"),
        ("float32", "bfloat16", device("tpu"), "float32"),
    ],
)
def test_the_device_decides_unless_told(declared: str, dtype: str, where: Any, expected: str | None) -> None:
    assert resolve_matmul_dtype(declared, dtype, where) == expected


@settings(deadline=None, max_examples=examples(60))  # the first example compiles
@given(sizes=st.tuples(st.integers(-30, 30), st.integers(-30, 30), st.integers(-6, 3)), seed=st.integers(0, 2**32 - 1))
def test_float16_matmuls_work_at_any_scale(sizes: tuple[int, int, int], seed: int) -> None:
    """Activations and gradients from 2^-30 to 2^30, far outside float16's range: forward and backward as exact as 11 bits.

    Bounds: each of K summands is off by what rounding its two factors changes.
    """
    rng = np.random.default_rng(seed)
    x, weight, by_out = (
        (rng.standard_normal(shape) * 2.0**size).astype(np.float32)
        for shape, size in zip([(5, 16), (16, 3), (5, 3)], (sizes[0], sizes[2], sizes[1]), strict=True)
    )
    out, back = jax.vjp(lambda x, weight: matmul(x, weight, "float16"), jnp.asarray(x), jnp.asarray(weight))
    by_x, by_weight = back(jnp.asarray(by_out))
    for found, left, right in ((out, x, weight), (by_x, by_out, weight.T), (by_weight, x.T, by_out)):
        exact = left.astype(np.float64) @ right.astype(np.float64)
        # Numbers 24 bits below the largest of their row (or of all) are lost.
        lost = (
            2.0**-24 * np.abs(left).max() * np.abs(right).sum(0) + 2.0**-24 * np.abs(right).max() * np.abs(left).sum()
        )
        bound = 2.1 * HALF_BITS * (np.abs(left).astype(np.float64) @ np.abs(right)) + lost
        assert np.all(np.abs(np.asarray(found, np.float64) - exact) <= bound)


def test_a_row_of_zeros_is_zero_and_non_finite_stays_non_finite() -> None:
    """Rows of zeros are not divided by zero; a NaN or an infinity reaches the loss, where the step is skipped."""
    x = jnp.asarray([[0.0, 0.0], [jnp.nan, 1.0], [jnp.inf, 1.0], [1.0, 2.0]])
    found = np.asarray(matmul(x, jnp.ones((2, 2)), "float16"))
    assert found[0].tolist() == [0.0, 0.0]
    assert not np.isfinite(found[1:3]).any()
    assert found[3].tolist() == [3.0, 3.0]


def test_the_operands_really_are_half() -> None:
    """Every matmul of the program, forward and backward, has float16 operands and a float32 result."""

    def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(matmul(x, weight, "float16"))

    shapes = jax.ShapeDtypeStruct((4, 8), jnp.bfloat16), jax.ShapeDtypeStruct((8, 2), jnp.bfloat16)
    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 2  # forwards is not needed here
    assert all("xf16>" in line.split("->")[0] and line.rstrip().endswith("xf32>") for line in products)


def test_float32_matmuls_of_bfloat16_are_exact_before_rounding() -> None:
    x, weight = (jax.random.normal(jax.random.key(n), (64, 64)).astype(jnp.bfloat16) for n in (0, 1))
    found = matmul(x, weight, "float32")
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2.0**-8, atol=1e-4)
