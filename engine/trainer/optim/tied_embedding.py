"""The update of an embedding that is also the head, block by block of its rows: its gradient never exists as a whole.

In: the table [V, D], its statistics, what the head needs to go back (:class:`~engine.trainer.ops.cross_entropy.Targets`) and
the gradient of the embedded inputs. Out: the table and its statistics after one update of the declared optimizer, as
:func:`engine.trainer.optim.rules.update_slice` would make it from the materialised gradient [V, D].

    losses, log_sum = head_forward(states, table, labels, head)
    by_states = head_input_gradient(targets, table, head)      # then back through the layers, updating each
    table, stats, master = tied_embedding_update(rule, now, tied, table, stats, master, head=head, name="embed")

The gradient of a row is the head's share, computed again from the logits of its block, plus the input's share: the sum
over the places where its token stands. Both are there in float32 and are added before anything is rounded.

Passes over the table, each costing two products of M V D multiplications (the logits again, and the head's share):

- AdamW: one. Nothing in it spans rows.
- Adafactor: two. The first finds the statistics: a row's mean square is known with its block, a column's after the last
  block. The clip needs the root mean square of the whole update, sum_vd g_vd^2 rowmean / (row_v col_d): for a given
  column it is col_d^-1 times a sum over rows of g_vd^2 / row_v, which the first pass adds up too, so that no third pass
  is needed. The second computes the gradient again and writes.

For Gemma 2B at 512 tokens that is 0.54 Tmul a pass beside the step's 5.1 (forward, backward, recomputed layers).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from engine.trainer.ops.cross_entropy import Head, Targets, over_head_blocks, put_rows, take_rows
from engine.trainer.optim.rules import (
    ADAFACTOR_EPS,
    Rule,
    Stats,
    StepInputs,
    adafactor_decay,
    adamw_slice,
    clip_divisor,
    write_slice,
)

Moved = tuple[jax.Array, Stats, jax.Array | None]  # table, statistics, master


class Tied(NamedTuple):
    """Where the gradient of a tied table comes from: the head's targets, and the inputs that were looked up."""

    targets: Targets
    tokens: jax.Array  # i32[N]: the ids that were embedded
    by_inputs: jax.Array  # [N, D]: gradient by table[tokens], the embedding's scale already in it


def tied_gradient(tied: Tied, table: jax.Array, head: Head) -> jax.Array:
    """The materialised gradient f32[V, D], for those who have the room: head's share and inputs' in one buffer."""

    def put(first: jax.Array, by_rows: jax.Array, _: jax.Array, carry: jax.Array) -> jax.Array:
        return put_rows(carry, by_rows, first, head)

    start = jnp.zeros(table.shape, jnp.float32)
    by_head = over_head_blocks(tied.targets, lambda _: table, head, put, start)
    return by_head.at[tied.tokens].add(tied.by_inputs.astype(jnp.float32))


def tied_embedding_update(
    rule: Rule,
    step_inputs: StepInputs,
    tied: Tied,
    table: jax.Array,
    stats: Stats,
    master: jax.Array | None,
    *,
    head: Head,
    name: str = "embed",
) -> Moved:
    """One update of the table [V, D] -> (table, statistics, master); ``stats`` as rules.init_stats makes them."""
    if rule.optimizer == "adamw":
        return _adamw(rule, step_inputs, tied, (table, stats, master), head, name)
    if "row" in stats:
        return _factored(rule, step_inputs, tied, (table, stats, master), head, name)
    return _unfactored(rule, step_inputs, tied, (table, stats, master), head, name)


class _Block(NamedTuple):
    """One block of rows as one matrix [n, D], and where it belongs."""

    first: jax.Array
    grad: jax.Array  # f32[n, D]
    numbers: jax.Array  # i32[n]
    head: Head

    def take(self, whole: jax.Array) -> jax.Array:
        """[V, ...] -> [n, ...]."""
        rows = take_rows(whole, self.first, self.numbers.shape[0] // self.head.shards, self.head)
        return rows.reshape(-1, *whole.shape[1:])

    def put(self, whole: jax.Array, rows: jax.Array) -> jax.Array:
        """[V, ...] with these rows [n, ...] in place."""
        return put_rows(whole, rows.reshape(self.head.shards, -1, *whole.shape[1:]), self.first, self.head)


def _over_gradient(tied: Tied, step_inputs: StepInputs, table_of: Any, head: Head, update: Any, carry: Any) -> Any:
    """carry = update(block, carry) with the whole gradient of every block."""

    def body(first: jax.Array, by_head: jax.Array, numbers: jax.Array, carry: Any) -> Any:
        shards, size, width = by_head.shape
        per_shard = table_of(carry).shape[0] // head.shards
        # The place of each token's row within the block, or n, one past its end, where it is not in it.
        shard, row = tied.tokens // per_shard, tied.tokens % per_shard - first
        inside = jnp.logical_and(row >= 0, row < size)
        places = jnp.where(inside, shard * size + row, shards * size)
        grad = by_head.reshape(shards * size, width)
        grad = grad.at[places].add(tied.by_inputs.astype(jnp.float32), mode="drop") * step_inputs.scale
        return update(_Block(first, grad, numbers.reshape(-1), head), carry)

    return over_head_blocks(tied.targets, table_of, head, body, carry)


def _write(rule: Rule, step_inputs: StepInputs, block: _Block, direction: jax.Array, moved: Moved, name: str) -> Moved:
    """The block's rows moved by ``direction``."""
    table, stats, master = moved
    old = None if master is None else block.take(master)
    rows, wide = write_slice(rule, step_inputs, direction, block.take(table), old, name=name, rows=block.numbers)
    if master is not None and wide is not None:
        master = block.put(master, wide)
    return block.put(table, rows), stats, master


def _adamw(rule: Rule, step_inputs: StepInputs, tied: Tied, moved: Moved, head: Head, name: str) -> Moved:
    def update(block: _Block, moved: Moved) -> Moved:
        stats = moved[1]
        old = {kind: block.take(leaf) for kind, leaf in stats.items()}
        direction, new = adamw_slice(block.grad, old, step_inputs.updates, rule)
        table, _, master = _write(rule, step_inputs, block, direction, moved, name)
        kept = {kind: block.put(leaf, jnp.where(step_inputs.ok, new[kind], old[kind])) for kind, leaf in stats.items()}
        return table, kept, master

    result: Moved = _over_gradient(tied, step_inputs, lambda moved: moved[0], head, update, moved)
    return result


def _factored(rule: Rule, step_inputs: StepInputs, tied: Tied, moved: Moved, head: Head, name: str) -> Moved:
    """Two passes, see the module's docstring."""
    table, stats, _ = moved
    vocab, width = table.shape
    kept = adafactor_decay(step_inputs.updates)

    def measure(block: _Block, carry: Any) -> Any:
        rows, column, weighed = carry
        plain = jnp.square(block.grad)
        row = kept * block.take(stats["row"]) + (1.0 - kept) * jnp.mean(plain + ADAFACTOR_EPS, axis=1)  # [n]
        column = column + jnp.sum(plain + ADAFACTOR_EPS, axis=0)  # [D]
        return block.put(rows, row), column, weighed + jnp.sum(plain / row[:, None], axis=0)

    zeros = jnp.zeros((width,), jnp.float32)
    start = (jnp.zeros((vocab,), jnp.float32), zeros, zeros)
    row, column, weighed = _over_gradient(tied, step_inputs, lambda _: table, head, measure, start)
    col = kept * stats["col"] + (1.0 - kept) * (column / vocab)
    mean = jnp.mean(row)
    divisor = clip_divisor(mean * jnp.sum(weighed / col) / (vocab * width))
    col_factor = jax.lax.rsqrt(col) / divisor

    def update(block: _Block, moved: Moved) -> Moved:
        row_factor = jax.lax.rsqrt(block.take(row) / mean)
        direction = block.grad * row_factor[:, None] * col_factor[None, :]
        return _write(rule, step_inputs, block, direction, moved, name)

    moved = _over_gradient(tied, step_inputs, lambda moved: moved[0], head, update, moved)
    new = {"row": jnp.where(step_inputs.ok, row, stats["row"]), "col": jnp.where(step_inputs.ok, col, stats["col"])}
    return moved[0], new, moved[2]


def _unfactored(rule: Rule, step_inputs: StepInputs, tied: Tied, moved: Moved, head: Head, name: str) -> Moved:
    """A table too small to be factored: two passes for the clip, statistics written in the second."""
    table, stats, _ = moved
    kept = adafactor_decay(step_inputs.updates)

    def turned(block: _Block, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
        new = kept * nu + (1.0 - kept) * (jnp.square(block.grad) + ADAFACTOR_EPS)
        return block.grad * jax.lax.rsqrt(new), new

    def measure(block: _Block, total: jax.Array) -> jax.Array:
        return total + jnp.sum(jnp.square(turned(block, block.take(stats["nu"]))[0]))

    total = _over_gradient(tied, step_inputs, lambda _: table, head, measure, jnp.zeros((), jnp.float32))
    divisor = clip_divisor(total / table.size)

    def update(block: _Block, moved: Moved) -> Moved:
        old = block.take(moved[1]["nu"])
        direction, nu = turned(block, old)
        table, _, master = _write(rule, step_inputs, block, direction / divisor, moved, name)
        return table, {"nu": block.put(moved[1]["nu"], jnp.where(step_inputs.ok, nu, old))}, master

    result: Moved = _over_gradient(tied, step_inputs, lambda moved: moved[0], head, update, moved)
    return result
