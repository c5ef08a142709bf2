"""Schedules, clipping and optimizers, put together from optax; statistics always in float32.

>>> schedule = make_schedule("linear", 1.0, num_train_steps=10, warmup_steps=2)
>>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10)]
[0.5, 1.0, 1.0, 0.5, 0.0]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from engine.trainer.args import TrainArgs

Schedule = Callable[[Any], Any]

ADAFACTOR_CLIP = 1.0  # root mean square of one weight's update, as in the paper (Shazeer and Stern 2018)


def make_schedule(kind: str, learning_rate: float, *, num_train_steps: int, warmup_steps: int) -> Schedule:
    """Rate at 0-based step s: linear warm-up to ``learning_rate`` over ``warmup_steps``, then ``kind``.

    The warm-up never gives 0 (its first step is learning_rate / warmup_steps): a step that changes nothing would
    be a wasted one. ``linear`` and ``cosine`` reach 0 at ``num_train_steps``.
    """
    after = max(1, num_train_steps - warmup_steps)
    if kind == "constant":
        main: Schedule = optax.constant_schedule(learning_rate)
    elif kind == "linear":
        main = optax.linear_schedule(learning_rate, 0.0, after)
    else:
        main = optax.cosine_decay_schedule(learning_rate, after)
    if not warmup_steps:
        return main
    rise = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, max(1, warmup_steps - 1))
    joined: Schedule = optax.join_schedules([rise, main], [warmup_steps])
    return joined


def make_optimizer(args: TrainArgs) -> tuple[optax.GradientTransformation, Schedule]:
    """Clipping by global norm, then AdamW or Adafactor (factored, no momentum); the schedule beside it.

    Weight decay is decoupled and times the learning rate for both (optax's own adafactor leaves the rate out);
    norm weights do not decay. Adafactor's declared learning rate is the step size itself, not a share of each
    weight's own scale, so that the two optimizers' rates mean the same.
    """
    schedule = make_schedule(
        args.lr_schedule, args.learning_rate, num_train_steps=args.num_train_steps, warmup_steps=args.warmup_steps
    )
    parts: list[optax.GradientTransformation] = []
    if args.max_grad_norm is not None:
        parts.append(optax.clip_by_global_norm(args.max_grad_norm))
    if args.optimizer == "adafactor":
        parts += [optax.scale_by_factored_rms(), optax.clip_by_block_rms(ADAFACTOR_CLIP)]
    else:
        parts.append(optax.scale_by_adam(b1=args.adam_b1, b2=args.adam_b2, eps=args.adam_eps))
    parts += [
        optax.add_decayed_weights(args.weight_decay, mask=decays),
        optax.scale_by_learning_rate(schedule),
    ]
    return optax.chain(*parts), schedule


def decays(params: Any) -> Any:
    """The same tree with True for weights that decay: all but the gains of norms."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "norm" not in jax.tree_util.keystr(path).lower(), params)


def as_float32(tree: Any) -> Any:
    """Every leaf in float32: what the optimizer sees, whatever dtype the weights are kept in."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def store(new: Any, old: Any, key: jax.Array) -> Any:
    """Updated float32 weights in the dtype they are kept in; bfloat16 is rounded at random, up or down.

    bfloat16 keeps 8 bits: an update below 0.2 % of its weight would be rounded away at every step, and training
    at small learning rates would stand still. Rounded up with the probability of the remainder, it is right on
    average. ``key`` must be new at every step; each leaf folds its own place in.
    """
    places = iter(range(len(jax.tree.leaves(new))))

    def one(wide: jax.Array, kept: jax.Array) -> jax.Array:
        place = next(places)
        if kept.dtype != jnp.bfloat16:
            return wide.astype(kept.dtype)
        return round_at_random(wide, jax.random.fold_in(key, place))

    return jax.tree.map(one, new, old)


def round_at_random(values: jax.Array, key: jax.Array) -> jax.Array:
    """f32 -> bf16: a random number below one bf16 step is added, then the lower 16 bits are cut off."""
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    noise = jax.random.bits(key, values.shape, jnp.uint16).astype(jnp.uint32)
    cut = (bits + noise) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(cut, jnp.float32).astype(jnp.bfloat16)
