"""The learning rate of every train step, from numbers that a compiled program takes as inputs.

In: kind, peak, lengths. Out: a :class:`Schedule`, a pytree of scalars whose call is the rate; another rate, length or kind has
the same program.

>>> schedule = make_schedule("linear", 1.0, num_train_steps=10, warmup_steps=2)
>>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10)]
[0.5, 1.0, 1.0, 0.5, 0.0]

With w steps of warm-up, n in all and peak r, at 0-based step s:

    s < w   (r/w - r)(1 - min(s, w - 1) / (w - 1)) + r        never 0: a step at rate 0 would be wasted
    else    r, r (1 - d/m) or r (1 + cos(pi d/m)) / 2         m = n - w, d = s - w from 0 to m

The order of operations is that of optax's schedules as the CPU's compiler folds their constants: there the rates have the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from engine.protocol.train_args import TrainArgs

KINDS = ("constant", "linear", "cosine")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class Schedule:
    """Scalars, in the symbols of the module's docstring."""

    kind: jax.Array  # i32: index into KINDS
    peak: jax.Array  # f32: r
    warmup_steps: jax.Array  # i32: w
    steps: jax.Array  # i32: m
    rise_steps: jax.Array  # i32: w - 1
    rise: jax.Array  # f32: r/w - r
    per_rise: jax.Array  # f32: 1 / (w - 1)
    per_step: jax.Array  # f32: 1 / m
    angle: jax.Array  # f32: pi / m

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """f32: the rate at 0-based ``step``."""
        step = jnp.asarray(step, jnp.int32)
        rising = jnp.minimum(step, self.rise_steps).astype(jnp.float32)
        done = jnp.clip(step - self.warmup_steps, 0, self.steps).astype(jnp.float32)
        warm_up = self.rise * (1.0 - rising * self.per_rise) + self.peak
        linear = self.peak * (1.0 - done * self.per_step)
        cosine = self.peak * (0.5 * (1.0 + jnp.cos(done * self.angle)))
        main = jnp.select(
            [self.kind == KINDS.index("linear"), self.kind == KINDS.index("cosine")], [linear, cosine], self.peak
        )
        rate: jax.Array = jnp.where(step < self.warmup_steps, warm_up, main)
        return rate


def make_schedule(kind: str, learning_rate: float, *, num_train_steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to ``learning_rate`` over ``warmup_steps``, then ``kind``; linear and cosine reach 0 at the end."""
    after, rising = max(1, num_train_steps - warmup_steps), max(1, warmup_steps - 1)
    per_step = np.float32(1) / np.float32(after)  # on the host: JAX would compile a program for each operation
    return Schedule(
        kind=jnp.asarray(KINDS.index(kind), jnp.int32),
        peak=jnp.asarray(learning_rate, jnp.float32),
        warmup_steps=jnp.asarray(warmup_steps, jnp.int32),
        steps=jnp.asarray(after, jnp.int32),
        rise_steps=jnp.asarray(rising, jnp.int32),
        rise=jnp.asarray(learning_rate / max(1, warmup_steps) - learning_rate, jnp.float32),
        per_rise=jnp.asarray(np.float32(1) / np.float32(rising)),
        per_step=jnp.asarray(per_step),
        angle=jnp.asarray(np.float32(np.pi) * per_step),
    )


def schedule_of(args: TrainArgs) -> Schedule:
    """The job's schedule."""
    return make_schedule(
        args.lr_schedule, args.learning_rate, num_train_steps=args.num_train_steps, warmup_steps=args.warmup_steps
    )
