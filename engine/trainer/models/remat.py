"""Gradient checkpointing: what the backward pass of the walk through the layers saves, and what it recomputes.

In: the body of a scan over layers, (x, (kind, weights)) -> (x, _), and a policy's name. Out: the body to scan over.

    x, _ = jax.lax.scan(with_remat(layer, "block"), x, (kinds, stacks))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp

from engine.protocol.train_args import REMAT

LAYER_INPUT = "layer_input"  # the name of a layer's input in remat policies
ATTENTION = frozenset("qkvo")
MLP = frozenset({"gate", "up", "down"})

Y = TypeVar("Y")
Arrays = Mapping[str, jax.Array]
# (x, (what distinguishes the layer, its weights)) -> (x, y)
LayerBody = Callable[[jax.Array, tuple[Arrays, Arrays]], tuple[jax.Array, Y]]


@jax.custom_vjp
def _barrier(arrays: Arrays) -> Arrays:
    """A barrier in the forward pass only: gradients reach their accumulation without one."""
    barred: Arrays = jax.lax.optimization_barrier(arrays)
    return barred


_barrier.defvjp(lambda arrays: (_barrier(arrays), None), lambda _, by_arrays: (by_arrays,))


def _inside_loop(layer: LayerBody[Y]) -> LayerBody[Y]:
    """The body, with what stops the TPU's compiler from moving a layer's work out of the loop, for all layers at once.

    A barrier before the matrices of attention: their layout changes one layer at a time, not for the stack. Without it
    the q of all layers are transposed and held (Gemma 2B: 144 MiB). The MLP's matrices need no other layout, and a
    barrier would copy them, 64 MiB each. Those in float32 are rounded for the matrix units, barrier or not: see
    :func:`_tied_to_x`.
    """

    def body(x: jax.Array, item: tuple[Arrays, Arrays]) -> tuple[jax.Array, Y]:
        kind, weights = item
        barred = _barrier({name: array for name, array in weights.items() if name in ATTENTION})
        wide = {name: array for name, array in weights.items() if name in MLP and array.dtype == jnp.float32}
        tied = {name: _tied_to_x(array, x) for name, array in wide.items()}
        return layer(x, (kind, {**weights, **barred, **tied}))

    return body


def _tied_to_x(array: jax.Array, x: jax.Array) -> jax.Array:
    """The array itself; on a TPU it is multiplied by a 1 that is computed from x.

    TPUs multiply float32 matrices as bfloat16, and the compiler would round the stack of all layers before the loop
    (Gemma 2B over eight chips: 432 MiB). What depends on x, which changes from layer to layer, stays inside.
    """
    unit = jax.lax.stop_gradient(jnp.where(x[0, 0] == x[0, 0], 1.0, x[0, 0]).astype(array.dtype))
    tied: jax.Array = jax.lax.platform_dependent(array, unit, tpu=jnp.multiply, default=lambda array, _: array)
    return tied


def with_remat(layer: LayerBody[Y], remat: str) -> LayerBody[Y]:
    """The body of a scan over layers whose backward pass saves what the policy says and recomputes the rest."""
    policies = jax.checkpoint_policies
    if remat == "none":
        return layer
    layer = _inside_loop(layer)
    if remat == "dots":  # saves the matmuls with weights; those of attention are recomputed
        return jax.checkpoint(layer, prevent_cse=False, policy=policies.dots_with_no_batch_dims_saveable)
    if remat == "block":
        return jax.checkpoint(layer, prevent_cse=False)
    if remat == "offload":
        policy = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[LAYER_INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        )
        return jax.checkpoint(layer, prevent_cse=False, policy=policy)
    raise ValueError(f"remat is one of {REMAT}, not {remat!r}")
