"""Skips train steps with a non-finite loss or gradient: state unchanged, skips counted, too many in a row is T131.

On the device, inside the compiled step (pure):

    finite = is_finite(loss, global_norm(grads))
    params, opt_state, metrics = apply_updates(grads, params, opt_state, step, args, ok=finite)
    metrics |= skipped_metric(finite)               # {"skipped": 0 or 1}

Each number of the state is selected, old or new, as it is written (:func:`engine.trainer.optim.rules.write_slice`). A
branch around the update would keep both states alive; this costs no memory. Checking loss and norm is enough: a sum of
squares is finite only if every gradient is (one above 1e19 counts as infinite too).

On the host, where metrics arrive:

    skips = Skips(most=10)
    skips.recall(rows_of_the_resumed_run)
    skips.record(train_step, was_skipped, rows=[...])   # raises RunFailed T131 at the 11th in a row

With the update inside the backward pass the norm is not known beforehand: pass ``is_finite(loss, norm of this layer)``
for each layer. A layer with a non-finite gradient is not updated, nor is any layer below it (a non-finite cotangent
stays non-finite); layers above it are updated already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from engine.errors import RunFailed, Where

MOST_NAMED = 5  # rows in a message


def is_finite(loss: jax.Array, grad_norm: jax.Array) -> jax.Array:
    """bool[]: are both finite?"""
    return jnp.logical_and(jnp.isfinite(loss), jnp.isfinite(grad_norm))


def skipped_metric(finite: jax.Array) -> dict[str, jax.Array]:
    """{"skipped": i32, 1 where the step left the state unchanged}."""
    return {"skipped": jnp.where(finite, 0, 1).astype(jnp.int32)}


@dataclass(slots=True)
class Skips:
    """How many train steps were skipped, in total and in a row; up to ``most`` in a row are tolerated."""

    most: int
    total: int = 0
    in_a_row: int = 0
    train_steps: list[int] = field(default_factory=list)

    def record(
        self, train_step: int, was_skipped: bool, *, rows: Sequence[str] = (), listed_in: Path | None = None
    ) -> None:
        """Count this step. ``rows``: ids of the rows in its batch, all of which are listed in the file ``listed_in``.

        Raises RunFailed T131 for the first skip in a row beyond ``most``.
        """
        self._count(train_step, was_skipped)
        if not was_skipped or self.in_a_row <= self.most:
            return
        named = ", ".join(rows[:MOST_NAMED]) + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")
        times = "once" if self.in_a_row == 1 else f"{self.in_a_row} times in a row"
        raise RunFailed(
            "T131",
            f"train step {train_step}: the loss or a gradient is NaN or infinite, {times}; {self.most} are tolerated"
            + (f"; the rows of its batch: {named}" if named else ""),
            where=Where(file=str(listed_in)) if listed_in else None,
            hint="look at those rows; lower the learning_rate, raise warmup_steps, or train in float32; "
            "run again without a change, training fails at the same step",
        )

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count the skips in the rows of metrics.jsonl from before this process, so that a streak continues."""
        for row in rows:
            self._count(row["train_step"], bool(row.get("skipped")))

    def _count(self, train_step: int, was_skipped: bool) -> None:
        if not was_skipped:
            self.in_a_row = 0
            return
        self.total += 1
        self.in_a_row += 1
        self.train_steps.append(train_step)
