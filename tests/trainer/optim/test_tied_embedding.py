"""The blockwise update of a tied embedding against the same update of its materialised gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.ops.cross_entropy import Head, Targets, head_forward, linear_cross_entropy
from engine.trainer.optim.rules import Rule, StepInputs, init_stats, update_slice
from engine.trainer.optim.tied_embedding import Tied, tied_embedding_update, tied_gradient

TOKENS, VOCAB, WIDTH = 24, 150, 130
RAGGED = Head(None, 32)


def _problem(vocab: int = VOCAB, width: int = WIDTH, dtype: Any = jnp.float32, head: Head = RAGGED) -> Any:
    """(tied, table, loss of the table): a model of an embedding, a fixed mixing, and the tied head."""
    draw = np.random.default_rng(0)
    table = jnp.asarray(draw.normal(size=(vocab, width)), dtype)
    tokens, labels = (jnp.asarray(draw.integers(0, vocab, TOKENS), jnp.int32) for _ in range(2))
    tokens = tokens.at[:5].set(tokens[5])  # a frequent token
    mixing = jnp.asarray(draw.normal(size=(width, width)) / width, dtype)
    weights = jnp.asarray(draw.uniform(size=TOKENS), jnp.float32)

    def states_of(embedded: jax.Array) -> jax.Array:
        return jnp.tanh(embedded @ mixing)

    def loss(table: jax.Array) -> jax.Array:
        losses = linear_cross_entropy(states_of(table[tokens]), table, labels, softcap=head.softcap, block=vocab)
        return jnp.sum(losses * weights)

    states, back = jax.vjp(states_of, table[tokens])
    _, log_sum = head_forward(states, table, labels, head)
    targets = Targets(states, labels, log_sum, weights)
    by_states = jax.grad(
        lambda states: jnp.sum(linear_cross_entropy(states, table, labels, softcap=head.softcap, block=vocab) * weights)
    )(states)
    return Tied(targets, tokens, back(by_states)[0]), table, loss


def _now(**changes: Any) -> StepInputs:
    values = {
        "updates": jnp.int32(3), "rate": jnp.float32(0.1), "scale": jnp.float32(0.7), "key": jax.random.key(5),
        "ok": jnp.asarray(True),
    }  # fmt: skip
    return StepInputs(**{**values, **changes})


def _stats(rule: Rule, shape: tuple[int, ...]) -> Any:
    """Statistics as after some updates."""
    draw = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw.uniform(0.1, 1.0, leaf.shape), jnp.float32), init_stats(rule, shape)
    )


def _both(
    rule: Rule, step_inputs: StepInputs, tied: Tied, table: jax.Array, master: Any, head: Head
) -> tuple[Any, Any]:
    """The update block by block, and that of the materialised gradient."""
    stats = _stats(rule, table.shape)
    blocks = jax.jit(
        lambda table, stats, master: tied_embedding_update(rule, step_inputs, tied, table, stats, master, head=head)
    )
    whole = jax.jit(
        lambda table, stats, master: update_slice(
            rule, step_inputs, tied_gradient(tied, table, head), stats, table, master, name="embed"
        )
    )
    return blocks(table, stats, master), whole(table, stats, master)


def _close(left: Any, right: Any) -> None:
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_the_two_shares_are_autodiffs_gradient() -> None:
    """The head's blocks plus the inputs' scatter equals the gradient through both uses of the table."""
    tied, table, loss = _problem()
    np.testing.assert_allclose(tied_gradient(tied, table, RAGGED), jax.grad(loss)(table), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", [RAGGED, Head(2.0, 60, 2)], ids=["ragged", "softcap_two_shards"])
@pytest.mark.parametrize(
    ("optimizer", "width"),
    [("adamw", WIDTH), ("adafactor", WIDTH), ("adafactor", 16)],
    ids=["adamw", "factored", "small"],
)
def test_block_by_block_is_the_full_update(
    make_args: Callable[..., Any], optimizer: str, width: int, head: Head
) -> None:
    """Weights and statistics, decay and clip included, equal the update from the full gradient to 1e-6 in float32."""
    rule = Rule.of(make_args(optimizer=optimizer, weight_decay=0.1))
    tied, table, _ = _problem(width=width, head=head)
    _close(*_both(rule, _now(), tied, table, None, head))


def test_the_clip_is_that_of_the_full_table(make_args: Callable[..., Any]) -> None:
    """An update with a root mean square above 1 is divided by it, as the first update is."""
    rule, head = Rule.of(make_args(optimizer="adafactor", weight_decay=0.0)), RAGGED
    tied, table, _ = _problem()
    step_inputs = _now(updates=jnp.int32(0), rate=jnp.float32(1.0))
    (blocks, *_), (whole, *_) = _both(rule, step_inputs, tied, table, None, head)
    moved = np.asarray(blocks - table)
    assert np.sqrt(np.mean(np.square(moved))) == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(blocks, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("with_master", [False, True])
def test_bfloat16_tables(make_args: Callable[..., Any], with_master: bool) -> None:
    """A bfloat16 table takes the same random bits in blocks as in one piece; with a master it is its cast."""
    rule, head = Rule.of(make_args(optimizer="adafactor")), RAGGED
    tied, table, _ = _problem(dtype=jnp.bfloat16)
    master = table.astype(jnp.float32) if with_master else None
    (blocks, _, moved), (whole, _, expected) = _both(rule, _now(), tied, table, master, head)
    assert blocks.dtype == jnp.bfloat16
    # float32 sums in another order may, rarely, fall on the other side of a random threshold
    assert np.mean(np.asarray(blocks != whole)) < 1e-3
    if with_master:
        np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-6)
        assert jnp.array_equal(blocks, moved.astype(jnp.bfloat16))


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_not_ok_changes_no_bit(make_args: Callable[..., Any], optimizer: str) -> None:
    """With ok False and non-finite gradients, table, master and statistics are bit for bit unchanged."""
    rule, head = Rule.of(make_args(optimizer=optimizer)), RAGGED
    tied, table, _ = _problem()
    broken = tied._replace(by_inputs=tied.by_inputs * jnp.nan)
    stats = _stats(rule, table.shape)
    move = jax.jit(lambda *old: tied_embedding_update(rule, _now(ok=jnp.asarray(False)), broken, *old, head=head))
    for left, right in zip(
        jax.tree.leaves(move(table, stats, table)), jax.tree.leaves((table, stats, table)), strict=True
    ):
        assert left.tobytes() == right.tobytes()


def test_no_gradient_of_the_full_table(make_args: Callable[..., Any]) -> None:
    """Donated, the update runs in place in the memory of some blocks: less than half of the table's gradient.

    (AdamW too, for the TPU's compiler: 0.2 GiB beside Gemma 2B's table and statistics. The CPU's copies the latter.)
    """
    vocab, width, block = 8192, 256, 512
    rule, head = Rule.of(make_args(optimizer="adafactor")), Head(None, block)
    tied, table, _ = _problem(vocab, width)
    stats = init_stats(rule, table.shape)
    step = jax.jit(lambda *old: tied_embedding_update(rule, _now(), tied, *old, None, head=head), donate_argnums=(0, 1))
    memory = step.lower(table, stats).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= table.nbytes + sum(leaf.nbytes for leaf in jax.tree.leaves(stats))
    assert memory.temp_size_in_bytes < table.nbytes / 2
