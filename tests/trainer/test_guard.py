"""Train steps with a non-finite loss or gradient: state unchanged, counted, and T131 with the batch that caused it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.errors import RunFailed
from engine.trainer.guard import Skips, is_finite, skipped_metric
from engine.trainer.optim.hyperparameters import Hyperparameters
from engine.trainer.optim.optimizer import apply_updates, global_norm, init_opt_state


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_anywhere_is_found(bad: float) -> None:
    """In the loss, or at one place of one gradient."""
    grads = {"a": jnp.ones((3, 4)), "b": jnp.ones(5, jnp.bfloat16)}
    assert is_finite(jnp.float32(1.0), global_norm(grads))
    assert not is_finite(jnp.float32(bad), global_norm(grads))
    for name in grads:
        broken = {**grads, name: grads[name].at[-1].set(bad)}
        assert not is_finite(jnp.float32(1.0), global_norm(broken))


def test_a_bad_step_in_between_leaves_no_trace(make_args: Callable[..., Any]) -> None:
    """Good, bad, good: weights, statistics and count end where they end without the bad one (at the same rates)."""
    args = make_args(lr_schedule="constant", warmup_steps=0)
    params = {"layers": {"q": jnp.ones((2, 3, 4), jnp.bfloat16)}, "norm": jnp.ones(3)}

    @jax.jit
    def step(params: Any, opt_state: Any, factor: jax.Array, number: jax.Array) -> Any:
        grads = jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), params)
        finite = is_finite(factor, global_norm(grads))
        params, opt_state, metrics = apply_updates(
            grads, params, opt_state, number, Hyperparameters.of(args), ok=finite
        )
        return params, opt_state, {**metrics, **skipped_metric(finite)}

    def run(steps: list[tuple[float, int]]) -> Any:
        state = params, init_opt_state(params, args)
        counts = []
        for factor, number in steps:
            *state, metrics = step(*state, jnp.float32(factor), jnp.int32(number))
            counts.append(int(metrics["skipped"]))
        return state, counts

    with_bad, counts = run([(0.5, 0), (np.nan, 1), (0.3, 2)])
    without, none = run([(0.5, 0), (0.3, 2)])
    assert (counts, none) == ([0, 1, 0], [0, 0])
    for left, right in zip(jax.tree.leaves(with_bad), jax.tree.leaves(without), strict=True):
        assert left.tobytes() == right.tobytes()


def test_the_message_names_the_batch() -> None:
    """Two in a row are tolerated, a finite step in between resets the count, the third in a row names the rows to check."""
    skips = Skips(most=2)
    for train_step, bad in enumerate([True, True, False, True, True], start=1):
        skips.record(train_step, bad)
    assert (skips.total, skips.in_a_row, skips.train_steps) == (4, 2, [1, 2, 4, 5])
    with pytest.raises(RunFailed) as failure:
        skips.record(6, True, rows=[f"r{index}" for index in range(7)])
    diagnostic = failure.value.diagnostics[0]
    assert (diagnostic.code, diagnostic.message) == (
        "T131",
        "train step 6: the loss or a gradient is NaN or infinite, 3 times in a row; 2 are tolerated; "
        "the rows of its batch: r0, r1, r2, r3, r4 and 2 more",
    )
    assert diagnostic.hint == (
        "look at those rows; lower the learning_rate, raise warmup_steps, or train in float32; "
        "run again without a change, training fails at the same step"
    )


def test_none_is_tolerated_at_zero() -> None:
    """most=0 stops at the first."""
    with pytest.raises(RunFailed, match=r"the loss or a gradient is NaN or infinite, once; 0 are tolerated\n"):
        Skips(most=0).record(1, True)
