"""Schedules and optimizers against optax, and what becomes of bfloat16."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from engine.trainer.optimizer import make_optimizer, make_schedule, round_at_random, store

RATE = 0.5


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.25, 0.5, *[0.25 * (1 + math.cos(math.pi * done / 4)) for done in range(4)]]),
    ],
)
def test_schedule_values(kind: str, expected: list[float]) -> None:
    """Two steps of warm-up, then the schedule's own formula; the last train step still moves."""
    schedule = make_schedule(kind, RATE, num_train_steps=6, warmup_steps=2)
    with jax.numpy_dtype_promotion("standard"):
        found = [float(schedule(jnp.int32(step))) for step in range(6)]
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("warmup", "expected"), [(0, [0.5, 0.5]), (1, [0.5, 0.5]), (5, [0.1, 0.2])])
def test_warm_up_of_any_length(warmup: int, expected: list[float]) -> None:
    """None, one step, or longer than the training: the rate rises by equal parts and never starts at 0."""
    schedule = make_schedule("constant", RATE, num_train_steps=2, warmup_steps=warmup)
    assert [float(schedule(step)) for step in range(2)] == pytest.approx(expected)


def _tree(seed: int) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "wide": jax.random.normal(keys[0], (130, 140)),
        "small": jax.random.normal(keys[1], (4, 5)),
        "attn_norm": jax.random.normal(keys[2], (6,)),
    }


def _steps(optimizer: optax.GradientTransformation, count: int = 4) -> dict[str, jax.Array]:
    params = _tree(0)
    state = optimizer.init(params)
    for step in range(count):
        updates, state = _update(optimizer, _tree(step + 1), state, params)
        params = optax.apply_updates(params, updates)
    return params


def _update(optimizer: optax.GradientTransformation, grads: Any, state: Any, params: Any) -> Any:
    """One update, in the mode of promotion the train step allows optax."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(grads, state, params)


def _assert_close(one: Any, other: Any) -> None:
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_adamw_is_optax(make_args: Callable[..., Any]) -> None:
    """AdamW with clipping, decay and schedule moves weights as optax.adamw does (norms left out of the decay)."""
    args = make_args(weight_decay=0.1, max_grad_norm=0.7, adam_b2=0.95)
    ours, schedule = make_optimizer(args)
    mask = {"wide": True, "small": True, "attn_norm": False}
    theirs = optax.chain(
        optax.clip_by_global_norm(0.7),
        optax.adamw(schedule, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1, mask=mask),
    )
    _assert_close(_steps(ours), _steps(theirs))


def test_adafactor_is_optax(make_args: Callable[..., Any]) -> None:
    """Adafactor, without the scaling by each weight's own size, moves weights as optax.adafactor does."""
    ours, schedule = make_optimizer(make_args(optimizer="adafactor", weight_decay=0.0, max_grad_norm=None))
    _assert_close(_steps(ours), _steps(optax.adafactor(schedule, multiply_by_parameter_scale=False)))


def test_adafactor_is_factored(make_args: Callable[..., Any]) -> None:
    """A large matrix costs a row and a column of statistics, not a matrix."""
    optimizer, _ = make_optimizer(make_args(optimizer="adafactor"))
    assert max(leaf.size for leaf in jax.tree.leaves(optimizer.init({"w": jnp.zeros((256, 512))}))) == 512


def test_decay_is_times_the_rate_for_both(make_args: Callable[..., Any]) -> None:
    """Without gradients a weight shrinks by rate x decay a step, and a norm's gain not at all."""
    for kind in ("adamw", "adafactor"):
        optimizer, _ = make_optimizer(
            make_args(optimizer=kind, weight_decay=0.1, learning_rate=0.5, lr_schedule="constant", warmup_steps=0)
        )
        params = {"w": jnp.ones((2, 2)), "norm": jnp.ones((2,))}
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = _update(optimizer, zeros, optimizer.init(params), params)
        np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)
        np.testing.assert_array_equal(updates["norm"], 0.0)


def test_rounding_at_random_is_right_on_average() -> None:
    """Each value goes to one of its two bfloat16 neighbours; the mean of many is the value."""
    values = jnp.full((20_000,), 1.0 + 1 / 512, jnp.float32)  # a quarter of the way from 1 to the next bfloat16
    rounded = round_at_random(values, jax.random.key(0)).astype(jnp.float32)
    assert set(np.unique(rounded).tolist()) == {1.0, 1.0 + 1 / 128}
    assert float(rounded.mean()) == pytest.approx(1.0 + 1 / 512, abs=1e-4)
    exact = jnp.asarray([0.0, -2.5, 1.0078125], jnp.float32)
    np.testing.assert_array_equal(round_at_random(exact, jax.random.key(1)).astype(jnp.float32), exact)


def test_small_updates_of_bfloat16_weights_are_not_lost() -> None:
    """A hundred updates of 0.01 % move bfloat16 weights by 1 %; rounded to nearest they would not move at all."""
    weights = {"w": jnp.ones((4096,), jnp.bfloat16)}
    for step in range(100):
        wide = {"w": weights["w"].astype(jnp.float32) * 1.0001}
        assert jnp.all(wide["w"].astype(jnp.bfloat16) == weights["w"])
        weights = store(wide, weights, jax.random.key(step))
    assert float(weights["w"].astype(jnp.float32).mean()) == pytest.approx(1.01, abs=1e-3)
