"""Every family against transformers in PyTorch: module by module, one layer, the whole, its gradients, its drift in bf16.

The figures come from tests/fixtures/gemma_golden.npz; `make parity` asks transformers itself, on fresh weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.trainer.models import FAMILIES, decoder, family_of, layers
from engine.trainer.models.config import FULL, SLIDING
from engine.trainer.models.decoder import Decoder
from engine.trainer.weight_table import stored_rows

Draw = Callable[..., tuple[jax.Array, jax.Array]]
Make = Callable[..., Decoder]

# How far bf16 logits may lie from the f32 ones: root mean square, as a share of the f32 logits' spread. Measured, ours
# beside PyTorch's: gemma 0.005 / 0.005, gemma2 0.014 / 0.018, gemma3 0.026 / 0.027 (docs/models.md).
BF16_BOUNDS = {"gemma": 0.01, "gemma2": 0.02, "gemma3_text": 0.035}


@pytest.fixture(autouse=True)
def _layers_as_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer is compiled, not thirteen; that both ways agree is a test of its own (test_laws.py)."""
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)


def watched(golden: SimpleNamespace) -> list[int]:
    """The layers whose modules were recorded."""
    return sorted({int(name.split("/")[1]) for name in golden.modules if name.startswith("layer/")})


def layer_of(model: Decoder, index: int) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """(kind, weights) of one layer."""
    return tuple({name: array[index] for name, array in group.items()} for group in (model.kinds(), model.stacked()))  # type: ignore[return-value]


def norms(golden: SimpleNamespace) -> Iterator[tuple[str, str]]:
    """(recorded path, Hugging Face name of the weight) of every norm."""
    yield "final_norm", "model.norm.weight"
    for path in golden.modules:
        if path.endswith("norm/in") and path.startswith("layer/"):
            _, index, name, _ = path.split("/")
            inside = f"self_attn.{name}" if name in ("q_norm", "k_norm") else name
            yield path.removesuffix("/in"), f"model.layers.{index}.{inside}.weight"


def test_norms_equal_pytorchs(golden: SimpleNamespace) -> None:
    """Every norm, on the very input it had there."""
    seen = 0
    for path, stored in norms(golden):
        given, expected = golden.modules[f"{path}/in"], golden.modules[f"{path}/out"]
        ours = layers.rms_norm(jnp.asarray(given), jnp.asarray(golden.weights[stored]), golden.config["rms_norm_eps"])
        np.testing.assert_allclose(ours, expected, atol=2e-6, rtol=1e-6, err_msg=path)
        seen += 1
    assert seen == 1 + len(watched(golden)) * (
        2 if golden.kind.startswith("gemma-") else 4 + 2 * ("gemma3" in golden.kind)
    )


def test_rotary_tables_equal_pytorchs(golden: SimpleNamespace, golden_model: Make) -> None:
    """cos and sin of each kind of layer; theirs repeat each half."""
    config = golden_model().config
    ropes = dict(zip((SLIDING, FULL) if len(config.ropes()) == 2 else (FULL,), config.ropes(), strict=True))
    length = golden.tokens.shape[1]
    for kind, rope in ropes.items():
        tables = layers.rope_tables(jnp.arange(length, dtype=jnp.int32)[None, :], config.head_dim, *rope)
        for name, ours in zip(("cos", "sin"), tables, strict=True):
            theirs = golden.modules[f"rope/{kind}/{name}"]
            np.testing.assert_allclose(jnp.concatenate([ours[0], ours[0]], axis=-1), theirs, atol=1e-6, err_msg=kind)


def test_mlps_equal_pytorchs(golden: SimpleNamespace, golden_model: Make) -> None:
    """The gated MLP, on the very input it had there."""
    for index in watched(golden):
        _, weights = layer_of(golden_model(), index)
        given, expected = golden.modules[f"layer/{index}/mlp/in"], golden.modules[f"layer/{index}/mlp/out"]
        ours = layers.gated_mlp(jnp.asarray(given[0]), weights)
        np.testing.assert_allclose(ours, expected[0], atol=1e-5, rtol=1e-6)


def test_attentions_and_layers_equal_pytorchs(golden: SimpleNamespace, golden_model: Make) -> None:
    """A layer of each type on the very input it had there: what attention mixes, and what comes out."""
    model = golden_model()
    length = golden.tokens.shape[1]
    positions = jnp.arange(length, dtype=jnp.int32)[None, :]

    @jax.jit
    def run(x: jax.Array, kind: Any, weights: Any) -> tuple[jax.Array, jax.Array]:
        """(what comes out of the layer, what its attention mixed)"""
        context = model.context(positions, layers.causal_mask(None, 1, length), positions)
        seen = context.mask if context.distance is None else context.mask & (context.distance < kind["window"])

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            mixed = layers.attention(q, k, v, seen, softcap=model.config.attention_softcap).reshape(length, -1)
            return mixed, mixed

        rope = kind.get("rope", 0)
        _, mixed = model.block(x, weights, (context.cos[rope], context.sin[rope]), mix)
        return model.layer(x, kind, weights, context), mixed

    for index in watched(golden):
        given, expected = (golden.modules[f"layer/{index}/{side}"][0] for side in ("in", "out"))
        ours, mixed = run(jnp.asarray(given), *layer_of(model, index))
        np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-6)
        np.testing.assert_allclose(mixed, golden.modules[f"layer/{index}/o_proj/in"][0], atol=1e-5, rtol=1e-6)


def mean_loss(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    label = jnp.take_along_axis(logits[:, :-1], tokens[:, 1:, None], axis=2)[:, :, 0]
    return jnp.mean(jax.nn.logsumexp(logits[:, :-1], axis=-1) - label)


@pytest.fixture(scope="module")
def computed(golden: SimpleNamespace, golden_model: Make) -> SimpleNamespace:
    """Our logits for one kind, its loss and gradients where the file has them; compiled once."""
    model, tokens = golden_model(), jnp.asarray(golden.tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape)
    graph, state = nnx.split(model)

    def both(state: Any) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graph, state)(tokens, positions=positions)
        return mean_loss(logits, tokens), logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)
        if golden.loss is None:
            return SimpleNamespace(logits=jax.jit(both)(state)[1])
        (loss, logits), grads = jax.jit(jax.value_and_grad(both, has_aux=True))(state)
    stored: dict[str, Any] = {}
    for name, array in nnx.merge(graph, grads).weights().items():
        stored |= stored_rows(family_of(model.config), name, np.asarray(array))
    return SimpleNamespace(logits=logits, loss=float(loss), grads=stored)


def test_logits_equal_pytorchs(golden: SimpleNamespace, computed: SimpleNamespace) -> None:
    """transformers' model and ours give the same logits within 1e-5 in f32."""
    np.testing.assert_allclose(computed.logits, golden.logits, atol=1e-5, rtol=0)


def test_loss_and_gradients_equal_pytorchs(golden: SimpleNamespace, computed: SimpleNamespace) -> None:
    """Every weight's gradient equals PyTorch's within 1e-4, under Hugging Face's name and layout; one kind of each family."""
    if golden.loss is None:
        assert golden.grads == {}
        return
    assert computed.loss == pytest.approx(golden.loss, abs=1e-5)
    assert computed.grads.keys() == golden.grads.keys()
    for name, expected in golden.grads.items():
        np.testing.assert_allclose(computed.grads[name], expected, atol=1e-4, rtol=0, err_msg=name)


def drift(rounded: Any, exact: np.ndarray) -> float:
    """Root mean square of the difference, as a share of the exact values' spread."""
    return float(np.sqrt(np.mean(np.square(np.asarray(rounded) - exact))) / np.std(exact))


def test_bf16_drifts_within_its_bound(golden: SimpleNamespace, golden_model: Make, tokens_and_positions: Draw) -> None:
    """bf16 stays within the family's bound of f32 and within 1.5 times PyTorch's own drift, and is no f32 in disguise."""
    _, positions = tokens_and_positions(*golden.tokens.shape)
    logits = jax.jit(golden_model(jnp.bfloat16).__call__)(jnp.asarray(golden.tokens), positions=positions)
    assert logits.dtype == jnp.float32
    ours, theirs = drift(logits, golden.logits), drift(golden.bf16_logits, golden.logits)
    assert 1e-4 < ours < BF16_BOUNDS[golden.config["model_type"]]
    assert ours < 1.5 * theirs


def test_every_family_has_a_golden_entry(kinds: dict[str, dict[str, Any]], golden_kinds: set[str]) -> None:
    """A new family is told what it forgot: its entries in kinds.py, and to make the golden file again."""
    families = {FAMILIES[mapping["model_type"]].__name__ for mapping in kinds.values()}
    missing = {family.__name__ for family in FAMILIES.values()} - families
    assert not missing, f"tests/fixtures/kinds.py has no kind of {sorted(missing)}"
    assert golden_kinds == set(kinds), "tests/fixtures/kinds.py has changed: make golden"
    assert set(BF16_BOUNDS) == {mapping["model_type"] for mapping in kinds.values()}


def test_the_kinds_exercise_every_feature(kinds: dict[str, dict[str, Any]]) -> None:
    """Each thing a family can do is done by one of its kinds, so that no feature goes unheld."""
    for model_type in {mapping["model_type"] for mapping in kinds.values()}:
        own = [FAMILIES[model_type].CONFIG.from_hf(one) for one in kinds.values() if one["model_type"] == model_type]
        assert {1, 4} - {one.num_attention_heads // one.num_key_value_heads for one in own} <= (
            {1} if model_type == "gemma2" else set()
        )
        assert any(1 < one.num_key_value_heads < one.num_attention_heads for one in own)
        assert all(one.num_attention_heads * one.head_dim != one.hidden_size for one in own)
        if model_type == "gemma":
            continue
        windows = [[size for size in one.layer_windows() if size] for one in own]
        assert all(1 < size < 11 for sizes in windows for size in sizes)
        assert any(one.query_pre_attn_scalar != one.head_dim for one in own)
        changes = [sum(a != b for a, b in zip(one.layer_types, one.layer_types[1:], strict=False)) for one in own]
        assert max(changes) >= 3  # more than one period
    assert {kinds[kind].get("attn_logit_softcapping") for kind in kinds} > {None}
    assert {kinds[kind].get("final_logit_softcapping") for kind in kinds} > {None}
