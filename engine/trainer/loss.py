"""The loss: negative log-likelihood of the tokens that count, and nothing computed for those that do not.

Hidden states are picked at the places that predict a trained token before the vocabulary comes in: prompts and
padding cost no logits (for Gemma 2B the head is a fifth of all multiplications). Weights carry the denominator of
the whole train step, so that micro-batches with different numbers of trained tokens add up to one batch.

Legend: B sequences, J targets a sequence, M = B*J, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

# Above this many logits (256 MiB in float32) they are made chunk by chunk and made again in the backward pass:
# Gemma's 256,000 words would need 0.5 GiB for one sequence of 512 targets, four times over.
MAX_LOGITS = 1 << 26


def target_losses(model: Any, batch: dict[str, jax.Array], dropout_key: jax.Array | None = None) -> jax.Array:
    """-log p of each target, f32[B, J]; what fills up has some number there too: weigh it with 0."""
    hidden = model.hidden(
        batch["tokens"], positions=batch["positions"], segment_ids=batch["segment_ids"], dropout_key=dropout_key
    )
    picked = jnp.take_along_axis(hidden, batch["target_places"][:, :, None], axis=1)  # [B, J, D]
    rows, targets, width = picked.shape
    flat = picked.reshape(rows * targets, width)  # [M, D]
    losses = _negative_log_likelihood(model, flat, batch["target_ids"].reshape(-1))
    return losses.reshape(rows, targets)


def weighted_loss(
    model: Any, batch: dict[str, jax.Array], share: jax.Array, dropout_key: jax.Array | None = None
) -> jax.Array:
    """Scalar f32: the sum over targets, each times ``share`` (1 / targets of the whole train step)."""
    return jnp.sum(target_losses(model, batch, dropout_key) * (batch["target_weights"].astype(jnp.float32) * share))


def _negative_log_likelihood(model: Any, flat: jax.Array, labels: jax.Array) -> jax.Array:
    """states [M, D], labels i32[M] -> f32[M]."""

    def direct(states: jax.Array, wanted: jax.Array) -> jax.Array:
        logits = model.unembed(states).astype(jnp.float32)  # [m, V]
        chosen = jnp.take_along_axis(logits, wanted[:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

    tokens = flat.shape[0]
    chunk = max(1, MAX_LOGITS // model.config.vocab_size)
    if tokens <= chunk:
        return direct(flat, labels)
    parts = -(-tokens // chunk)
    padding = parts * chunk - tokens
    states = jnp.pad(flat, ((0, padding), (0, 0))).reshape(parts, chunk, -1)
    wanted = jnp.pad(labels, (0, padding)).reshape(parts, chunk)
    losses: jax.Array = jax.lax.map(lambda pair: jax.checkpoint(direct)(*pair), (states, wanted))  # [parts, chunk]
    return losses.reshape(-1)[:tokens]
