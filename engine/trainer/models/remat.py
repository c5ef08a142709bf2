"""What the backward pass of the walk through the layers finds kept, and what it makes again.

In: the body of a scan over layers, (x, (kind, weights)) -> (x, _), and a policy's name. Out: the body to scan over.

    x, _ = jax.lax.scan(recomputed(layer, "block"), x, (kinds, stacks))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LAYER_INPUT = "layer_input"  # the name under which a remat policy finds what a layer is given

# What the backward pass finds kept; the rest it makes again, from the cheapest in time to the cheapest in memory.
REMAT = ("none", "dots", "block", "offload")

ATTENTION = frozenset("qkvo")
MLP = frozenset({"gate", "up", "down"})


@jax.custom_vjp
def _apart(item: Any) -> Any:
    """A barrier, forwards only: gradients go to where they are added up without one."""
    return jax.lax.optimization_barrier(item)


_apart.defvjp(lambda item: (_apart(item), None), lambda _, by_item: (by_item,))


def _of_its_own(layer: Callable[..., Any]) -> Callable[..., Any]:
    """The body with what keeps the TPU's compiler from doing a layer's work for all layers at once, outside the loop.

    A barrier before the matrices of attention: another layout is made of one layer's, not of the stack. Without it all
    layers' q are turned round, and kept (Gemma 2B: 144 MiB). The MLP's need no other layout, and a barrier would make
    copies of them, 64 MiB each. Those in float32 are rounded for the matrix units, a barrier or not: see :func:`_here`.
    """

    def body(x: Any, item: Any) -> Any:
        kind, weights = item
        apart = _apart({name: array for name, array in weights.items() if name in ATTENTION})
        wide = {name: array for name, array in weights.items() if name in MLP and array.dtype == jnp.float32}
        here = {name: _here(array, x) for name, array in wide.items()}
        return layer(x, (kind, {**weights, **apart, **here}))

    return body


def _here(array: jax.Array, x: jax.Array) -> jax.Array:
    """The array itself, but on a TPU as a product with a 1 that only this pass through the loop knows.

    TPUs multiply float32 matrices as bfloat16, and the compiler would round the stack of all layers before the loop
    (Gemma 2B over eight chips: 432 MiB). What depends on x, which changes from layer to layer, stays inside.
    """
    one = jax.lax.stop_gradient(jnp.where(x[0, 0] == x[0, 0], 1.0, x[0, 0]).astype(array.dtype))
    found: jax.Array = jax.lax.platform_dependent(array, one, tpu=jnp.multiply, default=lambda array, _: array)
    return found


def recomputed(layer: Callable[..., Any], remat: str) -> Callable[..., Any]:
    """The body of a scan over layers whose backward pass keeps what the policy says and makes the rest again."""
    policies = jax.checkpoint_policies
    if remat == "none":
        return layer
    layer = _of_its_own(layer)
    if remat == "dots":  # the products with weights; those of attention are made again
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
