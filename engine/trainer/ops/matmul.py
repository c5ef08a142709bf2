"""Matmuls with weights in the dtype that the device multiplies fast: bfloat16, float16 with scaling, or float32.

In: activations [M, in] in the dtype of the residual stream, a weight [in, out] as it is stored. Out: [M, out] in the
stream's dtype (or in ``out``). Sums are float32 everywhere.

    dtype = resolve_matmul_dtype("auto", "bfloat16", jax.devices()[0])     # "float16" on a T4, None (unchanged) on a TPU
    out = matmul(x, weight, dtype)

bfloat16 weights on a T4: its matrix units support float16 only, and a bfloat16 matmul runs in float32 without them,
at an eighth of the speed. So the stream, weights and gradients stay bfloat16, and only the operands of a matmul become
float16. Gemma's activations overflow float16 (its MLP's exceed 65504), and its gradients underflow it (1 / tokens falls
below its smallest step, 6e-8); a loss scale would help one and hurt the other. Here each operand is first divided by a
power of two, that of the largest number in its row (in the matmul over tokens: in the entire operand). The division is
exact, and undone in float32: only what float16's 11 bits cannot represent beside the largest number of the row is lost,
which is less than bfloat16 itself loses.

Source: NVIDIA, Turing architecture whitepaper (2018): T4 has FP16 tensor cores, 65 TFLOP/s, against 8.1 in FP32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

HALF = jnp.dtype("float16")
SMALLEST = 2.0**-126  # float32's smallest normal number: a row of zeros is divided by it
EXPONENT = 0x7F800000  # the bits of a float32's exponent


def resolve_matmul_dtype(declared: str, dtype: str, device: jax.Device) -> str | None:
    """The dtype of matmuls; None: that of the operands. ``declared``: "auto" or a dtype; ``dtype``: the weights'.

    "auto": float32 weights are multiplied in float32. bfloat16 is multiplied as such where it is native (TPUs, GPUs of
    compute capability 8.0 and later), as float16 where the matrix units support only that (7.x: V100, T4), and in
    float32 elsewhere (P100, CPU).
    """
    if declared != "auto":
        return None if declared == dtype else declared
    if dtype == "float32":
        return None
    if device.platform == "cpu":
        return "float32"
    capability = getattr(device, "compute_capability", None)  # NVIDIA's GPUs have one
    major = 8 if capability is None else int(str(capability).split(".", maxsplit=1)[0])
    if major >= 8:
        return None
    return "float16" if major == 7 else "float32"


def matmul(
    x: jax.Array, weight: jax.Array, dtype: DTypeLike | None = None, *, out: DTypeLike | None = None
) -> jax.Array:
    """x [M, in] times weight [in, out] -> [M, out] in x's dtype or ``out``; with ``dtype`` both operands are cast to it."""
    if dtype is None:
        return jnp.matmul(x, weight.astype(x.dtype), preferred_element_type=out)
    if jnp.dtype(dtype) == HALF:
        return _half(x, weight).astype(out or x.dtype)
    wide = jnp.matmul(x.astype(dtype), weight.astype(dtype), preferred_element_type=jnp.float32)
    return wide.astype(out or x.dtype)


@jax.custom_vjp
def _half(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [M, in], weight [in, out] -> f32[M, out]."""
    small, scale = _into_range(x, rows=True)
    return _dot(small, weight.astype(HALF), ((1,), (0,))) * scale


def _half_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _half(x, weight), (x, weight)


def _half_backward(saved: tuple[jax.Array, jax.Array], by_out: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    small, scale = _into_range(by_out, rows=True)
    by_x = _dot(small, weight.astype(HALF), ((1,), (1,))) * scale  # [M, in]
    (small_x, scale_x), (small, scale) = _into_range(x, rows=False), _into_range(by_out, rows=False)
    by_weight = _dot(small_x, small, ((0,), (0,))) * scale_x * scale  # [in, out]
    return by_x.astype(x.dtype), by_weight.astype(weight.dtype)


_half.defvjp(_half_forward, _half_backward)


def _into_range(x: jax.Array, *, rows: bool) -> tuple[jax.Array, jax.Array]:
    """(x over a power of two, f16 and below 2 in size; that power, f32[M, 1] or [1, 1]). Non-finite stays non-finite."""
    wide = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=1 if rows else None, keepdims=True)
    bits = jax.lax.bitcast_convert_type(largest, jnp.int32) & EXPONENT
    scale = jnp.maximum(jax.lax.bitcast_convert_type(bits, jnp.float32), SMALLEST)
    return (wide / scale).astype(HALF), scale


def _dot(left: jax.Array, right: jax.Array, over: tuple[tuple[int, ...], tuple[int, ...]]) -> jax.Array:
    out: jax.Array = jax.lax.dot_general(left, right, (over, ((), ())), preferred_element_type=jnp.float32)
    return out
