"""The numbers of the optimizer and its schedule, as inputs of the compiled train step.

In: the job's arguments. Out: a pytree of scalars beside the weights in the train state. So two jobs that differ in a rate, a
schedule, a length, a clip or a seed share one compiled program; what would change the program's shape (the optimizer itself)
is a static part of the tree. No checkpoint has them: they come from the job's arguments at every start.

    state["hyperparameters"] = Hyperparameters.of(args)
    step_inputs = state["hyperparameters"].step_inputs(state["step"], updates, norm, ok)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from engine.protocol.train_args import TrainArgs
from engine.trainer.optim.rules import Rule, StepInputs
from engine.trainer.optim.schedule import Schedule, schedule_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Constant over a training run; scalars on the device, and the seed's key."""

    rule: Rule
    schedule: Schedule
    max_grad_norm: jax.Array  # f32; infinite: no clip
    seed: jax.Array  # u32[2]: the bits of the seed's key; a typed key has no bytes for the host to place

    @classmethod
    def of(cls, args: TrainArgs) -> Hyperparameters:
        """From the job's arguments."""
        most = math.inf if args.max_grad_norm is None else args.max_grad_norm
        seed = jax.random.key_data(jax.random.key(args.seed))
        return cls(Rule.of(args), schedule_of(args), jnp.asarray(most, jnp.float32), seed)

    def key(self, step: jax.Array) -> jax.Array:
        """The random key of a train step."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.seed), step)

    def step_inputs(self, step: jax.Array, updates: jax.Array, norm: jax.Array | None, ok: jax.Array) -> StepInputs:
        """The inputs of one train step's updates. ``norm``: of all gradients; None: nothing is clipped."""
        scale = jnp.ones((), jnp.float32) if norm is None else clip_scale(norm, self.max_grad_norm)
        return StepInputs(updates, self.schedule(step), scale, self.key(step), ok)


def clip_scale(norm: jax.Array, max_grad_norm: jax.Array) -> jax.Array:
    """f32: the factor that reduces gradients of this norm to at most ``max_grad_norm``."""
    scale: jax.Array = jnp.where(norm < max_grad_norm, 1.0, max_grad_norm / norm)
    return scale
