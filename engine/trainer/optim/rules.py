"""The update rules, one weight at a time: AdamW and Adafactor for the weights of one layer.

In: gradient, statistics and value of one weight *of one layer*, and what the train step says to all (``StepInputs``).
Out: its new value and statistics. Pure and without a loop: the driver (:mod:`engine.trainer.optim.optimizer`) calls it for
layer after layer of a stacked leaf, the update inside the backward pass as soon as a layer's gradient is there.

    now = StepInputs(updates, rate, scale, key, ok)
    stats = init_stats(rule, grad.shape)
    param, stats, master = update_slice(rule, now, grad, stats, param, None, name="layers.q", layer=3)

Statistics are float32 whatever the weights are, and so is all arithmetic. A leaf [L, ...] that stacks L layers is L
weights: Adafactor's factors and its clip by root mean square never span layers (optax applied to the stacked leaf
would clip a layer by what the others do, and factor over the layers' axis). Equal to optax on unstacked leaves.

Sources: Loshchilov and Hutter 2019 (AdamW, arXiv 1711.05101), Shazeer and Stern 2018 (Adafactor, arXiv 1804.04235).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from engine.protocol.train_args import TrainArgs
from engine.trainer.optim.stochastic_rounding import round_stochastically

Stats = dict[str, jax.Array]

ADAFACTOR_CLIP = 1.0  # root mean square of one weight's update, as in the paper
ADAFACTOR_EPS = 1e-30  # added to squared gradients
ADAFACTOR_DECAY = 0.8  # the t-th update keeps 1 - t^-0.8 of the statistics
SMALLEST_FACTORED = 128  # a matrix with a smaller side keeps all its statistics, as in optax


@dataclass(frozen=True, slots=True)
class Rule:
    """What does not change in a training: the optimizer and its numbers."""

    optimizer: str
    b1: float
    b2: float
    eps: float
    weight_decay: float

    @classmethod
    def of(cls, args: TrainArgs) -> Rule:
        """From the job's arguments."""
        return cls(args.optimizer, args.adam_b1, args.adam_b2, args.adam_eps, args.weight_decay)


class StepInputs(NamedTuple):
    """What one train step says to every weight; scalars."""

    updates: jax.Array  # i32: how many were applied before this one
    rate: jax.Array  # f32: the learning rate
    scale: jax.Array  # f32: gradients are multiplied by it (the clip by global norm)
    key: jax.Array  # of (seed, train step)
    ok: jax.Array  # bool: False leaves weights and statistics, to the bit, as they are


def decays(name: str) -> bool:
    """Does the weight of this dotted name decay? All do but the gains of norms."""
    return "norm" not in name.lower()


def init_stats(rule: Rule, shape: tuple[int, ...]) -> Stats:
    """Statistics before the first update of one weight: adamw mu, nu; adafactor row, col or, for small ones, nu."""
    if rule.optimizer == "adamw":
        return {"mu": jnp.zeros(shape, jnp.float32), "nu": jnp.zeros(shape, jnp.float32)}
    if is_factored(shape):
        row, col = shape[:-1], (*shape[:-2], shape[-1])
        return {"row": jnp.zeros(row, jnp.float32), "col": jnp.zeros(col, jnp.float32)}
    return {"nu": jnp.zeros(shape, jnp.float32)}


def is_factored(shape: tuple[int, ...]) -> bool:
    """Does Adafactor keep a row and a column (over the last two axes) instead of everything?"""
    return len(shape) >= 2 and min(shape[-2:]) >= SMALLEST_FACTORED


def adamw_slice(grad: jax.Array, stats: Stats, count: jax.Array, rule: Rule) -> tuple[jax.Array, Stats]:
    """grad f32 -> (direction f32, statistics): the mean gradient over the root of the mean square, bias corrected."""
    done = (count + 1).astype(jnp.float32)
    mu = rule.b1 * stats["mu"] + (1.0 - rule.b1) * grad
    nu = rule.b2 * stats["nu"] + (1.0 - rule.b2) * jnp.square(grad)
    mean, square = mu / (1.0 - rule.b1**done), nu / (1.0 - rule.b2**done)
    return mean / (jnp.sqrt(square) + rule.eps), {"mu": mu, "nu": nu}


def adafactor_slice(grad: jax.Array, stats: Stats, count: jax.Array) -> tuple[jax.Array, Stats]:
    """grad f32 -> (direction f32, statistics): no momentum, the root mean square of the whole at most 1."""
    kept = adafactor_decay(count)
    if "row" not in stats:
        nu = kept * stats["nu"] + (1.0 - kept) * (jnp.square(grad) + ADAFACTOR_EPS)
        return clip_rms(grad * jax.lax.rsqrt(nu)), {"nu": nu}
    square = jnp.square(grad) + ADAFACTOR_EPS
    row = kept * stats["row"] + (1.0 - kept) * jnp.mean(square, axis=-1)
    col = kept * stats["col"] + (1.0 - kept) * jnp.mean(square, axis=-2)
    row_factor = jax.lax.rsqrt(row / jnp.mean(row, axis=-1, keepdims=True))
    direction = grad * row_factor[..., :, None] * jax.lax.rsqrt(col)[..., None, :]
    return clip_rms(direction), {"row": row, "col": col}


def adafactor_decay(count: jax.Array) -> jax.Array:
    """f32: the share of the statistics that is kept, 0 at the first update."""
    return 1.0 - (count + 1).astype(jnp.float32) ** -ADAFACTOR_DECAY


def clip_rms(direction: jax.Array) -> jax.Array:
    """Divided by its root mean square where that is above ADAFACTOR_CLIP."""
    return direction / clip_divisor(jnp.mean(jnp.square(direction)))


def clip_divisor(mean_square: jax.Array) -> jax.Array:
    """f32, at least 1: what an update of this mean square is divided by."""
    return jnp.maximum(1.0, jnp.sqrt(mean_square) / ADAFACTOR_CLIP)


def update_slice(
    rule: Rule,
    step_inputs: StepInputs,
    grad: jax.Array,
    stats: Stats,
    param: jax.Array,
    master: jax.Array | None,
    *,
    name: str,
    layer: jax.Array | int = 0,
) -> tuple[jax.Array, Stats, jax.Array | None]:
    """One update of one weight -> (param, statistics, master).

    ``name`` is the leaf's dotted name and ``layer`` the place in its stack: they choose the random bits, so that the
    same update gives the same bits wherever it is computed.
    """
    wide_grad = grad.astype(jnp.float32) * step_inputs.scale
    if rule.optimizer == "adamw":
        direction, moved = adamw_slice(wide_grad, stats, step_inputs.updates, rule)
    else:
        direction, moved = adafactor_slice(wide_grad, stats, step_inputs.updates)
    param, master = write_slice(rule, step_inputs, direction, param, master, name=name, layer=layer)
    return param, {kind: jnp.where(step_inputs.ok, moved[kind], old) for kind, old in stats.items()}, master


def write_slice(
    rule: Rule,
    step_inputs: StepInputs,
    direction: jax.Array,
    param: jax.Array,
    master: jax.Array | None,
    *,
    name: str,
    layer: jax.Array | int = 0,
    rows: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Decay, take the step, store: value - rate (direction + decay value) in the dtype the weight is kept in.

    With a float32 ``master`` the weight is its plain cast; without, bfloat16 is rounded at random (``rows``: see
    :func:`~engine.trainer.optim.stochastic_rounding.round_stochastically`) and every other dtype to the nearest.
    """
    wide = param.astype(jnp.float32) if master is None else master
    if rule.weight_decay and decays(name):
        direction = direction + rule.weight_decay * wide
    moved = wide - step_inputs.rate * direction
    if master is None and param.dtype == jnp.bfloat16:
        stored = round_stochastically(moved, slice_key(step_inputs.key, name, layer), rows=rows)
    else:
        stored = moved.astype(param.dtype)
    kept = None if master is None else jnp.where(step_inputs.ok, moved, master)
    return jnp.where(step_inputs.ok, stored, param), kept


def slice_key(key: jax.Array, name: str, layer: jax.Array | int = 0) -> jax.Array:
    """The key of one weight. By the name and not by a place in the tree: a leaf more changes no other's bits."""
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), layer)
