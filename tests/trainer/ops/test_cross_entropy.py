"""The loss in blocks of the vocabulary against the textbook: values, gradients, dtypes, memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.trainer.ops.cross_entropy import (
    Head,
    Targets,
    even_block,
    head_forward,
    head_input_gradient,
    linear_cross_entropy,
    over_head_blocks,
    put_rows,
)


def plain(states: jax.Array, table: jax.Array, labels: jax.Array, softcap: float | None) -> jax.Array:
    """All logits at once."""
    logits = jnp.einsum("md,vd->mv", states, table.astype(states.dtype), preferred_element_type=jnp.float32)
    logits = logits if softcap is None else softcap * jnp.tanh(logits / softcap)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), labels[:, None], axis=-1)[:, 0]


def problem(tokens: int, vocab: int, width: int = 8, seed: int = 0, dtype: Any = jnp.float32) -> tuple[Any, Any, Any]:
    """(states, table, labels)."""
    draw = np.random.default_rng(seed)
    states = jnp.asarray(draw.normal(size=(tokens, width)), dtype)
    table = jnp.asarray(draw.normal(size=(vocab, width)), dtype)
    return states, table, jnp.asarray(draw.integers(0, vocab, tokens), jnp.int32)


def weighed(loss: Callable[..., jax.Array], weights: jax.Array, labels: jax.Array) -> Callable[..., Any]:
    """(losses, (states', table')) of the weighted sum, as a function of states and table."""

    def total(states: jax.Array, table: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses = loss(states, table, labels)
        return jnp.sum(losses * weights), losses

    def both(states: jax.Array, table: jax.Array) -> Any:
        grads, losses = jax.grad(total, argnums=(0, 1), has_aux=True)(states, table)
        return losses, grads

    return jax.jit(both)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    tokens=st.integers(1, 9),
    vocab=st.integers(2, 41),
    block=st.integers(1, 50),
    softcap=st.sampled_from([None, 2.0, 30.0]),
    zeros=st.lists(st.booleans(), min_size=9, max_size=9),
    seed=st.integers(0, 99),
)
def test_any_block_is_the_plain_loss(
    tokens: int, vocab: int, block: int, softcap: float | None, zeros: list[bool], seed: int
) -> None:
    """Blocks that divide the vocabulary or not, with or without a softcap: losses to 1e-6, gradients to 1e-5.

    Tokens of weight 0 have no gradient at all.
    """
    states, table, labels = problem(tokens, vocab, seed=seed)
    weights = jnp.asarray([0.0 if zero else 0.3 + index for index, zero in enumerate(zeros[:tokens])], jnp.float32)
    fused = partial(linear_cross_entropy, softcap=softcap, block=block)
    losses, grads = weighed(fused, weights, labels)(states, table)
    expected, expected_grads = weighed(partial(plain, softcap=softcap), weights, labels)(states, table)
    # 1e-6 of a loss, or of the logits whose difference it is where the loss itself is near 0
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=2e-6)
    for left, right in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5 * float(jnp.max(jnp.abs(right))) + 1e-12)
    assert not jnp.any(grads[0][weights == 0.0])


@pytest.mark.parametrize("shards", [2, 4])
def test_rows_of_several_shards_at_a_time(shards: int) -> None:
    """Viewed as [shards, V / shards, D], with a ragged last block, the loss and its gradients are the same."""
    states, table, labels = problem(7, 40)
    weights = jnp.arange(7, dtype=jnp.float32) / 7
    fused = partial(linear_cross_entropy, softcap=None, block=3 * shards, shards=shards)
    losses, grads = weighed(fused, weights, labels)(states, table)
    expected, expected_grads = weighed(partial(plain, softcap=None), weights, labels)(states, table)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for left, right in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    """Logits of thousands, the largest in the first block or in the last: finite, and the plain loss.

    A loss is the difference of two such numbers, so that float32 knows it to the last place of the largest of them.
    """
    states, table, labels = problem(4, 12)
    for order in (slice(None), slice(None, None, -1)):
        scaled = 1000.0 * table[jnp.argsort(table[:, 0])[order]]
        last_place = np.spacing(np.float32(jnp.max(jnp.abs(states @ scaled.T))))
        losses = linear_cross_entropy(states, scaled, labels, softcap=None, block=5)
        np.testing.assert_allclose(losses, plain(states, scaled, labels, None), rtol=0, atol=2 * last_place)


@pytest.mark.parametrize(
    ("states_dtype", "table_dtype"), [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")]
)
def test_gradients_have_the_dtypes_of_what_they_are_of(states_dtype: str, table_dtype: str) -> None:
    """Losses are float32; gradients are rounded once, at the end: within half a step of the float32 ones' scale."""
    states, table, labels = problem(16, 64, width=32)
    states, table = states.astype(states_dtype), (0.2 * table).astype(table_dtype)
    weights = jnp.full((16,), 1 / 4096, jnp.float32)  # the share of a token in a large step: small beside float16
    fused = partial(linear_cross_entropy, softcap=None, block=20)
    losses, grads = weighed(fused, weights, labels)(states, table)
    assert (losses.dtype, grads[0].dtype, grads[1].dtype) == (jnp.float32, states.dtype, table.dtype)
    wide = states.astype(jnp.float32), table.astype(states.dtype).astype(jnp.float32)
    expected, expected_grads = weighed(partial(plain, softcap=None), weights, labels)(*wide)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for left, right in zip(grads, expected_grads, strict=True):
        step = 2.0**-8 * float(jnp.max(jnp.abs(right)))  # one bfloat16 step of the largest
        np.testing.assert_allclose(left.astype(jnp.float32), right, atol=step)


def test_the_parts_give_the_loss() -> None:
    """The gradient of the states alone, and the table's block by block with its row numbers, are those of the full loss."""
    states, table, labels = problem(6, 22)
    weights = jnp.arange(6, dtype=jnp.float32)
    head = Head(3.0, 8)
    _, (by_states, by_table) = weighed(partial(linear_cross_entropy, softcap=3.0, block=8), weights, labels)(
        states, table
    )
    losses, log_sum = head_forward(states, table, labels, head)
    targets = Targets(states, labels, log_sum, weights)
    np.testing.assert_allclose(losses, plain(states, table, labels, 3.0), rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(head_input_gradient(targets, table, head), by_states, rtol=1e-6, atol=1e-6)
    sizes = []

    def update(first: jax.Array, by_rows: jax.Array, numbers: jax.Array, carry: Any) -> Any:
        sizes.append(by_rows.shape[1])
        seen, found = carry
        return seen.at[numbers.reshape(-1)].add(1), put_rows(found, by_rows, first, head)

    start = jnp.zeros(22, jnp.int32), jnp.zeros_like(table)
    seen, found = over_head_blocks(targets, lambda _: table, head, update, start)
    assert (set(sizes), seen.tolist()) == ({8, 6}, [1] * 22)
    np.testing.assert_allclose(found, by_table, rtol=1e-6, atol=1e-6)


def test_no_array_of_tokens_times_vocabulary() -> None:
    """Compiled, loss and gradients need the table's gradient and four blocks of logits; the plain loss needs [M, V] three times."""
    tokens, vocab, width, block = 256, 8192, 32, 512
    states, table, labels = problem(tokens, vocab, width)
    whole, one_block = tokens * vocab * 4, tokens * block * 4
    gradients = (tokens + vocab) * width * 4
    weights = jnp.ones(tokens, jnp.float32)

    def room(loss: Callable[..., jax.Array]) -> int:
        compiled = weighed(loss, weights, labels).lower(states, table).compile()  # type: ignore[attr-defined]
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert room(partial(linear_cross_entropy, softcap=30.0, block=block)) < 2 * gradients + 4 * one_block < whole
    assert room(partial(plain, softcap=30.0)) > 2 * whole


def test_blocks_are_even() -> None:
    """Never more logits or gradients than the limits, blocks of near-equal size, full registers where the limits allow it."""
    assert even_block(4096, 256_000, 8, most_logits=4096 * 12_800) == 12_800
    assert (
        even_block(4096, 256_000, 2048, shards=8) == 8 * 1280
    )  # of the 2048 rows that the limit allows, to leave none over
    assert even_block(1 << 26, 100, 8) == 1
    assert even_block(1, 256_000, 2048) == 6400  # 8192 rows' gradients would do, and leave a part of a block over
    for tokens in (1, 100, 5000):
        for vocab in (7, 1000, 262_144):
            block = even_block(tokens, vocab, 16, most_logits=1 << 20)
            assert block == vocab or block * tokens <= 1 << 20
