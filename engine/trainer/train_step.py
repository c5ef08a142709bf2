"""The train step: a pure function over split state, compiled once, its state donated.

    state, metrics = step(state, batch)

State is {"params", "opt_state", "step"}; batch is what :func:`engine.trainer.batches.batch_at` gives, [A, B, …].
The share of one target (1 / trained tokens of the whole step) weighs each of them in every micro-batch, and
gradients are summed in float32: k micro-batches are one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from engine.trainer.args import TrainArgs
from engine.trainer.loss import target_losses, weighted_loss
from engine.trainer.optimizer import as_float32, make_optimizer, store

State = dict[str, Any]
Arrays = dict[str, jax.Array]


def init_state(model: nnx.Module, args: TrainArgs) -> tuple[Any, State]:
    """Split the module once: (graphdef, state). Optimizer statistics are float32 whatever the weights are."""
    graphdef, params = nnx.split(model)
    optimizer, _ = make_optimizer(args)
    opt_state = optimizer.init(as_float32(params))
    return graphdef, {"params": params, "opt_state": opt_state, "step": jnp.zeros((), jnp.int32)}


def make_train_step(graphdef: Any, args: TrainArgs) -> Callable[[State, Arrays], tuple[State, Arrays]]:
    """The uncompiled step; metrics are loss, grad_norm, learning_rate, tokens (those that count), real_tokens."""
    optimizer, schedule = make_optimizer(args)

    def step(state: State, batch: Arrays) -> tuple[State, Arrays]:
        params = state["params"]
        tokens = jnp.sum(batch["target_weights"])
        share = 1.0 / jnp.maximum(tokens, 1).astype(jnp.float32)
        loss, grads = accumulated_gradients(graphdef, params, batch, share)
        wide = as_float32(params)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of integer counts
            updates, opt_state = optimizer.update(grads, state["opt_state"], wide)
            learning_rate = jnp.asarray(schedule(state["step"]), jnp.float32)
        key = jax.random.fold_in(jax.random.key(args.seed), state["step"])
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": learning_rate,
            "tokens": tokens,
            "real_tokens": jnp.sum(batch["segment_ids"] != 0),
        }
        moved = store(optax.apply_updates(wide, updates), params, key)
        return {"params": moved, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return step


def accumulated_gradients(graphdef: Any, params: Any, batch: Arrays, share: jax.Array) -> tuple[jax.Array, Any]:
    """(loss, gradients in float32) of all micro-batches together."""

    def micro(params: Any, part: Arrays) -> jax.Array:
        return weighted_loss(nnx.merge(graphdef, params), part, share)

    if batch["tokens"].shape[0] == 1:
        loss, grads = jax.value_and_grad(micro)(params, {name: array[0] for name, array in batch.items()})
        return loss, as_float32(grads)

    def add(carry: Any, part: Arrays) -> tuple[Any, None]:
        loss, grads = jax.value_and_grad(micro)(params, part)
        return jax.tree.map(jnp.add, carry, (loss, as_float32(grads))), None

    zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, as_float32(params)))
    (loss, grads), _ = jax.lax.scan(add, zero, batch)
    return loss, grads


def compile_train_step(graphdef: Any, args: TrainArgs, state: State, batch: Any) -> Any:
    """Compile for these shapes and placements, donating the state: its bytes are reused for the new one."""
    placements = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = jax.jit(make_train_step(graphdef, args), donate_argnums=0, out_shardings=(placements, None))
    return step.lower(state, batch).compile()


def make_eval_loss(graphdef: Any) -> Callable[[Any, Arrays], tuple[jax.Array, jax.Array]]:
    """A jitted (params, batch [B, …]) -> (summed loss, tokens that count)."""

    @jax.jit
    def eval_loss(params: Any, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        weights = batch["target_weights"].astype(jnp.float32)
        return jnp.sum(target_losses(nnx.merge(graphdef, params), batch) * weights), jnp.sum(weights)

    return eval_loss
