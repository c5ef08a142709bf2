"""Which token comes next: the most probable one, or a draw.

In: logits f32[B, V], how to choose, and for each row a key and the number of its tokens. Out:
i32[B]. A row's draw depends only on (seed, the row's name, the number of its tokens): not on the other rows, nor on its
slot, so that a resumed run draws the same.

    >>> import numpy as np
    >>> keys = np.stack([row_key(0, "item-1"), row_key(0, "item-2")])
    >>> choose(jnp.array([[0.0, 2.0, 1.0], [9.0, 2.0, 1.0]]), Sampling(), keys, jnp.array([0, 0])).tolist()
    [1, 0]

Filters are applied in transformers' order: temperature, top-k, top-p. Ties with the last token allowed are allowed as
well. Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (nucleus, top-p), Gumbel 1954 (argmax of logits plus Gumbel
noise is a draw from their softmax).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

LARGEST_PROBABILITY = 0x3F800000  # the bits of 1.0: non-negative floats have the order of their bits


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose. temperature 0 is greedy; top_k None and top_p 1 allow all tokens."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0


GREEDY = Sampling()


def row_key(seed: int, name: str) -> np.ndarray:
    """u32[2]: the key of a row's draws."""
    digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
    return np.frombuffer(digest[:8], "<u4").astype(np.uint32)


def choose(logits: jax.Array, sampling: Sampling, keys: jax.Array, counts: jax.Array) -> jax.Array:
    """logits f32[B, V], keys u32[B, 2], counts i32[B] (tokens a row has so far) -> i32[B]."""
    if sampling.temperature == 0.0:
        return _first_largest(logits)
    allowed = filter_logits(logits / sampling.temperature, sampling)
    return _first_largest(allowed + _noise(keys, counts, logits.shape[1]))


def _first_largest(scores: jax.Array) -> jax.Array:
    """f32[B, V] -> i32[B]: argmax. XLA's own takes nine times as long on CPU (3.7 against 0.4 ms for [100, 8192])."""
    size = scores.shape[1]
    largest = jnp.max(scores, axis=-1, keepdims=True)
    indices = jnp.arange(size, dtype=jnp.int32)[None, :]
    first = jnp.min(jnp.where(scores == largest, indices, size), axis=-1)
    return jnp.minimum(first, size - 1)  # for a row of NaN


def filter_logits(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """logits f32[B, V], already divided by the temperature -> the same, -inf for tokens that top-k or top-p exclude."""
    size = logits.shape[1]
    if sampling.top_k is not None and sampling.top_k < size:
        last = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]  # [B, 1]
        logits = jnp.where(logits < last, -jnp.inf, logits)
    if sampling.top_p < 1.0:
        probabilities = jax.nn.softmax(logits, axis=-1)
        excluded = _bits(probabilities) < _nucleus_bits(probabilities, sampling.top_p)[:, None]
        logits = jnp.where(excluded, -jnp.inf, logits)
    return logits


def _bits(probabilities: jax.Array) -> jax.Array:
    bits: jax.Array = jax.lax.bitcast_convert_type(probabilities, jnp.int32)
    return bits


def _nucleus_bits(probabilities: jax.Array, top_p: float) -> jax.Array:
    """f32[B, V] -> i32[B]: bits of the largest probability p such that all of at least p sum to ``top_p`` or more.

    By bisection over all floats from 0 to 1, 31 sums of a row: on CPU a tenth of the time of sorting the vocabulary.
    """
    bits = _bits(probabilities)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds  # at `low` the sum suffices, at `high` it does not
        middle = low + (high - low) // 2
        mass = jnp.sum(jnp.where(bits >= middle[:, None], probabilities, 0.0), axis=-1)
        enough = mass >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    rows = probabilities.shape[0]
    bounds = (jnp.zeros(rows, jnp.int32), jnp.full(rows, LARGEST_PROBABILITY + 1, jnp.int32))
    low, _ = jax.lax.fori_loop(0, 31, halve, bounds)
    nucleus: jax.Array = low
    return nucleus


def _noise(keys: jax.Array, counts: jax.Array, size: int) -> jax.Array:
    """Gumbel noise f32[B, V] from each row's own key, folded with the number of its tokens."""

    def row(key: jax.Array, count: jax.Array) -> jax.Array:
        folded = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), count)
        drawn: jax.Array = jax.random.gumbel(folded, (size,), jnp.float32)
        return drawn

    noise: jax.Array = jax.vmap(row)(jnp.asarray(keys), counts)
    return noise
