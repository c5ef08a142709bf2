"""The TPU's kernel computes the same attention: forward and gradients beside the plain one, interpreted on this CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.models import layers
from engine.trainer.ops.blocked_attention import EVERYTHING, TokenPositions
from engine.trainer.ops.splash_attention import splash_attention

LENGTH, HEAD = 256, 128
# float32 throughout; sums are in another order: a few roundings of numbers around 1.
TOLERANCE = 2e-5


class Case(NamedTuple):
    """Heads, kv heads, the soft cap, the windows that layers have and that of this layer."""

    heads: int
    kv_heads: int
    softcap: float | None = None
    windows: tuple[int | None, ...] = (None,)
    window: int | None = None


CASES = {
    "multi-query": Case(2, 1),
    "grouped": Case(4, 2),
    "soft cap": Case(2, 2, softcap=5.0),
    "window, of layers with and without": Case(2, 1, windows=(None, 100), window=100),
    "no window, of layers with and without": Case(2, 1, windows=(100, None), window=None),
    "window and soft cap": Case(2, 1, softcap=5.0, windows=(100,), window=100),
}


def packed(rows: int) -> TokenPositions:
    """Three rows in one sequence, the second across a tile's edge, then padding."""
    lengths = (60, 130, 50)
    segments = np.concatenate(
        [np.full(size, number + 1) for number, size in enumerate(lengths)] + [np.zeros(LENGTH - sum(lengths))]
    )
    positions = np.concatenate([np.arange(size) for size in (*lengths, LENGTH - sum(lengths))])
    both = (np.broadcast_to(part.astype(np.int32), (rows, LENGTH)) for part in (positions, segments))
    return TokenPositions(*map(jnp.asarray, both))


def plain(q: jax.Array, k: jax.Array, v: jax.Array, tokens: TokenPositions, case: Case) -> jax.Array:
    """The reference: all scores, one mask."""
    mask = layers.causal_mask(tokens.segment_ids, q.shape[0], LENGTH)
    index = jnp.arange(LENGTH, dtype=jnp.int32)
    near = index[:, None] - index[None, :] < (case.window or EVERYTHING)
    return layers.attention(q, k, v, mask & near[None], softcap=case.softcap)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_the_plain_attention(case):
    """Result and the gradients of q, k and v."""
    draw = np.random.default_rng(0)

    def drawn(heads: int) -> jax.Array:
        return jnp.asarray(draw.standard_normal((1, LENGTH, heads, HEAD)) * HEAD**-0.25, jnp.float32)

    q, k, v, by = drawn(case.heads), drawn(case.kv_heads), drawn(case.kv_heads), drawn(case.heads)
    tokens = packed(1)
    real = (tokens.segment_ids > 0)[:, :, None, None]  # what padding gets counts nowhere
    window = jnp.int32(EVERYTHING if case.window is None else case.window)

    def fused(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        return splash_attention(
            q, k, v, tokens, window=window, windows=case.windows, softcap=case.softcap, interpret=True
        )  # fmt: skip

    ours = jax.jit(lambda: with_gradients(fused, q, k, v, by, real))()
    theirs = jax.jit(lambda: with_gradients(lambda *args: plain(*args, tokens, case), q, k, v, by, real))()
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, two, atol=TOLERANCE, rtol=TOLERANCE)


def with_gradients(
    attend: Any, q: jax.Array, k: jax.Array, v: jax.Array, by: jax.Array, real: jax.Array
) -> list[jax.Array]:
    """The result and the gradients of q, k and v, of real tokens."""
    mixed, back = jax.vjp(lambda *args: jnp.where(real, attend(*args), 0.0), q, k, v)
    return [mixed, *back(by)]
