"""Schedules, clipping and optimizers, taken from optax; statistics always in float32.

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
    return optax.join_schedules([rise, main], [warmup_steps])


def make_optimizer(args: TrainArgs) -> tuple[optax.GradientTransformation, Schedule]:
    """Clipping by global norm, then AdamW (decoupled weight decay) or Adafactor (factored, no momentum)."""
    schedule = make_schedule(
        args.lr_schedule, args.learning_rate, num_train_steps=args.num_train_steps, warmup_steps=args.warmup_steps
    )
    if args.optimizer == "adafactor":
        # The declared learning rate is the step size itself, not a share of each weight's own scale.
        update = optax.adafactor(
            schedule, multiply_by_parameter_scale=False, weight_decay_rate=args.weight_decay or None
        )
    else:
        update = optax.adamw(
            schedule, b1=args.adam_b1, b2=args.adam_b2, eps=args.adam_eps, weight_decay=args.weight_decay
        )
    if args.max_grad_norm is None:
        return update, schedule
    return optax.chain(optax.clip_by_global_norm(args.max_grad_norm), update), schedule


def as_float32(tree: Any) -> Any:
    """Every floating leaf in float32: what the optimizer sees, whatever dtype the weights are kept in."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
