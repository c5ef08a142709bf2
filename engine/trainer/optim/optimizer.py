"""Clipping, and the update of all weights in place, statistics in float32, one layer at a time.

    opt_state = init_opt_state(params, args)
    params, opt_state, metrics = apply_updates(grads, params, opt_state, step, Hyperparameters.of(args))

In: trees of weights and gradients in their stored dtypes. Out: the same trees after one update of AdamW or Adafactor
(the rules: :mod:`engine.trainer.optim.rules`). Only one layer of one leaf at a time is in float32: with bfloat16 weights
no float32 copy of the tree, or of a stacked leaf [L, ...], ever exists.

Order, as in optax's chains: clip by global norm, the optimizer's direction, decoupled weight decay, times the rate.
The declared rate of Adafactor is the step size itself, not relative to each weight's own scale, so that the two
optimizers' rates mean the same; both multiply decay by the rate (optax's own adafactor does not).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from engine.protocol.train_args import TrainArgs
from engine.trainer.optim.hyperparameters import Hyperparameters
from engine.trainer.optim.rules import Rule, Stats, StepInputs, init_stats, update_slice
from engine.trainer.pytree import PyTree

OptState = dict[str, Any]
Slice = tuple[jax.Array, Stats, jax.Array | None]  # param, statistics, master

# From this size on Adafactor updates a stacked leaf layer by layer: a smaller leaf takes at most 16 MiB in float32, and
# a loop costs time. AdamW never needs the loop: it is elementwise, one fusion that reads and writes the stored dtypes.
LOOP_FROM = 1 << 22


def init_opt_state(params: PyTree, args: TrainArgs, *, master_weights: bool = False) -> OptState:
    """{"count": i32, "stats": {dotted name: {statistic: f32}}} and, with ``master_weights``, "master": {name: f32}.

    A leaf below ``layers`` or ``lora`` stacks one weight per layer on its leading axis. Weights that are float32
    themselves have no master.
    """
    rule, stats, master = Rule.of(args), {}, {}
    for name, leaf in named_leaves(params).items():
        if is_stacked(name):
            of_layer = init_stats(rule, leaf.shape[1:])
            depth = leaf.shape[0]
            stats[name] = {kind: jnp.zeros((depth, *zeros.shape), zeros.dtype) for kind, zeros in of_layer.items()}
        else:
            stats[name] = init_stats(rule, leaf.shape)
        if master_weights and leaf.dtype != jnp.float32:
            master[name] = leaf.astype(jnp.float32)
    state: OptState = {"count": jnp.zeros((), jnp.int32), "stats": stats}
    return state | ({"master": master} if master_weights else {})


def apply_updates(
    grads: PyTree,
    params: PyTree,
    opt_state: OptState,
    step: jax.Array,
    hyperparameters: Hyperparameters,
    *,
    ok: jax.Array | None = None,
) -> tuple[PyTree, OptState, dict[str, jax.Array]]:
    """One train step's update -> (params, opt_state, metrics grad_norm and learning_rate).

    ``grads`` has the structure of ``params``, in any float dtype; ``step`` i32 counts train steps from 0. Donated
    state is written in place: no float32 copy of a stacked leaf is made (tests/trainer/optim/test_optimizer.py).
    ``ok`` False leaves weights, statistics and count as they were (see :mod:`engine.trainer.guard`).
    """
    rule, ok = hyperparameters.rule, jnp.asarray(True) if ok is None else ok
    norm = global_norm(grads)
    step_inputs = hyperparameters.step_inputs(step, opt_state["count"], norm, ok)
    masters = opt_state.get("master", {})
    updated, stats, new_masters = [], {}, {}
    named_grads = named_leaves(grads)
    for name, param in named_leaves(params).items():
        update = _update_stacked if is_stacked(name) else _update_single
        carry = (param, opt_state["stats"][name], masters.get(name))
        leaf, stats[name], master = update(rule, step_inputs, name, named_grads[name], carry)
        updated.append(leaf)
        if master is not None:
            new_masters[name] = master
    new_state: OptState = {"count": opt_state["count"] + ok.astype(jnp.int32), "stats": stats}
    new_state |= {"master": new_masters} if "master" in opt_state else {}
    new_params = jax.tree.unflatten(jax.tree.structure(params), updated)
    return new_params, new_state, {"grad_norm": norm, "learning_rate": step_inputs.rate}


def global_norm(grads: PyTree) -> jax.Array:
    """f32: root of the sum of all squares, summed in float32 without a float32 copy of any leaf."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(grads)]
    norm: jax.Array = jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))
    return norm


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Dotted name -> leaf, in the order of the flattened tree.

    >>> list(named_leaves({"layers": {"q": 1}, "embed": 2}))
    ['embed', 'layers.q']
    """
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    # flax's variables show up as a last attribute `value`
    return {jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value"): leaf for path, leaf in pairs}


def is_stacked(name: str) -> bool:
    """Whether the leaf of this dotted name stacks the weights (or the adapters) of all layers [L, ...]."""
    return not {"layers", "lora"}.isdisjoint(name.split("."))


def _update_single(rule: Rule, step_inputs: StepInputs, name: str, grad: jax.Array, carry: Slice) -> Slice:
    """An unstacked weight: each pass over it is one fusion of the compiler, reading and writing the stored dtype."""
    param, stats, master = carry
    return update_slice(rule, step_inputs, grad, stats, param, master, name=name)


def _update_stacked(rule: Rule, step_inputs: StepInputs, name: str, grad: jax.Array, carry: Slice) -> Slice:
    """All layers at once, or layer after layer, each written into the carry in place."""

    def update_layer(layer: jax.Array, grad: jax.Array, carry: Slice) -> Slice:
        param, stats, master = carry
        return update_slice(rule, step_inputs, grad, stats, param, master, name=name, layer=layer)

    if rule.optimizer == "adamw" or grad.size < LOOP_FROM:
        at_once: Slice = jax.vmap(update_layer)(jnp.arange(grad.shape[0], dtype=jnp.int32), grad, carry)
        return at_once

    def body(layer: jax.Array, carry: Slice) -> Slice:
        def of_layer(leaf: jax.Array) -> jax.Array:
            part: jax.Array = jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False)
            return part

        def put(stack: jax.Array, part: jax.Array) -> jax.Array:
            stacked: jax.Array = jax.lax.dynamic_update_index_in_dim(stack, part, layer, 0)
            return stacked

        written: Slice = jax.tree.map(put, carry, update_layer(layer, of_layer(grad), jax.tree.map(of_layer, carry)))
        return written

    updated: Slice = jax.lax.fori_loop(0, grad.shape[0], body, carry)
    return updated
