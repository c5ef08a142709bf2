"""The train step: a pure function over split state, compiled once, its state donated.

    state, metrics = step(state, batch)

State is {"params", "opt_state", "step"}; batch is what :func:`engine.trainer.batches.batch_at` gives, [A, B, T].
Gradients of A micro-batches are summed in float32 and divided by the number of trained tokens of the whole
step: k micro-batches are one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from engine.trainer.args import TrainArgs
from engine.trainer.loss import summed_loss, token_losses
from engine.trainer.optimizer import as_float32, make_optimizer

State = dict[str, Any]
Arrays = dict[str, jax.Array]


def init_state(model: nnx.Module, args: TrainArgs) -> tuple[Any, State]:
    """Split the module once: (graphdef, state). Optimizer statistics are float32 whatever the weights are."""
    graphdef, params = nnx.split(model)
    optimizer, _ = make_optimizer(args)
    opt_state = optimizer.init(as_float32(params))
    return graphdef, {"params": params, "opt_state": opt_state, "step": jnp.zeros((), jnp.int32)}


def make_train_step(graphdef: Any, args: TrainArgs) -> Callable[[State, Arrays], tuple[State, Arrays]]:
    """The uncompiled step; metrics are loss, grad_norm, learning_rate and tokens (those that count)."""
    optimizer, schedule = make_optimizer(args)

    def micro(params: Any, batch: Arrays) -> jax.Array:
        return summed_loss(nnx.merge(graphdef, params), batch)

    def gradients(params: Any, batch: Arrays) -> tuple[jax.Array, Any]:
        """Sums over all micro-batches."""
        if batch["tokens"].shape[0] == 1:
            loss, grads = jax.value_and_grad(micro)(params, {name: array[0] for name, array in batch.items()})
            return loss, as_float32(grads)

        def add(carry: Any, part: Arrays) -> tuple[Any, None]:
            loss, grads = jax.value_and_grad(micro)(params, part)
            return jax.tree.map(jnp.add, carry, (loss, as_float32(grads))), None

        zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, as_float32(params)))
        (loss, grads), _ = jax.lax.scan(add, zero, batch)
        return loss, grads

    def step(state: State, batch: Arrays) -> tuple[State, Arrays]:
        params = state["params"]
        tokens = jnp.sum(_counted(batch))
        loss, grads = gradients(params, batch)
        share = 1.0 / jnp.maximum(tokens, 1).astype(jnp.float32)
        grads = jax.tree.map(lambda leaf: leaf * share, grads)
        wide = as_float32(params)
        updates, opt_state = optimizer.update(grads, state["opt_state"], wide)
        moved = jax.tree.map(
            lambda new, old: new.astype(old.dtype), optax.apply_updates(wide, updates), params
        )
        metrics = {
            "loss": loss * share,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": jnp.asarray(schedule(state["step"]), jnp.float32),
            "tokens": tokens,
        }
        return {"params": moved, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return step


def _counted(batch: Arrays) -> jax.Array:
    """i32[A, B, T-1]: 1 where a next token counts."""
    same_row = batch["segment_ids"][..., 1:] == batch["segment_ids"][..., :-1]
    return batch["loss_mask"][..., 1:] * same_row.astype(jnp.int32)


def compile_train_step(graphdef: Any, args: TrainArgs, state: State, batch: Arrays) -> Any:
    """Compile for these shapes, donating the state: its bytes are reused for the new one."""
    return jax.jit(make_train_step(graphdef, args), donate_argnums=0).lower(state, batch).compile()


def make_eval_loss(graphdef: Any) -> Callable[[Any, Arrays], tuple[jax.Array, jax.Array]]:
    """A jitted (params, batch [B, T]) -> (summed loss, tokens that count)."""

    @jax.jit
    def eval_loss(params: Any, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        losses, weights = token_losses(nnx.merge(graphdef, params), batch)
        return jnp.sum(losses * weights), jnp.sum(weights)

    return eval_loss
