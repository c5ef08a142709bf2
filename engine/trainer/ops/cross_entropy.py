"""The head and its loss in blocks of the vocabulary: no [M, V] array, in the forward or the backward pass.

In: final states [M, D], the head's table [V, D] (tied or not), labels i32[M]. Out: -log p of each label, f32[M], and
gradients of both. ``block`` rows of the table are multiplied at a time; the last block has the rows left over.

    losses = linear_cross_entropy(states, table, labels, softcap=None, block=12_800)

Only one block's logits [M, block] exist at a time, in float32. In the forward pass a running maximum and a running sum
of exponentials give the log of the sum over all; in the backward pass each block's logits are recomputed, and each row
of the table's gradient is written once, after one sum over M in float32 (blocks of tokens would instead sum the entire
[V, D] once per block). Operands of every matmul have the states' dtype, or that of ``matmul`` (final states are normed,
and fit float16); sums are float32.

The parts are functions of their own for the update inside the backward pass, where the table's gradient must never
exist in full: :func:`head_forward` (loss and its log sums), :func:`head_input_gradient` (of the states only) and
:func:`over_head_blocks` (the table's gradient block by block, for the caller to consume); see
:mod:`engine.trainer.optim.tied_embedding`.

Sharding: a table whose rows are sharded over n devices is viewed as [n, V / n, D] with ``shards=n``: every device then
processes ``block / n`` of its own rows at a time, and no row is sent. States must be replicated (a sharding constraint
of the caller); only numbers per token, once, and the states' gradient are summed over devices.

Cost, in matmuls of M V D multiplications: forward 1, backward 3 (logits recomputed, states, table); 2 where all rows are
one block, whose logits are saved.
Legend: M tokens, D width, V vocabulary, S shards, R rows of a block in one shard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from engine.trainer.ops.matmul import MatmulRule, contract

Carry = TypeVar("Carry")
Sums = tuple[jax.Array, jax.Array, jax.Array]  # f32[M, S] each: highest logit, sum of exponentials, label's logit
# (first row within a shard, table rows of the block [S, R, D], row numbers i32[S, R], carry) -> carry
BlockBody = Callable[[jax.Array, jax.Array, jax.Array, Carry], Carry]


class Head(NamedTuple):
    """The static description of a head: softcap (c in c tanh(x / c), Gemma 2's 30) or None, rows a block, shards.

    ``matmul``: how its operands are multiplied, where not as the states are.
    """

    softcap: float | None
    block: int
    shards: int = 1
    matmul: MatmulRule | None = None

    def dtype(self, states: jax.Array) -> DTypeLike:
        """The dtype of the operands of its matmuls."""
        return self.matmul.dtype if self.matmul else states.dtype


class Targets(NamedTuple):
    """What the backward pass of the losses needs: M tokens, each with its label."""

    states: jax.Array  # [M, D]
    labels: jax.Array  # i32[M]
    log_sum: jax.Array  # f32[M], of head_forward
    cotangent: jax.Array  # f32[M]: the weight of each token's loss


def linear_cross_entropy(
    states: jax.Array,
    table: jax.Array,
    labels: jax.Array,
    *,
    softcap: float | None,
    block: int,
    shards: int = 1,
    matmul: MatmulRule | None = None,
) -> jax.Array:
    """-log softmax(cap(states table^T))[labels]: states [M, D], table [V, D], labels i32[M] -> f32[M].

    Gradients have the dtypes of states and table; the table's is rounded once, from float32.
    ``block`` may be any number from 1; above V it is V. ``shards`` must divide V.
    """
    return _fused(states, table, labels, Head(softcap, min(block, table.shape[0]), shards, matmul))


def head_forward(states: jax.Array, table: jax.Array, labels: jax.Array, head: Head) -> tuple[jax.Array, jax.Array]:
    """(losses f32[M], log sums of exponentials f32[M]); the backward pass needs the latter."""

    def body(_: jax.Array, rows: jax.Array, numbers: jax.Array, carry: Sums) -> Sums:
        return _summed(_logits(states, rows, head)[0], labels, numbers, carry)

    return _losses(_over_blocks(table, head, body, _no_sums(states, head)))


def _no_sums(states: jax.Array, head: Head) -> Sums:
    zero = jnp.zeros((states.shape[0], head.shards), jnp.float32)
    return jnp.full_like(zero, -jnp.inf), zero, zero


def _summed(logits: jax.Array, labels: jax.Array, numbers: jax.Array, so_far: Sums) -> Sums:
    """The sums with the logits [M, S, R] of one more block."""
    highest, total, label_logit = so_far
    top = jnp.maximum(highest, jnp.max(logits, axis=-1))
    total = total * jnp.exp(highest - top) + jnp.sum(jnp.exp(logits - top[..., None]), axis=-1)
    # The comparison is fused into the sum, in the same pass over the logits: no one-hot is stored, no row of the
    # table is gathered (across devices), and the label's logit is the same number as in the sum.
    is_label = numbers[None] == labels[:, None, None]
    return top, total, label_logit + jnp.sum(jnp.where(is_label, logits, 0.0), axis=-1)


def _losses(sums: Sums) -> tuple[jax.Array, jax.Array]:
    highest, total, label_logit = sums
    log_sum = jax.nn.logsumexp(highest + jnp.log(total), axis=-1)  # over shards
    return log_sum - jnp.sum(label_logit, axis=-1), log_sum


def head_input_gradient(targets: Targets, table: jax.Array, head: Head) -> jax.Array:
    """Gradient of sum(losses * cotangent) with respect to the states only, f32[M, D] (cast it to the states' dtype)."""

    def body(_: jax.Array, rows: jax.Array, numbers: jax.Array, total: jax.Array) -> jax.Array:
        return total + _times_rows(_logits_gradient(targets, rows, numbers, head), rows, head)

    total = _over_blocks(table, head, body, jnp.zeros(targets.states.shape, jnp.float32))
    return total * targets.cotangent[:, None]


def over_head_blocks(
    targets: Targets, table_of: Callable[[Carry], jax.Array], head: Head, update: BlockBody[Carry], carry: Carry
) -> Carry:
    """carry = update(first, gradient f32[S, R, D] of the table's rows, row numbers i32[S, R], carry), block by block.

    ``table_of(carry)`` is the table [V, D] in the carry: an update that writes the rows of its block into the carry
    (:func:`put_rows`) works in place, since no later block reads them. ``first`` is the block's first row within each
    shard; the last call may have fewer rows.
    """
    weighted, peak = _weighted_states(targets, head)

    def body(first: jax.Array, rows: jax.Array, numbers: jax.Array, carry: Carry) -> Carry:
        by_logits = _logits_gradient(targets, rows, numbers, head)
        return update(first, _times_states(by_logits, weighted, peak, head), numbers, carry)

    return _over_blocks(table_of, head, body, carry)


def even_block(
    tokens: int, vocab: int, width: int, *, shards: int = 1, most_logits: int = 1 << 26, most_gradients: int = 1 << 24
) -> int:
    """Rows a block so that a block has at most ``most_logits`` logits (256 MiB) and the blocks are even.

    The gradient of a shard's rows has at most ``most_gradients`` numbers (64 MiB in float32): with few tokens a block's
    logits stay small while its rows grow large. Where the limits allow it, a multiple of 128 rows a shard, the width of
    a TPU's registers; and one that leaves no rows over, unless that is less than half of the limit: rows left over after
    the loop cost the TPU's compiler a copy of the table.

    >>> even_block(8192, 256_000, 2048), even_block(512, 256_000, 2048), even_block(64, 260, 128)
    (6400, 6400, 260)
    """
    per_shard = vocab // shards
    most = max(1, min(most_logits // (tokens * shards), most_gradients // width))
    if most >= per_shard:
        return vocab
    for size in range(most - most % 128, most // 2, -128):
        if per_shard % size == 0:
            return shards * size
    even = -(-per_shard // -(-per_shard // most))  # ceilings
    rounded = -(-even // 128) * 128
    return shards * (rounded if rounded <= most else even)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _fused(states: jax.Array, table: jax.Array, labels: jax.Array, head: Head) -> jax.Array:
    return head_forward(states, table, labels, head)[0]


Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]  # states, table, labels, log sums, logits


def _fused_forward(states: jax.Array, table: jax.Array, labels: jax.Array, head: Head) -> tuple[jax.Array, Saved]:
    if head.block < table.shape[0]:
        losses, log_sum = head_forward(states, table, labels, head)
        return losses, (states, table, labels, log_sum, None)
    # One block: its logits are saved, since the backward pass starts right after them. Recomputing them would take the
    # same memory, and a quarter of the head's matmuls.
    rows, numbers = _block(table, jnp.int32(0), table.shape[0] // head.shards, head)
    logits = _logits(states, rows, head)[0]
    losses, log_sum = _losses(_summed(logits, labels, numbers, _no_sums(states, head)))
    return losses, (states, table, labels, log_sum, logits)


def _fused_backward(head: Head, saved: Saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    states, table, labels, log_sum, logits = saved
    targets = Targets(states, labels, log_sum, cotangent)
    weighted, peak = _weighted_states(targets, head)

    def body(
        first: jax.Array, rows: jax.Array, numbers: jax.Array, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        by_states, by_table = carry
        by_logits = (
            _logits_gradient(targets, rows, numbers, head)
            if logits is None
            else _gradient_of(logits, _slope(logits, head), targets, numbers, head)
        )
        by_rows = _times_states(by_logits, weighted, peak, head).astype(table.dtype)
        return by_states + _times_rows(by_logits, rows, head), put_rows(by_table, by_rows, first, head)

    start = jnp.zeros(states.shape, jnp.float32), jnp.zeros(table.shape, table.dtype)
    by_states, by_table = _over_blocks(table, head, body, start)
    return (by_states * cotangent[:, None]).astype(states.dtype), by_table, None


_fused.defvjp(_fused_forward, _fused_backward)


def take_rows(table: jax.Array, first: jax.Array, size: int, head: Head) -> jax.Array:
    """[V, ...] -> [S, size, ...]: the rows from ``first`` of each shard."""
    split = table.reshape(head.shards, -1, *table.shape[1:])
    rows: jax.Array = jax.lax.dynamic_slice_in_dim(split, first, size, axis=1)
    return rows


def put_rows(table: jax.Array, rows: jax.Array, first: jax.Array, head: Head) -> jax.Array:
    """The inverse of :func:`take_rows`: ``table`` [V, ...] with ``rows`` [S, R, ...] written into it."""
    split = table.reshape(head.shards, -1, *table.shape[1:])
    return jax.lax.dynamic_update_slice_in_dim(split, rows, first, axis=1).reshape(table.shape)


def _over_blocks(
    table: jax.Array | Callable[[Carry], jax.Array], head: Head, body: BlockBody[Carry], carry: Carry
) -> Carry:
    """``body`` for every full block in a loop, then for the rows left over: their number is static, no padding is needed."""

    def table_of(carry: Carry) -> jax.Array:
        return table(carry) if callable(table) else table

    per_shard = table_of(carry).shape[0] // head.shards
    size = max(1, min(head.block // head.shards, per_shard))
    full, rest = divmod(per_shard, size)

    def at(first: jax.Array, size: int, carry: Carry) -> Carry:
        rows, numbers = _block(table_of(carry), first, size, head)
        return body(first, rows, numbers, carry)

    carry = jax.lax.fori_loop(0, full, lambda index, carry: at(index * size, size, carry), carry)
    return at(jnp.int32(full * size), rest, carry) if rest else carry


def _block(table: jax.Array, first: jax.Array, size: int, head: Head) -> tuple[jax.Array, jax.Array]:
    """Of each shard ``size`` rows from ``first``: (rows [S, R, D], their numbers i32[S, R])."""
    shard = jnp.arange(head.shards, dtype=jnp.int32)[:, None] * (table.shape[0] // head.shards)
    numbers: jax.Array = shard + first + jnp.arange(size, dtype=jnp.int32)[None, :]
    return take_rows(table, first, size, head), numbers


def _logits(states: jax.Array, rows: jax.Array, head: Head) -> tuple[jax.Array, jax.Array | None]:
    """states [M, D], rows [S, R, D] -> logits f32[M, S, R] and, with a softcap, their slope (d capped / d plain)."""
    shards, size, width = rows.shape
    dtype = head.dtype(states)
    flat = rows.reshape(shards * size, width).astype(dtype)
    logits = contract(states.astype(dtype), flat, (-1, -1), head.matmul)
    plain: jax.Array = logits.reshape(-1, shards, size)
    if head.softcap is None:
        return plain, None
    capped = head.softcap * jnp.tanh(plain / head.softcap)
    return capped, _slope(capped, head)


def _slope(logits: jax.Array, head: Head) -> jax.Array | None:
    """Derivative of the capped logits with respect to the plain ones; None without a softcap."""
    return None if head.softcap is None else 1.0 - jnp.square(logits / head.softcap)


def _logits_gradient(targets: Targets, rows: jax.Array, numbers: jax.Array, head: Head) -> jax.Array:
    """Gradient of each token's own loss with respect to the plain logits of a block, [M, S, R], in the matmul dtype.

    The cotangent goes into the matmuls' other operands: a factor of 1 / tokens would underflow in float16.
    """
    return _gradient_of(*_logits(targets.states, rows, head), targets, numbers, head)


def _gradient_of(
    logits: jax.Array, slope: jax.Array | None, targets: Targets, numbers: jax.Array, head: Head
) -> jax.Array:
    """The same, from logits f32[M, S, R] and their slope."""
    probability = jnp.exp(logits - targets.log_sum[:, None, None])
    is_label = numbers[None] == targets.labels[:, None, None]
    # p - 1 before it is rounded: subtracted later, in bfloat16, two large numbers would cancel
    gradient = jnp.where(is_label, probability - 1.0, probability)
    return (gradient if slope is None else gradient * slope).astype(head.dtype(targets.states))


def _weighted_states(targets: Targets, head: Head) -> tuple[jax.Array, jax.Array]:
    """(states times cotangent over its peak, in the matmul dtype [M, D]; the peak f32)."""
    peak = jnp.max(jnp.abs(targets.cotangent))
    peak = jnp.where(peak > 0.0, peak, 1.0)
    share = targets.cotangent / peak
    return (targets.states.astype(jnp.float32) * share[:, None]).astype(head.dtype(targets.states)), peak


def _times_rows(by_logits: jax.Array, rows: jax.Array, head: Head) -> jax.Array:
    """[M, S, R] x [S, R, D] -> f32[M, D]."""
    flat = rows.reshape(-1, rows.shape[-1]).astype(by_logits.dtype)
    flat_logits = by_logits.reshape(by_logits.shape[0], -1)
    return contract(flat_logits, flat, (-1, -2), head.matmul)


def _times_states(by_logits: jax.Array, weighted: jax.Array, peak: jax.Array, head: Head) -> jax.Array:
    """[M, S, R] x [M, D] -> f32[S, R, D]."""
    flat = by_logits.reshape(by_logits.shape[0], -1)
    by_rows = contract(flat, weighted, (-2, -2), head.matmul)
    return (by_rows * peak).reshape(*by_logits.shape[1:], -1)
