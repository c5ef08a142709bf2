"""The training loop: a generator that trains and yields; the caller logs and writes.

    for done in train(...):     # done: Done(train_step, metrics row, state)

Metrics are fetched one train step late, so that the device never waits for the host: when ``Done`` for step n
arrives, step n+1 is already under way, unless the caller asked for a pause after n (a checkpoint, an eval).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from engine.canonical import finite_or_null
from engine.trainer.train_step import Arrays, State

LEAST_SECONDS = 1e-6  # a clock that stood still between two train steps


@dataclass(frozen=True, slots=True)
class Done:
    """A finished train step. ``state`` is the state after it where the caller asked for a pause, else None."""

    train_step: int
    metrics: dict[str, Any]
    state: State | None


def train(
    step: Callable[[State, Arrays], tuple[State, Arrays]],
    state: State,
    batch_at: Callable[[int], Arrays],
    *,
    first: int,
    last: int,
    pause_after: Callable[[int], bool],
) -> Iterator[Done]:
    """Train steps ``first`` to ``last`` (1-based, both included)."""
    pending: tuple[int, Arrays, float] | None = None
    since = time.perf_counter()
    for train_step in range(first, last + 1):
        requested = time.perf_counter()
        batch = batch_at(train_step)
        input_wait = time.perf_counter() - requested
        state, metrics = step(state, batch)
        if pending is not None:
            row, since = _fetch(*pending, since)
            yield Done(pending[0], row, None)
        pending = (train_step, metrics, input_wait)
        if pause_after(train_step) or train_step == last:
            row, since = _fetch(*pending, since)
            pending = None
            yield Done(train_step, row, state)
            since = time.perf_counter()  # the caller's own work is not training time


def _fetch(train_step: int, metrics: Arrays, input_wait: float, since: float) -> tuple[dict[str, Any], float]:
    """Wait for a step's metrics -> (row, now); the row's seconds run from ``since``, when the step before was fetched.

    ``input_wait`` is how long the step waited for its batch; most often it is part of the seconds of the row before.
    """
    values = {name: value.item() for name, value in jax.device_get(metrics).items()}
    now = time.perf_counter()
    seconds = max(round(now - since, 6), LEAST_SECONDS)
    row = {
        "train_step": train_step,
        "loss": values["loss"],
        "learning_rate": values["learning_rate"],
        "grad_norm": values["grad_norm"],
        "tokens": int(values["tokens"]),
        "tokens_per_second": round(values["real_tokens"] / seconds, 1),
        "seconds": seconds,
        "input_wait_seconds": round(input_wait, 6),
    }
    if values["skipped"]:  # the state is unchanged
        row["skipped"] = True
    return finite_or_null(row), now
