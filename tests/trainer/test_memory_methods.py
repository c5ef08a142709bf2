"""Remat policies, attention and loss in blocks, the update inside the backward pass: less memory, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.protocol.train_args import REMAT
from engine.trainer import loss as loss_module
from engine.trainer.loss import ComputePolicy
from engine.trainer.models import config_from_hf, create, decoder
from engine.trainer.ops.matmul import MatmulRule
from engine.trainer.train_step import accumulated_gradients, compile_train_step, init_state, make_train_step

SIZES = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.15,
}  # fmt: skip
WINDOWED = {"sliding_window": 5, "query_pre_attn_scalar": 8}
FAMILIES = {"gemma": {}, "gemma2": WINDOWED, "gemma3_text": WINDOWED}


def model_of(model_type: str, dtype: str = "float32") -> Any:
    config = config_from_hf({"model_type": model_type, **SIZES, **FAMILIES[model_type]})
    return create(config, seed=0, param_dtype=jnp.dtype(dtype), compute_dtype=jnp.dtype(dtype))


def batch_of(rows: int = 2, length: int = 24) -> dict[str, jax.Array]:
    """Two segments a row and some padding; about half of the tokens are trained."""
    draw = np.random.default_rng(0)
    tokens = draw.integers(4, 300, (1, rows, length)).astype(np.int32)
    first = length // 2 - 1
    segments = np.array([1] * first + [2] * (length - first - 3) + [0] * 3, np.int32)
    positions = np.concatenate([np.arange(first), np.arange(length - first)]).astype(np.int32)
    targets = np.arange(2, length - 4, 2, dtype=np.int32)
    wide = lambda row: np.broadcast_to(row, (1, rows, len(row))).copy()  # noqa: E731
    weights = (np.arange(len(targets)) % 3 > 0).astype(np.int32)
    batch = {
        "tokens": tokens, "segment_ids": wide(segments), "positions": wide(positions), "target_positions": wide(targets),
        "target_ids": tokens[:, :, targets + 1], "target_weights": wide(weights),
    }  # fmt: skip
    return {name: jnp.asarray(array) for name, array in batch.items()}


@pytest.fixture
def few_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head in blocks of the vocabulary although it is small, in a scan although there are few layers."""
    monkeypatch.setattr(loss_module, "MAX_LOGITS", 0)
    monkeypatch.setattr(loss_module, "even_block", lambda *_, **__: 128)
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)


@pytest.fixture
def gradients(make_args: Callable[..., Any]) -> Callable[..., Any]:
    """(loss, gradients) of a family under a compute policy."""

    def compute(model_type: str, policy: ComputePolicy) -> Any:
        graphdef, state = init_state(model_of(model_type), make_args())
        call = jax.jit(lambda params, batch: accumulated_gradients(graphdef, params, batch, jnp.float32(0.1), policy))
        return call(state["params"], batch_of())

    return compute


def close(actual: Any, expected: Any, atol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=0), actual, expected)


# Gemma 2 has all features of the others, both kinds of layers and both soft caps; it takes twice as long to compile.
@pytest.mark.parametrize(
    "model_type", ["gemma", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma2", "gemma3_text"))]
)
def test_gradients_do_not_depend_on_the_compute_policy(
    model_type: str, gradients: Callable[..., Any], few_logits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every remat policy, attention plain or in blocks, the loss plain or in blocks: equal within 1e-5."""
    policies = [ComputePolicy(remat="block", blocked=True)]
    if (
        model_type == "gemma2"
    ):  # it has both kinds of layers and both soft caps; no other difference matters to a policy
        policies += [ComputePolicy(remat=policy) for policy in REMAT]
    results = [gradients(model_type, policy) for policy in policies]
    monkeypatch.setattr(loss_module, "MAX_LOGITS", 1 << 26)
    plain = gradients(model_type, ComputePolicy())
    for result in results:
        close(result, plain, 1e-5)


def test_an_unknown_policy_is_an_error(gradients: Callable[..., Any]) -> None:
    """No silent fallback."""
    with pytest.raises(ValueError, match="remat is one of"):
        gradients("gemma", ComputePolicy(remat="some"))


@pytest.mark.parametrize(
    ("model_type", "optimizer"),
    [
        ("gemma", "adamw"),
        *(pytest.param(name, "adafactor", marks=pytest.mark.slow) for name in ("gemma2", "gemma3_text")),
    ],
)
def test_the_update_inside_the_backward_pass_is_the_same(
    model_type: str, optimizer: str, make_args: Callable[..., Any], few_logits: None
) -> None:
    """Three steps of either method end in the same weights, statistics and loss."""
    args = make_args(optimizer=optimizer, max_grad_norm=None, weight_decay=0.1)
    graphdef, state = init_state(model_of(model_type), args)
    ends = []
    for update in ("after_backward", "in_backward"):
        step, now, losses = jax.jit(make_train_step(graphdef, replace(args, update=update))), state, []
        for seed in range(3):
            batch = batch_of()
            batch["tokens"] = (batch["tokens"] + seed) % 300
            now, metrics = step(now, batch)
            losses.append(metrics["loss"])
        ends.append((now["params"], now["opt_state"], losses))
    close(*ends, atol=2e-6)


@pytest.mark.slow
def test_masters_move_inside_the_backward_pass_too(make_args: Callable[..., Any], few_logits: None) -> None:
    """bfloat16 weights are the casts of their float32 masters, which are updated as with the other method."""
    args = make_args(optimizer="adafactor", max_grad_norm=None, dtype="bfloat16", master_weights=True)
    graphdef, state = init_state(model_of("gemma", "bfloat16"), args)
    after, _ = jax.jit(make_train_step(graphdef, replace(args, update="in_backward")))(state, batch_of())
    for name, leaf in zip(sorted(after["opt_state"]["master"]), jax.tree.leaves(after["params"]), strict=True):
        assert jnp.array_equal(after["opt_state"]["master"][name].astype(jnp.bfloat16), leaf), name
    jax.tree.map(lambda a, b: None if (a != b).any() else pytest.fail("a master was not updated"),
                 after["opt_state"]["master"], state["opt_state"]["master"])  # fmt: skip


@pytest.mark.parametrize("update", ["after_backward", "in_backward"])
def test_a_non_finite_step_is_counted_and_changes_nothing(
    update: str, make_args: Callable[..., Any], few_logits: None
) -> None:
    """An infinite final gain makes loss and all gradients non-finite: weights and statistics stay, the step counts."""
    args = make_args(optimizer="adafactor", max_grad_norm=None, update=update)
    graphdef, state = init_state(model_of("gemma"), args)
    state["params"]["norm"].set_value(jnp.full_like(state["params"]["norm"][...], jnp.inf))
    after, metrics = jax.jit(make_train_step(graphdef, args))(state, batch_of())
    assert (int(metrics["skipped"]), int(after["step"]), int(after["opt_state"]["count"])) == (1, 1, 0)
    jax.tree.map(np.testing.assert_array_equal, after["params"], state["params"])
    jax.tree.map(np.testing.assert_array_equal, after["opt_state"], state["opt_state"])


def test_inside_the_backward_pass_there_is_no_full_gradient(make_args: Callable[..., Any], few_logits: None) -> None:
    """Deterministic memory: temporaries stay below the weights' size, which the other method's gradients fill."""
    args = make_args(optimizer="adafactor", max_grad_norm=None)
    config = config_from_hf({"model_type": "gemma", **SIZES, "hidden_size": 128, "intermediate_size": 512,
                             "num_hidden_layers": 12, "vocab_size": 4000})  # fmt: skip
    graphdef, state = init_state(create(config, seed=0), args)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(state["params"]))
    memory = {}
    for update in ("after_backward", "in_backward"):
        step = compile_train_step(
            graphdef, replace(args, update=update), state, batch_of(), ComputePolicy(remat="block")
        )
        memory[update] = step.memory_analysis()
    everything = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert memory["in_backward"].alias_size_in_bytes == everything
    assert memory["in_backward"].temp_size_in_bytes < 0.5 * weights
    assert memory["after_backward"].temp_size_in_bytes > 0.9 * weights


@pytest.mark.parametrize("blocks", [pytest.param(False, marks=pytest.mark.slow), True])
def test_float16_matmuls_serve_a_model_beyond_float16s_range(
    blocks: bool, make_args: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    """Activations of the MLP beyond 65504 and gradients below 1e-7: as near to float32 matmuls as bfloat16 allows."""
    if blocks:
        request.getfixturevalue("few_logits")
    results = {}
    for matmul_dtype in ("float32", "float16"):
        model = model_of("gemma", "bfloat16")
        model.layers.up[...] = 3e4 * model.layers.up[...]
        model.layers.down[...] = model.layers.down[...] / 3e4
        model.matmul = MatmulRule(matmul_dtype)
        graphdef, state = init_state(model, make_args(dtype="bfloat16"))
        call = jax.jit(
            lambda params, g=graphdef: accumulated_gradients(g, params, batch_of(), jnp.float32(1e-6), ComputePolicy())
        )
        results[matmul_dtype] = call(state["params"])
    (loss, grads), (half_loss, half_grads) = results["float32"], results["float16"]
    assert half_loss == pytest.approx(float(loss), rel=0.01)
    norms = jax.tree.map(lambda leaf: float(jnp.max(jnp.abs(leaf.astype(jnp.float32)))), grads)
    assert 0.0 < min(jax.tree.leaves(norms)) < 1e-7

    def near(expected: jax.Array, actual: jax.Array) -> None:
        expected, actual = expected.astype(jnp.float32), actual.astype(jnp.float32)
        assert float(jnp.linalg.norm(expected - actual) / jnp.linalg.norm(expected)) < 0.05

    jax.tree.map(near, grads, half_grads)
