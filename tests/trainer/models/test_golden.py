"""Every family against transformers in PyTorch: module by module, one layer, the full model, its gradients, its drift in bf16.

The figures come from tests/fixtures/gemma_golden.npz; `make parity` asks transformers itself, on fresh weights.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.trainer.models import FAMILIES, config_from_hf, decoder, family_of
from engine.trainer.models.decoder import Decoder
from engine.trainer.weights.table import slots

Draw = Callable[..., tuple[jax.Array, jax.Array]]
Make = Callable[..., Decoder]


@pytest.fixture(autouse=True)
def _layers_as_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer is compiled, not thirteen; test_laws.py shows that loop and unrolled layers agree."""
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)


def test_modules_equal_pytorchs(golden: SimpleNamespace, golden_model: Make, compare: ModuleType) -> None:
    """Every norm, both rotary tables, the MLP, the attention and one layer of each type, each on its recorded input."""
    model = golden_model()
    seen = compare.modules(model, golden.modules)
    norms = sum(leaf.name.startswith("layers.") and leaf.name.endswith("norm") for leaf in model.TABLE.leaves)
    watched = len(set(golden.config.get("layer_types", ["all alike"])))
    each = dict.fromkeys(("mlp", "attention", "layer"), watched)
    assert seen == {"norm": 1 + norms * watched, "rope": len(model.config.ropes()), **each}


@pytest.fixture(scope="module")
def computed(golden: SimpleNamespace, golden_model: Make, compare: ModuleType) -> SimpleNamespace:
    """Our logits for one kind, its loss and gradients where the file has them; compiled once."""
    model, tokens = golden_model(), jnp.asarray(golden.tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape)
    graph, state = nnx.split(model)

    def both(state: Any) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graph, state)(tokens, positions=positions)
        return compare.mean_loss(logits, tokens), logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)
        if golden.loss is None:
            return SimpleNamespace(logits=jax.jit(both)(state)[1])
        (loss, logits), grads = jax.jit(jax.value_and_grad(both, has_aux=True))(state)
    stored, leaves = {}, nnx.merge(graph, grads).weights()
    for slot in slots(family_of(model.config), model.config):
        part = np.asarray(leaves[slot.leaf] if slot.layer is None else leaves[slot.leaf][slot.layer])
        stored[slot.stored_name] = part.T if slot.is_matrix else part
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


def test_bf16_drifts_within_its_bound(
    golden: SimpleNamespace, golden_model: Make, tokens_and_positions: Draw, compare: ModuleType, bf16_bounds: Any
) -> None:
    """bf16 stays within the family's bound of f32 and within 1.5 times PyTorch's own drift, and is not computed in f32."""
    _, positions = tokens_and_positions(*golden.tokens.shape)
    logits = jax.jit(golden_model(jnp.bfloat16).__call__)(jnp.asarray(golden.tokens), positions=positions)
    assert logits.dtype == jnp.float32
    ours, theirs = (compare.drift(given, golden.logits) for given in (logits, golden.bf16_logits))
    assert 1e-4 < ours < bf16_bounds[golden.config["model_type"]]
    assert ours < 1.5 * theirs


def test_the_file_is_of_these_kinds(golden: SimpleNamespace, kinds: dict[str, dict[str, Any]]) -> None:
    """A kind that was changed without `make golden` is found; both styles of its configuration give the same model."""
    assert config_from_hf(golden.config) == config_from_hf(kinds[golden.kind])


def test_the_kinds_exercise_every_feature(kinds: dict[str, dict[str, Any]]) -> None:
    """Every feature of a family is used by one of its kinds, so that no feature is untested."""
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
