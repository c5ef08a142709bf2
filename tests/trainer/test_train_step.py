"""The loss and the step: packed = unpacked, many micro-batches = one batch, donated, compiled once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.trainer import loss as loss_module
from engine.trainer.input_pipeline.batches import DataOrder, batch_at
from engine.trainer.input_pipeline.packing import pack_rows
from engine.trainer.loss import target_losses, weighted_loss
from engine.trainer.train_step import compile_train_step, init_state, make_train_step


@nnx.jit
def _losses(model: Any, batch: Any) -> jax.Array:
    return target_losses(model, batch)


def _per_token(model: Any, rows: Any, *, packing: bool) -> list[tuple[int, float]]:
    """(token, its loss) of every target, sorted."""
    packed = pack_rows(rows, 48, packing=packing, seed=0)
    batch = packed.take(range(packed.n_sequences))
    losses = np.asarray(_losses(model, batch))
    counts = batch["target_weights"].astype(bool)
    pairs = zip(batch["target_ids"][counts].tolist(), losses[counts].tolist(), strict=True)
    return sorted(pairs)


def test_packed_loss_is_unpacked_loss(micro_model: Callable[..., Any], make_rows: Callable[..., Any]) -> None:
    """Every trained token has the same loss in a packed sequence as alone, to 1e-6 of its value."""
    model, rows = micro_model(), make_rows(12)
    packed, alone = (_per_token(model, rows, packing=packing) for packing in (True, False))
    assert [token for token, _ in packed] == [token for token, _ in alone]
    np.testing.assert_allclose([loss for _, loss in packed], [loss for _, loss in alone], rtol=1e-6, atol=2e-6)


def test_loss_is_the_textbooks(micro_model: Callable[..., Any], make_rows: Callable[..., Any]) -> None:
    """Gathering hidden states before the head gives the log_softmax of all logits at the trained tokens."""
    model, rows = micro_model(), make_rows(3)
    packed = pack_rows(rows, 48, packing=False)
    batch = {name: jnp.asarray(array) for name, array in packed.take(range(len(rows))).items()}
    logits = nnx.jit(lambda model: model(batch["tokens"], positions=batch["positions"]))(model)
    log_p = np.asarray(jax.nn.log_softmax(logits, axis=-1))
    losses = np.asarray(_losses(model, batch))
    for line, row in enumerate(rows):
        expected = [-log_p[line, at - 1, row.tokens[at]] for at in range(len(row.tokens)) if row.loss_mask[at]]
        np.testing.assert_allclose(losses[line, : len(expected)], expected, rtol=1e-6)


def test_chunked_loss_is_plain_loss(
    micro_model: Callable[..., Any], make_rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits computed in chunks, the last one padded, give the same loss and gradients."""
    model = micro_model()
    packed = pack_rows(make_rows(12), 48, packing=True, seed=0)
    batch = {name: jnp.asarray(array) for name, array in packed.take(range(3)).items()}
    graphdef, state = init_state(model, _args())

    def value(params: Any) -> jax.Array:
        return weighted_loss(nnx.merge(graphdef, params), batch, jnp.float32(0.01))

    plain = jax.jit(jax.value_and_grad(value))(state["params"])
    monkeypatch.setattr(loss_module, "MAX_LOGITS", 7 * 260)
    assert (batch["target_ids"].size) % 7 != 0
    jax.clear_caches()  # the limit is read at trace time
    chunked = jax.jit(jax.value_and_grad(value))(state["params"])
    for expected, actual in zip(jax.tree.leaves(plain), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(expected, actual, rtol=1e-5, atol=1e-7)


def _args(**changes: Any) -> Any:
    from engine.protocol.train_args import TrainArgs

    known = dict.fromkeys(TrainArgs.__slots__)
    base = {
        "num_train_steps": 12, "per_device_batch_size": 8, "grad_accum_steps": 1, "optimizer": "adamw",
        "learning_rate": 1e-3, "lr_schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "adam_b1": 0.9, "adam_b2": 0.999, "adam_eps": 1e-8, "seed": 0,
    }  # fmt: skip
    return TrainArgs(**{**known, **base, **changes})


def test_micro_batches_are_one_batch(micro_model: Callable[..., Any], make_rows: Callable[..., Any]) -> None:
    """Four micro-batches with 1 to 18 trained tokens a row give loss, gradient norm and weights of one batch."""
    packed = pack_rows(make_rows(8), 48, packing=False)
    order = DataOrder(8, 8, 0)
    outcomes = []
    for parts in (1, 4):
        graphdef, state = init_state(micro_model(), _args())
        batch = {name: jnp.asarray(array) for name, array in batch_at(packed, order, 1, parts).items()}
        counts = np.asarray(batch["target_weights"]).sum(axis=(1, 2))
        assert parts == 1 or len(set(counts.tolist())) > 1  # unequal on purpose
        outcomes.append(jax.jit(make_train_step(graphdef, _args()))(state, batch))
    (one_state, one), (four_state, four) = outcomes
    for name in ("loss", "grad_norm", "tokens", "real_tokens"):
        np.testing.assert_allclose(one[name], four[name], rtol=1e-6)
    # Adam's first step divides a gradient by its own size: compare the statistics, which are plain gradients.
    for left, right in zip(
        jax.tree.leaves(one_state["opt_state"]), jax.tree.leaves(four_state["opt_state"]), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_state_is_donated_and_keeps_its_dtypes(
    micro_model: Callable[..., Any], make_rows: Callable[..., Any], optimizer: str, dtype: str
) -> None:
    """Every byte of weights and statistics is reused in place; statistics stay float32 for bfloat16 weights."""
    args = _args(optimizer=optimizer, dtype=dtype)
    graphdef, state = init_state(micro_model(dtype), args)
    packed = pack_rows(make_rows(8), 48, packing=False)
    batch = batch_at(packed, DataOrder(8, 8, 0), 1, 1)
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), state)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    step = compile_train_step(graphdef, args, state, batch)  # a donated buffer that is not used would warn, and fail
    assert step.memory_analysis().alias_size_in_bytes >= size
    old = jax.tree.leaves(state)
    state, _ = step(state, batch)
    assert all(leaf.is_deleted() for leaf in old)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), state) == before
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state["opt_state"])} <= {"float32", "int32"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state["params"])} == {dtype}


def test_a_run_compiles_its_step_once(
    make_job: Callable[..., Any], train_here: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Across epochs, checkpoints and eval losses the step is compiled exactly once, the eval exactly once."""
    job = make_job(eval_rows=5, eval_every_steps=4, num_train_steps=14)
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        train_here(job)
    compiled = [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]
    assert sum("jit(step)" in line for line in compiled) == 1
    assert sum("jit(eval_loss)" in line for line in compiled) == 1
