"""The loss: negative log-likelihood of the tokens that count, and nothing computed for those that do not.

Hidden states are picked at the places that predict a trained token before the vocabulary comes in: prompts and
padding cost no logits (for Gemma 2B the head is a fifth of all multiplications). Weights carry the denominator of
the whole train step, so that micro-batches with different numbers of trained tokens add up to one batch.

Legend: B sequences, J targets a sequence, M = B*J, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from engine.trainer.ops.cross_entropy import Head, even_block, linear_cross_entropy

# Up to here all logits are made at once (256 MiB in float32): one product less than in blocks of the vocabulary.
MAX_LOGITS = 1 << 26


@dataclass(frozen=True, slots=True)
class ComputePolicy:
    """How the same loss is computed; no number depends on it beyond rounding.

    ``remat`` and ``blocked`` are those of Decoder.hidden. Over several devices ``shards`` is how many ways the head's
    table is cut along its rows, and ``whole`` the sharding that puts the states it multiplies on every device.
    """

    remat: str = "none"
    blocked: bool = False
    shards: int = 1
    whole: Any = None

    @property
    def mesh(self) -> Any:
        """The mesh of several devices; None with one."""
        return None if self.whole is None else self.whole.mesh


PLAIN = ComputePolicy()


def target_losses(
    model: Any, batch: dict[str, jax.Array], policy: ComputePolicy = PLAIN, dropout_key: jax.Array | None = None
) -> jax.Array:
    """-log p of each target, f32[B, J]; what fills up has some number there too: weigh it with 0."""
    hidden = model.hidden(
        batch["tokens"],
        positions=batch["positions"],
        segment_ids=batch["segment_ids"],
        remat=policy.remat,
        blocked=policy.blocked,
        mesh=policy.mesh,
        dropout_key=dropout_key,
    )
    flat = picked(hidden, batch["target_positions"])  # [M, D]
    losses = _negative_log_likelihood(model, flat, batch["target_ids"].reshape(-1), policy)
    return losses.reshape(batch["target_ids"].shape)


def weighted_loss(
    model: Any,
    batch: dict[str, jax.Array],
    share: jax.Array,
    policy: ComputePolicy = PLAIN,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Scalar f32: the sum over targets, each times ``share`` (1 / targets of the whole train step)."""
    losses = target_losses(model, batch, policy, dropout_key)
    return jnp.sum(losses * (batch["target_weights"].astype(jnp.float32) * share))


def picked(hidden: jax.Array, places: jax.Array) -> jax.Array:
    """hidden [B, T, D], places i32[B, J] -> the states that predict a target [M, D]."""
    found = jnp.take_along_axis(hidden, places[:, :, None], axis=1)  # [B, J, D]
    return found.reshape(-1, found.shape[-1])


def head_of(model: Any, tokens: int, policy: ComputePolicy) -> Head:
    """The static facts of the model's head for M = ``tokens`` states."""
    vocab, shards = model.config.vocab_size, policy.shards if model.config.vocab_size % policy.shards == 0 else 1
    block = even_block(tokens, vocab, model.config.hidden_size, shards=shards)
    return Head(model.config.final_softcap, block, shards, model.matmul_dtype)


def _negative_log_likelihood(model: Any, flat: jax.Array, labels: jax.Array, policy: ComputePolicy) -> jax.Array:
    """states [M, D], labels i32[M] -> f32[M]."""
    if flat.shape[0] * model.config.vocab_size <= MAX_LOGITS:
        logits = model.unembed(flat)  # f32[M, V]
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen
    head = head_of(model, flat.shape[0], policy)
    if policy.whole is not None:
        flat = jax.lax.with_sharding_constraint(flat, policy.whole)
    return linear_cross_entropy(
        flat,
        model.embed[...],
        labels,
        softcap=head.softcap,
        block=head.block,
        shards=head.shards,
        matmul_dtype=head.matmul_dtype,
    )
