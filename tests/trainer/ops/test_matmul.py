"""Matmuls in another dtype: as exact as the dtype for numbers of any size, and the device's own choice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.trainer.ops import matmul as module
from engine.trainer.ops.matmul import MatmulRule, dot, matmul, matmul_rule, matmul_turned
from tests.examples import examples

HALF_BITS = 2.0**-11  # what rounding to float16 changes at the most


def device(platform: str, capability: str | None = None) -> Any:
    extra = {} if capability is None else {"compute_capability": capability}
    return SimpleNamespace(platform=platform, **extra)


HALF, NARROW, WIDE = MatmulRule("float16"), MatmulRule("bfloat16"), MatmulRule("float32")
ROWS = MatmulRule("bfloat16", row_major=True)


@pytest.mark.parametrize(
    ("declared", "dtype", "where", "expected"),
    [
        ("auto", "bfloat16", device("tpu"), None),
        ("auto", "bfloat16", device("gpu", "9.0"), None),
        ("auto", "bfloat16", device("gpu", "8.0"), None),
        ("auto", "bfloat16", device("gpu", "7.5"), HALF),
        ("auto", "bfloat16", device("gpu", "7.0"), HALF),
        ("auto", "bfloat16", device("gpu", "6.0"), WIDE),
        ("auto", "float32", device("gpu", "7.5"), None),
        ("auto", "float32", device("cpu"), None),
        ("bfloat16", "bfloat16", device("gpu", "7.5"), None),
        ("bfloat16", "float32", device("gpu", "9.0"), NARROW),
        ("float16", "float32", device("gpu", "7.5"), HALF),
        ("float32", "bfloat16", device("tpu"), WIDE),
        ("float32", "float32", device("cpu"), None),
        ("bfloat16", "float32", device("cpu"), ROWS),
        ("bfloat16", "bfloat16", device("cpu"), ROWS),
    ],
)
def test_the_device_decides_unless_told(declared: str, dtype: str, where: Any, expected: MatmulRule | None) -> None:
    assert matmul_rule(declared, dtype, where) == expected


@pytest.mark.parametrize(("has_units", "expected"), [(True, ROWS), (False, WIDE)])
def test_a_cpu_multiplies_bfloat16_where_its_processor_does(
    has_units: bool, expected: MatmulRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto asks the processor; weights in float32 stay float32 on any."""
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: has_units)
    assert matmul_rule("auto", "bfloat16", device("cpu")) == expected
    assert matmul_rule("auto", "float32", device("cpu")) is None


@pytest.mark.parametrize("rule", [NARROW, ROWS])
@pytest.mark.parametrize("leading", [(), (2, 3)])
@settings(deadline=None, max_examples=examples(20))
@given(sizes=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 2**32 - 1))
def test_bfloat16_matmuls_round_their_operands_and_nothing_else(
    rule: MatmulRule, leading: tuple[int, ...], sizes: tuple[int, int, int], seed: int
) -> None:
    """Forward and backward, with and without leading axes: the float64 matmul of the rounded operands, in float32 sums."""
    rows, inner, columns = sizes
    rng = np.random.default_rng(seed)
    shapes = (*leading, rows, inner), (*leading, inner, columns), (*leading, rows, columns)
    left, right, by_out = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    out, back = jax.vjp(lambda left, right: dot(left, right, rule), jnp.asarray(left), jnp.asarray(right))
    by_left, by_right = back(jnp.asarray(by_out))
    low = [array.astype(jnp.bfloat16).astype(np.float64) for array in (left, right, by_out)]
    turned = [np.swapaxes(array, -1, -2) for array in low]
    for found, first, second in ((out, low[0], low[1]), (by_left, low[2], turned[1]), (by_right, turned[0], low[2])):
        assert found.dtype == jnp.float32
        bound = 2.0**-22 * inner_sum(np.abs(first), np.abs(second)) + 1e-30
        assert np.all(np.abs(np.asarray(found, np.float64) - first @ second) <= bound)


@pytest.mark.parametrize("rule", [None, NARROW, ROWS, HALF])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_turned_weight_gives_the_same(rule: MatmulRule | None, rows: int) -> None:
    """[out, in] as [in, out], to rounding; the one row that is padded, too."""
    x, weight = (jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate([(rows, 16), (16, 6)]))
    found = matmul_turned(x, weight.T, rule)
    assert found.shape == (rows, 6)
    np.testing.assert_allclose(found, matmul(x, weight, rule), rtol=1e-5, atol=1e-6)


def inner_sum(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the summands of a matmul add up to in size."""
    summed: np.ndarray[Any, Any] = left @ right
    return summed


@pytest.mark.parametrize("shape", [(64, 32, 48), (2, 64, 32, 48)])
def test_every_operand_of_a_cpus_bfloat16_matmuls_lies_in_rows(shape: tuple[int, ...]) -> None:
    """The contraction runs along the rows of the left operand, and no layout is turned: else it takes five times as long."""
    *leading, rows, inner, columns = shape

    def loss(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(dot(left, right, ROWS)))

    shapes = [jax.ShapeDtypeStruct((*leading, *size), jnp.float32) for size in ((rows, inner), (inner, columns))]
    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile().as_text()
    bodies = [body for body in re.split(r"\n\n", text) if " dot(" in body]
    products = re.findall(r"= f32\S+ dot\(.*", "\n".join(bodies))
    assert len(products) == 3
    last = len(leading) + 1
    for line in products:
        assert f"lhs_contracting_dims={{{last}}}" in line
    in_rows = ",".join(str(axis) for axis in range(last, -1, -1))
    layouts = re.findall(r"= (?:f32|bf16)\[[\d,]+\]\{([\d,]+)\} (?:dot|parameter)\(", "\n".join(bodies))
    assert len(layouts) >= 3
    assert {layout for layout in layouts if layout.count(",") == last} == {in_rows}


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
    out, back = jax.vjp(lambda x, weight: matmul(x, weight, HALF), jnp.asarray(x), jnp.asarray(weight))
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
    found = np.asarray(matmul(x, jnp.ones((2, 2)), HALF))
    assert found[0].tolist() == [0.0, 0.0]
    assert not np.isfinite(found[1:3]).any()
    assert found[3].tolist() == [3.0, 3.0]


def test_the_operands_really_are_half() -> None:
    """Every matmul of the program, forward and backward, has float16 operands and a float32 result."""

    def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(matmul(x, weight, HALF))

    shapes = jax.ShapeDtypeStruct((4, 8), jnp.bfloat16), jax.ShapeDtypeStruct((8, 2), jnp.bfloat16)
    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 2  # forwards is not needed here
    assert all("xf16>" in line.split("->")[0] and line.rstrip().endswith("xf32>") for line in products)


def test_float32_matmuls_of_bfloat16_are_exact_before_rounding() -> None:
    x, weight = (jax.random.normal(jax.random.key(n), (64, 64)).astype(jnp.bfloat16) for n in (0, 1))
    found = matmul(x, weight, WIDE)
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2.0**-8, atol=1e-4)


def test_scaled_matmuls_keep_narrow_arrays() -> None:
    """Result, cotangent, weight and both gradients pass a barrier in bfloat16, so that no float32 copy of them is what stays."""
    x, weight = jnp.ones((4, 8), jnp.bfloat16), jnp.ones((8, 16), jnp.bfloat16)

    def gradients(x: jax.Array, weight: jax.Array, by_out: jax.Array) -> tuple[jax.Array, ...]:
        out, back = jax.vjp(lambda x, weight: matmul(x, weight, HALF), x, weight)
        return (out, *back(by_out))

    jaxpr = jax.make_jaxpr(gradients)(x, weight, jnp.ones((4, 16), jnp.bfloat16)).jaxpr
    barred = [
        var.aval for eqn in _equations(jaxpr) if eqn.primitive.name == "optimization_barrier" for var in eqn.invars
    ]
    assert sorted(aval.shape for aval in barred) == [(4, 8), (4, 16), (4, 16), (8, 16), (8, 16)]
    assert {aval.dtype for aval in barred} == {jnp.dtype("bfloat16")}


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Of a program, and of the programs within."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from _equations(inner)
