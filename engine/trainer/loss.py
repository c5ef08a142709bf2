"""The loss: negative log-likelihood of the tokens that count, as a sum and a count.

Sums, not means, so that micro-batches with different numbers of trained tokens add up to the same gradient as
one batch: the division by the whole step's token count comes last (see train_step).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

# Above this many logits (256 MiB in float32) they are made chunk by chunk and made again in the backward pass:
# Gemma's 256,000 words would need 0.5 GiB for one row of 512 tokens, four times over.
MAX_LOGITS = 1 << 26


def token_losses(model: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """nll f32[B, T-1] of each next token, and weights f32[B, T-1]: 1 where it counts."""
    hidden = model.hidden(batch["tokens"], positions=batch["positions"], segment_ids=batch["segment_ids"])
    hidden, labels = hidden[:, :-1], batch["tokens"][:, 1:]  # [B, T-1, D], [B, T-1]
    same_row = batch["segment_ids"][:, 1:] == batch["segment_ids"][:, :-1]
    weights = (batch["loss_mask"][:, 1:] * same_row).astype(jnp.float32)
    rows, length, width = hidden.shape
    flat = hidden.reshape(rows * length, width)  # [M, D]
    losses = _negative_log_likelihood(model, flat, labels.reshape(-1))
    return losses.reshape(rows, length), weights


def summed_loss(model: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """Scalar f32: the sum of nll over the tokens that count."""
    losses, weights = token_losses(model, batch)
    return jnp.sum(losses * weights)


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
    losses = jax.lax.map(lambda pair: jax.checkpoint(direct)(*pair), (states, wanted))  # [parts, chunk]
    return losses.reshape(-1)[:tokens]
