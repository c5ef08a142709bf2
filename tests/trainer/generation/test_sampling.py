"""Which token comes next: draws have the declared distribution and depend only on their own row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.generation.sampling import GREEDY, Sampling, choose, filter_logits, row_key

LOGITS = np.log(np.array([[0.4, 0.05, 0.3, 0.15, 0.1]], np.float32))
DRAWS = 4000


def drawn(sampling: Sampling, seed: int = 0) -> np.ndarray:
    """Relative frequencies of the five tokens over many positions of one row."""
    logits = jnp.broadcast_to(jnp.asarray(LOGITS), (DRAWS, 5))
    keys = np.broadcast_to(row_key(seed, "row"), (DRAWS, 2))
    tokens = choose(logits, sampling, keys, jnp.arange(DRAWS, dtype=jnp.int32))
    return np.bincount(np.asarray(tokens), minlength=5) / DRAWS


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.4, 0.05, 0.3, 0.15, 0.1]),
        (Sampling(0.5), [0.16, 0.0025, 0.09, 0.0225, 0.01]),
        (Sampling(1.0, top_k=2), [0.4, 0, 0.3, 0, 0]),
        (Sampling(1.0, top_k=99), [0.4, 0.05, 0.3, 0.15, 0.1]),
        (Sampling(1.0, top_p=0.69), [0.4, 0, 0.3, 0, 0]),
        (Sampling(1.0, top_p=0.71), [0.4, 0, 0.3, 0.15, 0]),
        (Sampling(1.0, top_p=1e-6), [1, 0, 0, 0, 0]),
        (Sampling(1.0, top_k=3, top_p=0.8), [0.4, 0, 0.3, 0, 0]),  # of the three allowed, two have 0.82
        (Sampling(2.0, top_p=0.5), [0.4**0.5, 0, 0.3**0.5, 0, 0]),  # the temperature comes first
    ],
)
def test_draws_have_the_declared_distribution(sampling: Sampling, expected: list[float]) -> None:
    """Frequencies within four standard deviations; excluded tokens are never drawn."""
    wanted = np.array(expected) / np.sum(expected)
    found = drawn(sampling)
    assert np.all(found[wanted == 0] == 0)
    assert np.all(np.abs(found - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / DRAWS))


def test_greedy_takes_the_first_of_the_most_probable() -> None:
    """No key, no draw."""
    logits = jnp.array([[1.0, 3.0, 3.0], [5.0, 3.0, 3.0]])
    assert choose(logits, GREEDY, jnp.zeros((2, 2), jnp.uint32), jnp.zeros(2, jnp.int32)).tolist() == [1, 0]


def test_the_nucleus_is_that_of_a_sort() -> None:
    """On random rows of a large vocabulary the threshold allows the same tokens as sorting and summing."""
    logits = 3 * jax.random.normal(jax.random.key(1), (6, 5000))
    kept = np.asarray(jnp.isfinite(filter_logits(logits, Sampling(1.0, top_p=0.9))))
    for row, flags in zip(np.asarray(jax.nn.softmax(logits, axis=-1), np.float64), kept, strict=True):
        order = np.argsort(-row)
        count = int(np.searchsorted(np.cumsum(row[order]), 0.9)) + 1
        expected = np.zeros(5000, bool)
        expected[order[:count]] = True
        assert abs(int(flags.sum()) - count) <= 1  # where f32 sums cross 0.9 a token sooner or later
        assert np.sum(flags != expected) <= 1


def test_tokens_as_probable_as_the_last_one_are_kept() -> None:
    """Ties are allowed, as transformers does for top-k; the draw among them is uniform."""
    logits = jnp.array([[2.0, 1.0, 1.0, 0.0]])
    assert jnp.isfinite(filter_logits(logits, Sampling(1.0, top_k=2))).tolist() == [[True, True, True, False]]


def test_a_draw_depends_on_seed_name_and_position_only() -> None:
    """A draw does not depend on the row's slot, nor on the other rows."""
    logits = jax.random.normal(jax.random.key(0), (3, 400))
    keys = np.stack([row_key(5, name) for name in ("a", "b", "c")])
    counts = jnp.array([0, 7, 7], jnp.int32)
    sampling = Sampling(1.0, top_k=200)
    whole = choose(logits, sampling, keys, counts).tolist()
    turned = choose(logits[::-1], sampling, keys[::-1], counts[::-1]).tolist()
    assert turned == whole[::-1]
    alone = choose(logits[1:2], sampling, keys[1:2], counts[1:2]).tolist()
    assert alone == whole[1:2]


def test_keys_differ_by_seed_and_name() -> None:
    """Keys differ by seed and name, and are the same on every machine."""
    keys = {tuple(row_key(seed, name).tolist()) for seed in (0, 1) for name in ("a", "b", "1\na")}
    assert len(keys) == 6
    assert row_key(0, "a").tolist() == [293878541, 2231035837]
