"""Matmuls in the dtype that the device multiplies fast: bfloat16, float16 with scaling, or float32.

In: activations [M, in] in the dtype of the residual stream, a weight [in, out] as it is stored. Out: [M, out] in the
stream's dtype (or in ``out``). Sums are float32 everywhere.

    rule = matmul_rule("auto", "bfloat16", jax.devices()[0])     # float16 on a T4, None (operands as they are) on a TPU
    out = matmul(x, weight, rule)

Operands are cast to the rule's dtype, in the backward pass too: the gradient of ``out`` is one of them there. Plain
autodiff would keep it in float32, and both matmuls of the backward pass with it.

**bfloat16 on CPUs** that multiply it (AMX, AVX512-BF16). XLA's CPU backend has fast kernels where the contraction runs
along the rows of the left operand, as they lie in memory; it is five times as slow where it runs down its columns, as
for the gradient of a weight, and where the compiler has turned an operand on its own. So ``row_major`` copies a
transposed left operand, and fixes the layout of both. ``python benchmarks/matmul.py`` prints the table.

**float16 for bfloat16 weights on a T4**: its matrix units support float16 only, and a bfloat16 matmul runs in float32
without them, at an eighth of the speed. So the stream, weights and gradients stay bfloat16, and only the operands of a
matmul become float16. Gemma's activations overflow float16 (its MLP's exceed 65504), and its gradients underflow it
(1 / tokens falls below its smallest step, 6e-8); a loss scale would help one and hurt the other. Here each operand is
first divided by a power of two, that of the largest number in its row (in the matmul over tokens: in the entire
operand). The division is exact, and undone in float32: only what float16's 11 bits cannot represent beside the largest
number of the row is lost, which is less than bfloat16 itself loses.

Source: NVIDIA, Turing architecture whitepaper (2018): T4 has FP16 tensor cores, 65 TFLOP/s, against 8.1 in FP32.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike

from engine.protocol.processor import multiplies_bfloat16
from engine.trainer.ops.quantized import Int8Matrix, int8_matmul

HALF = jnp.dtype("float16")
SMALLEST = 2.0**-126  # float32's smallest normal number: a row of zeros is divided by it
EXPONENT = 0x7F800000  # the bits of a float32's exponent

Pair = tuple[jax.Array, jax.Array]


class MatmulRule(NamedTuple):
    """How matmuls are computed: the dtype of the operands, and whether transposed ones are copied first."""

    dtype: str
    row_major: bool = False


def matmul_rule(declared: str, dtype: str, device: jax.Device) -> MatmulRule | None:
    """None: operands as they are. ``declared``: "auto" or a dtype; ``dtype``: that of weights and activations.

    "auto": float32 weights are multiplied in float32. bfloat16 is multiplied as such where it is native (TPUs, GPUs of
    compute capability 8.0 and later, CPUs with AMX or AVX512-BF16), as float16 where the matrix units support only that
    (7.x: V100, T4), and in float32 elsewhere (P100, other CPUs).
    """
    chosen = (dtype if dtype == "float32" else _native(device)) if declared == "auto" else declared
    if device.platform == "cpu" and chosen == "bfloat16":
        return MatmulRule("bfloat16", row_major=True)
    return None if chosen == dtype else MatmulRule(chosen)


def dtype_of(rule: MatmulRule | None, dtype: str) -> str:
    """The dtype of the operands, where ``dtype`` is that of weights and activations."""
    return dtype if rule is None else rule.dtype


def _native(device: jax.Device) -> str:
    """The dtype in which the device multiplies bfloat16 numbers."""
    if device.platform == "cpu":
        return "bfloat16" if multiplies_bfloat16() else "float32"
    capability = getattr(device, "compute_capability", None)  # NVIDIA's GPUs have one
    major = 8 if capability is None else int(str(capability).split(".", maxsplit=1)[0])
    if major >= 8:
        return "bfloat16"
    return "float16" if major == 7 else "float32"


def matmul(
    x: jax.Array, weight: jax.Array, rule: MatmulRule | None = None, *, out: DTypeLike | None = None
) -> jax.Array:
    """x [M, in] times weight [in, out] -> [M, out] in x's dtype or ``out``, by the rule. With gradients of both."""
    if rule is None:
        return jnp.matmul(x, weight.astype(x.dtype), preferred_element_type=out)
    if rule.dtype == "float32":  # nothing is narrowed: JAX's own gradient, whose matmuls a remat policy sees
        wide = jnp.matmul(x.astype(rule.dtype), weight.astype(rule.dtype), preferred_element_type=jnp.float32)
        return wide.astype(out or x.dtype)
    if rule.dtype == HALF:
        return _half(x, weight, jnp.dtype(out or x.dtype).name)
    return dot(x, weight, rule).astype(out or x.dtype)


def matmul_turned(
    x: jax.Array, weight: jax.Array | Int8Matrix, rule: MatmulRule | None = None, *, out: DTypeLike | None = None
) -> jax.Array:
    """:func:`matmul` with a weight that is stored as [out, in], for programs without gradients.

    The faster form in bfloat16 on a CPU (100 rows of 2048 by 512: by 18 %), and the one of a tied head.
    """
    if isinstance(weight, Int8Matrix):
        return int8_matmul(x, weight, out)
    if rule is not None and rule.dtype == HALF:
        return matmul(x, weight.T, rule, out=out)
    dtype = x.dtype if rule is None else rule.dtype
    return contract(x.astype(dtype), weight.astype(dtype), (-1, -1), rule).astype(out or x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dot(left: jax.Array, right: jax.Array, rule: MatmulRule) -> jax.Array:
    """left [..., M, K] times right [..., K, N] -> f32[..., M, N]; leading axes are the same. Not for float16."""
    return contract(left.astype(rule.dtype), right.astype(rule.dtype), (-1, -2), rule)


def _dot_forward(left: jax.Array, right: jax.Array, rule: MatmulRule) -> tuple[jax.Array, Pair]:
    return dot(left, right, rule), (left, right)


def _dot_backward(rule: MatmulRule, saved: Pair, by_out: jax.Array) -> Pair:
    left, right = saved
    by_out = by_out.astype(rule.dtype)
    by_left = contract(by_out, right.astype(rule.dtype), (-1, -1), rule)
    by_right = contract(left.astype(rule.dtype), by_out, (-2, -2), rule)
    return by_left.astype(left.dtype), by_right.astype(right.dtype)


dot.defvjp(_dot_forward, _dot_backward)


def contract(left: jax.Array, right: jax.Array, over: tuple[int, int], rule: MatmulRule | None = None) -> jax.Array:
    """The matmul in float32 sums of [..., a, b] and [..., c, d], leading axes alike, over one axis of each (-1 or -2).

    (-1, -2) is the plain matmul, [..., a, d]; (-1, -1) multiplies by the transposed right, (-2, -2) the transposed left.
    Operands keep their dtype; of ``rule`` only ``row_major`` counts.
    """
    by_rows = rule is not None and rule.row_major
    if by_rows:
        # Constraints on both sides and on the result: else the compiler folds the transposition into the matmul again,
        # or chooses a layout for which it has no kernel at all.
        left, right = _rows(left if over[0] == -1 else jnp.swapaxes(left, -1, -2)), _rows(right)
        over = (-1, over[1])
    rows = left.shape[-2]
    if by_rows and rows == 1:  # one row takes five times as long as eight
        left = jnp.concatenate([left, jnp.zeros((*left.shape[:-2], 7, left.shape[-1]), left.dtype)], axis=-2)
    leading, axes = tuple(range(left.ndim - 2)), left.ndim
    numbers = ((axes + over[0],), (axes + over[1],)), (leading, leading)
    out: jax.Array = jax.lax.dot_general(left, right, numbers, preferred_element_type=jnp.float32)
    return _rows(out)[..., :rows, :] if by_rows else out


def _rows(x: jax.Array) -> jax.Array:
    """The same array, with its last axis contiguous in memory."""
    rows: jax.Array = with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))
    return rows


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _half(x: jax.Array, weight: jax.Array, out: str) -> jax.Array:
    """x [M, in], weight [in, out] -> [M, out] in the dtype ``out``.

    The barriers, here and on the gradient, keep what is narrow narrow: the compiler would otherwise fuse the cast into
    every reader of the result, and keep the float32 product for them (for Gemma 2B at 8,192 tokens 512 MiB instead of 256,
    five times at once).
    """
    small, scale = _into_range(x, rows=True)
    wide = contract(small, weight.astype(HALF), (-1, -2)) * scale
    return _kept(wide.astype(out))


def _half_forward(x: jax.Array, weight: jax.Array, out: str) -> tuple[jax.Array, Pair]:
    return _half(x, weight, out), (x, weight)


def _half_backward(_: str, saved: Pair, by_out: jax.Array) -> Pair:
    x, weight = saved
    by_out = _kept(by_out)
    weight = _kept(weight)  # its cast in the forward pass would be kept until here
    small, scale = _into_range(by_out, rows=True)
    by_x = contract(small, weight.astype(HALF), (-1, -1)) * scale  # [M, in]
    (small_x, scale_x), (small, scale) = _into_range(x, rows=False), _into_range(by_out, rows=False)
    by_weight = contract(small_x, small, (-2, -2)) * scale_x * scale  # [in, out]
    return _kept(by_x.astype(x.dtype)), _kept(by_weight.astype(weight.dtype))


_half.defvjp(_half_forward, _half_backward)


def _kept(x: jax.Array) -> jax.Array:
    """The same array, which exists as such in the compiled program."""
    kept: jax.Array = jax.lax.optimization_barrier(x)
    return kept


def _into_range(x: jax.Array, *, rows: bool) -> tuple[jax.Array, jax.Array]:
    """(x over a power of two, f16 and below 2 in size; that power, f32[M, 1] or [1, 1]). Non-finite stays non-finite."""
    wide = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=1 if rows else None, keepdims=True)
    bits = jax.lax.bitcast_convert_type(largest, jnp.int32) & EXPONENT
    scale = jnp.maximum(jax.lax.bitcast_convert_type(bits, jnp.float32), SMALLEST)
    return (wide / scale).astype(HALF), scale
