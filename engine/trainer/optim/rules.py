"""The update rules, one weight at a time: AdamW and Adafactor for the weights of one layer.

In: gradient, statistics and value of one weight *of one layer*, and the train step's inputs (``StepInputs``).
Out: its new value and statistics. Pure and without a loop: the driver (:mod:`engine.trainer.optim.optimizer`) calls it for
layer after layer of a stacked leaf, the update inside the backward pass as soon as a layer's gradient exists.

    step_inputs = StepInputs(updates, rate, scale, key, ok)
    stats = init_stats(rule, grad.shape)
    param, stats, master = update_slice(rule, step_inputs, grad, stats, param, None, name="layers.q", layer=3)

Statistics and all arithmetic are float32 in any weight dtype. A leaf [L, ...] that stacks L layers is L weights:
Adafactor's factors and its clip by root mean square never span layers (optax applied to the stacked leaf would clip a
layer by the updates of the others, and factor over the layers' axis). Equal to optax on unstacked leaves.

Sources: Loshchilov and Hutter 2019 (AdamW, arXiv 1711.05101), Shazeer and Stern 2018 (Adafactor, arXiv 1804.04235).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from engine.protocol.train_args import TrainArgs
from engine.trainer.optim.stochastic_rounding import round_stochastically

Stats = dict[str, jax.Array]

ADAFACTOR_CLIP = 1.0  # root mean square of one weight's update, as in the paper
ADAFACTOR_EPS = 1e-30  # added to squared gradients
ADAFACTOR_DECAY = 0.8  # the t-th update retains 1 - t^-0.8 of the statistics
SMALLEST_FACTORED = 128  # a matrix with a smaller side has unfactored statistics, as in optax


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class Rule:
    """The optimizer, part of a program, and its numbers (f32 scalars), inputs of it; constant over a training run."""

    optimizer: str = field(metadata={"static": True})
    b1: jax.Array
    b2: jax.Array
    new_b1: jax.Array  # 1 - b1, the share of the new gradient, subtracted in float64
    new_b2: jax.Array
    eps: jax.Array
    weight_decay: jax.Array

    @classmethod
    def of(cls, args: TrainArgs) -> Rule:
        """From the job's arguments."""
        numbers = (args.adam_b1, args.adam_b2, 1 - args.adam_b1, 1 - args.adam_b2, args.adam_eps, args.weight_decay)
        return cls(args.optimizer, *(jnp.asarray(number, jnp.float32) for number in numbers))


class StepInputs(NamedTuple):
    """One train step's inputs to the update of every weight; scalars."""

    updates: jax.Array  # i32: how many were applied before this one
    rate: jax.Array  # f32: the learning rate
    scale: jax.Array  # f32: the factor of gradients (the clip by global norm)
    key: jax.Array  # of (seed, train step)
    ok: jax.Array  # bool: False leaves weights and statistics bit for bit unchanged


def decays(name: str) -> bool:
    """Whether the weight of this dotted name decays: all but the gains of norms do."""
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
    """Whether Adafactor stores a row and a column (over the last two axes) instead of a statistic per weight."""
    return len(shape) >= 2 and min(shape[-2:]) >= SMALLEST_FACTORED


def adamw_slice(grad: jax.Array, stats: Stats, count: jax.Array, rule: Rule) -> tuple[jax.Array, Stats]:
    """grad f32 -> (direction f32, statistics): the mean gradient over the root of the mean square, bias corrected."""
    done = (count + 1).astype(jnp.float32)
    mu = rule.b1 * stats["mu"] + rule.new_b1 * grad
    nu = rule.b2 * stats["nu"] + rule.new_b2 * jnp.square(grad)
    mean, square = mu / (1.0 - rule.b1**done), nu / (1.0 - rule.b2**done)
    return mean / (jnp.sqrt(square) + rule.eps), {"mu": mu, "nu": nu}


def adafactor_slice(grad: jax.Array, stats: Stats, count: jax.Array) -> tuple[jax.Array, Stats]:
    """grad f32 -> (direction f32, statistics): no momentum, the direction's root mean square is at most 1."""
    decay = adafactor_decay(count)
    if "row" not in stats:
        nu = decay * stats["nu"] + (1.0 - decay) * (jnp.square(grad) + ADAFACTOR_EPS)
        return clip_rms(grad * jax.lax.rsqrt(nu)), {"nu": nu}
    square = jnp.square(grad) + ADAFACTOR_EPS
    row = decay * stats["row"] + (1.0 - decay) * jnp.mean(square, axis=-1)
    col = decay * stats["col"] + (1.0 - decay) * jnp.mean(square, axis=-2)
    row_factor = jax.lax.rsqrt(row / jnp.mean(row, axis=-1, keepdims=True))
    direction = grad * row_factor[..., :, None] * jax.lax.rsqrt(col)[..., None, :]
    return clip_rms(direction), {"row": row, "col": col}


def adafactor_decay(count: jax.Array) -> jax.Array:
    """f32: the share of the old statistics in the new ones, 0 at the first update."""
    return 1.0 - (count + 1).astype(jnp.float32) ** -ADAFACTOR_DECAY


def clip_rms(direction: jax.Array) -> jax.Array:
    """Divided by its root mean square where that is above ADAFACTOR_CLIP."""
    return direction / clip_divisor(jnp.mean(jnp.square(direction)))


def clip_divisor(mean_square: jax.Array) -> jax.Array:
    """f32, at least 1: the divisor of an update of this mean square."""
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

    ``name`` is the leaf's dotted name and ``layer`` the index in its stack: they determine the random bits, so that the
    same update gives the same bits wherever it is computed.
    """
    wide_grad = grad.astype(jnp.float32) * step_inputs.scale
    if rule.optimizer == "adamw":
        direction, new = adamw_slice(wide_grad, stats, step_inputs.updates, rule)
    else:
        direction, new = adafactor_slice(wide_grad, stats, step_inputs.updates)
    param, master = write_slice(rule, step_inputs, direction, param, master, name=name, layer=layer)
    return param, {kind: jnp.where(step_inputs.ok, new[kind], old) for kind, old in stats.items()}, master


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
    """Decay, step, store: value - rate (direction + decay value) in the weight's stored dtype.

    With a float32 ``master`` the weight is its plain cast; without, bfloat16 is rounded stochastically (``rows``: see
    :func:`~engine.trainer.optim.stochastic_rounding.round_stochastically`) and every other dtype to the nearest.
    """
    wide = param.astype(jnp.float32) if master is None else master
    if decays(name):
        direction = direction + rule.weight_decay * wide
    updated = wide - step_inputs.rate * direction
    if master is None and param.dtype == jnp.bfloat16:
        stored = round_stochastically(updated, slice_key(step_inputs.key, name, layer), rows=rows)
    else:
        stored = updated.astype(param.dtype)
    new_master = None if master is None else jnp.where(step_inputs.ok, updated, master)
    return jnp.where(step_inputs.ok, stored, param), new_master


def slice_key(key: jax.Array, name: str, layer: jax.Array | int = 0) -> jax.Array:
    """The key of one weight. It depends on the name, not on the index in the tree: a new leaf changes no other's bits."""
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), layer)
