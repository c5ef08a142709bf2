"""The loss: negative log-likelihood of the trained tokens; no logits are computed for the others.

Hidden states are gathered at the positions that predict a trained token before they are multiplied by the head: prompts
and padding cost no logits (for Gemma 2B the head is a fifth of all multiplications). Weights carry the denominator of
the whole train step, so that micro-batches with different numbers of trained tokens add up to one batch.

Legend: B sequences, J targets a sequence, M = B*J, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from engine.trainer.models.decoder import Decoder
from engine.trainer.ops.blocked_attention import Mesh
from engine.trainer.ops.cross_entropy import Head, even_block, linear_cross_entropy

# Up to here all logits exist at once (256 MiB in float32): one matmul less than in blocks of the vocabulary.
MAX_LOGITS = 1 << 26


@dataclass(frozen=True, slots=True)
class ComputePolicy:
    """How the loss is computed; results differ by rounding only.

    ``remat`` and ``blocked`` are those of Decoder.hidden. On several devices ``shards`` is how many ways the rows of the
    head's table are sharded, and ``replicated`` the sharding that replicates the states it multiplies.
    """

    remat: str = "none"
    blocked: bool = False
    shards: int = 1
    replicated: jax.NamedSharding | None = None

    @property
    def mesh(self) -> Mesh | None:
        """The mesh of several devices; None with one."""
        return None if self.replicated is None else self.replicated.mesh


PLAIN = ComputePolicy()


def target_losses(
    model: Decoder, batch: dict[str, jax.Array], policy: ComputePolicy = PLAIN, dropout_key: jax.Array | None = None
) -> jax.Array:
    """-log p of each target, f32[B, J]; padding has arbitrary values there: give it weight 0."""
    hidden = model.hidden(
        batch["tokens"],
        positions=batch["positions"],
        segment_ids=batch["segment_ids"],
        remat=policy.remat,
        blocked=policy.blocked,
        mesh=policy.mesh,
        dropout_key=dropout_key,
    )
    flat = target_states(hidden, batch["target_positions"])  # [M, D]
    losses = _negative_log_likelihood(model, flat, batch["target_ids"].reshape(-1), policy)
    return losses.reshape(batch["target_ids"].shape)


def weighted_loss(
    model: Decoder,
    batch: dict[str, jax.Array],
    share: jax.Array,
    policy: ComputePolicy = PLAIN,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """f32[]: the sum over targets, each times ``share`` (1 / targets of the whole train step)."""
    losses = target_losses(model, batch, policy, dropout_key)
    return jnp.sum(losses * (batch["target_weights"].astype(jnp.float32) * share))


def target_states(hidden: jax.Array, positions: jax.Array) -> jax.Array:
    """hidden [B, T, D], positions i32[B, J] -> the states that predict a target [M, D]."""
    states = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)  # [B, J, D]
    return states.reshape(-1, states.shape[-1])


def head_of(model: Decoder, tokens: int, policy: ComputePolicy) -> Head:
    """The static description of the model's head for M = ``tokens`` states."""
    vocab, shards = model.config.vocab_size, policy.shards if model.config.vocab_size % policy.shards == 0 else 1
    block = even_block(tokens, vocab, model.config.hidden_size, shards=shards)
    return Head(model.config.final_softcap, block, shards, model.matmul)


def _negative_log_likelihood(model: Decoder, flat: jax.Array, labels: jax.Array, policy: ComputePolicy) -> jax.Array:
    """states [M, D], labels i32[M] -> f32[M]."""
    head = head_of(model, flat.shape[0], policy)
    if flat.shape[0] * model.config.vocab_size <= MAX_LOGITS:
        head = head._replace(block=model.config.vocab_size)
    if policy.replicated is not None:
        flat = jax.lax.with_sharding_constraint(flat, policy.replicated)
    return linear_cross_entropy(
        flat,
        model.embed[...],
        labels,
        softcap=head.softcap,
        block=head.block,
        shards=head.shards,
        matmul=head.matmul,
    )
